from __future__ import annotations

import threading
import time
from functools import partial

from hotset.workers.answers import WINDOW
from hotset.workers.streamthreads import StreamThreads
from hotset.workers.window import ThreadWindow

LIMIT_S = 20.0


def test_no_more_threads_than_allowed_and_everything_has_its_turn() -> None:
    threads = StreamThreads(2)
    go, begun = threading.Event(), threading.Semaphore(0)
    seen: list[int] = []
    running: list[int] = []

    def work(number: int) -> None:
        running.append(number)
        begun.release()
        assert go.wait(LIMIT_S)
        seen.append(number)

    for number in range(5):
        threads.run(partial(work, number))
    assert begun.acquire(timeout=LIMIT_S)
    assert begun.acquire(timeout=LIMIT_S)
    assert sorted(running) == [0, 1]
    assert not threads.join(0.0, time.monotonic)
    go.set()
    assert threads.join(LIMIT_S, time.monotonic)
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_threads_end_and_new_work_gets_new_ones() -> None:
    threads = StreamThreads(1)
    for _ in range(3):
        done = threading.Event()
        threads.run(done.set)
        assert done.wait(LIMIT_S)
        assert threads.join(LIMIT_S, time.monotonic)


def test_a_window_has_room_until_it_is_full_and_again_when_parts_were_taken() -> None:
    window = ThreadWindow()
    assert all(window.take() for _ in range(WINDOW))
    taken = threading.Event()

    def wait() -> None:
        assert window.take()
        taken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not taken.is_set()
    window.give(1)
    assert taken.wait(LIMIT_S)
    thread.join()


def test_a_window_that_is_stopped_has_no_room_and_lets_go_who_waits() -> None:
    window = ThreadWindow()
    for _ in range(WINDOW):
        window.take()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(window.take()))
    thread.start()
    window.stop()
    thread.join(LIMIT_S)
    assert found == [False]
    assert not window.take()
    assert window.is_stopped
