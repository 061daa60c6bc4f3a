"""What a worker's threads are at, as another process sees it."""

from __future__ import annotations

import os

import pytest

from hotset.workers.board import IDLE, LOADS, Board, Running, shared_board, stuck_since, too_many_stuck


def test_it_tells_what_each_thread_is_at() -> None:
    board = Board.of_this_process(3)
    assert board.running() == []
    place = board.place(1)
    place[1] = 12.5
    place[0] = 7
    assert board.running() == [Running(7, 12.5, is_load=False)]
    place[0] = IDLE
    assert board.running() == []


def test_the_handle_of_a_handler_counts_too() -> None:
    board = Board.of_this_process(1)
    board.place(0)[0] = 0
    assert [at.handle for at in board.running()] == [0]


def test_loads_have_places_of_their_own_as_long_as_there_are_any() -> None:
    board = Board.of_this_process(1)
    now = iter(range(1000)).__next__
    loads = [board.loading(handle, now=now) for handle in range(1, LOADS + 2)]
    for load in loads:
        load.__enter__()
    assert {at.handle for at in board.running()} == set(range(1, LOADS + 1))
    assert all(at.is_load for at in board.running())
    for load in loads:
        load.__exit__(None, None, None)
    assert board.running() == []
    with board.loading(5, now=now):
        assert [at.handle for at in board.running()] == [5]


def test_a_load_that_fails_is_over() -> None:
    board = Board.of_this_process(1)
    with pytest.raises(ValueError, match="no"), board.loading(5, now=lambda: 0.0):
        raise ValueError("no")
    assert board.running() == []


def test_another_process_writes_it_and_its_end_changes_nothing() -> None:
    with shared_board(2) as (board, file):
        pid = os.fork()
        if pid == 0:
            place = Board.mapped(file, 2).place(1)
            place[1], place[0] = 1.0, 9
            os._exit(0)
        os.waitpid(pid, 0)
    assert board.running() == [Running(9, 1.0, is_load=False)]


def test_stuck_is_what_a_predict_thread_does_for_too_long() -> None:
    running = [Running(1, 10.0, False), Running(2, 20.0, False), Running(3, 5.0, True)]
    assert stuck_since(running, 9.9) == []
    assert stuck_since(running, 10.0) == [1]
    assert stuck_since(running, 30.0) == [1, 2]


@pytest.mark.parametrize(("threads", "most"), [(1, 1), (2, 1), (3, 2), (4, 2), (8, 4)])
def test_half_of_the_threads_are_too_many(threads: int, most: int) -> None:
    assert too_many_stuck(threads) == most
