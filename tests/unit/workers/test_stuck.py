"""Which predict threads of a child count as stuck, and when somebody looks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hotset.testing import ManualClock
from hotset.workers.board import IDLE, Board
from hotset.workers.stuck import StuckThreads
from waiting import until

LIMIT_S = 60.0


class Bench:
    def __init__(self, threads: int, limit_s: float = LIMIT_S) -> None:
        self.clock = ManualClock()
        self.told: list[tuple[str, Sequence[int]]] = []
        self.board = Board.of_this_process(threads)
        self.stuck = StuckThreads(
            threads,
            limit_s=limit_s,
            on_too_many=lambda reason, handles: self.told.append((reason, handles)),
            now=self.clock.monotonic,
        )
        self.stuck.board = self.board

    def begin(self, thread: int, handle: int) -> None:
        place = self.board.place(thread)
        place[1], place[0] = self.clock.monotonic(), handle

    def end(self, thread: int) -> None:
        self.board.place(thread)[0] = IDLE


def test_a_thread_is_stuck_once_it_was_at_the_same_for_so_long() -> None:
    bench = Bench(4)
    bench.begin(0, 7)
    bench.begin(1, 8)
    bench.clock.advance(LIMIT_S - 1)
    bench.begin(1, 8)
    assert list(bench.stuck.handles()) == []
    bench.clock.advance(1)
    assert list(bench.stuck.handles()) == [7]


@pytest.mark.parametrize(("threads", "is_told"), [(1, True), (2, True), (3, False)])
def test_half_of_the_threads_are_too_many(threads: int, is_told: bool) -> None:
    bench = Bench(threads)
    bench.begin(0, 7)
    bench.clock.advance(LIMIT_S)
    bench.stuck.look()
    reason = f"1 of its {threads} predict threads did not come back within 60 s"
    assert bench.told == ([(reason, [7])] if is_told else [])


def test_a_load_may_take_as_long_as_it_takes() -> None:
    bench = Bench(1)
    with bench.board.loading(7, now=bench.clock.monotonic):
        bench.clock.advance(2 * LIMIT_S)
        bench.stuck.look()
        bench.stuck.one_is_late()
        assert list(bench.stuck.handles()) == bench.told == []


async def test_who_is_late_is_looked_for_when_its_thread_is_late_enough() -> None:
    bench = Bench(1, limit_s=0.001)
    bench.begin(0, 7)
    bench.clock.advance(1)
    bench.stuck.one_is_late()
    bench.stuck.one_is_late()
    await until(lambda: bench.told)
    assert len(bench.told) == 1


@pytest.mark.parametrize("end", ["rest", "close"])
async def test_nobody_looks_any_more_when_nobody_waits(end: str) -> None:
    bench = Bench(1, limit_s=0.001)
    bench.begin(0, 7)
    bench.clock.advance(1)
    bench.stuck.one_is_late()
    getattr(bench.stuck, end)()
    looked = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(
        0.03, looked.set_result, None
    )  # behind where the look would have been
    await looked
    assert bench.told == []


def test_what_it_was_at_is_known_at_the_end_and_nothing_is_looked_at_after() -> None:
    bench = Bench(3)
    bench.begin(0, 7)
    bench.begin(2, 9)
    assert bench.stuck.close() == {7, 9}
    bench.clock.advance(LIMIT_S)
    bench.stuck.look()
    bench.stuck.one_is_late()
    assert (bench.told, bench.stuck.handles(), bench.stuck.close()) == ([], (), frozenset())


def test_without_a_limit_none_is_ever_stuck() -> None:
    bench = Bench(1, limit_s=float("inf"))
    bench.begin(0, 7)
    bench.clock.advance(1e9)
    bench.stuck.one_is_late()
    bench.stuck.look()
    assert bench.told == []
