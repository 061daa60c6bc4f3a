"""Time limits on one timer: who is told, who is not, and what a cancelled task sees."""

from __future__ import annotations

import asyncio

import pytest

from hotset.limits import Limits, Waits, loop_time_s


async def test_a_wait_within_its_limit_goes_on_as_if_there_was_none() -> None:
    limits = Limits()
    with limits.within(60.0):
        await asyncio.sleep(0)
    assert len(limits) == 0
    limits.close()


async def test_a_wait_past_its_limit_is_a_timeout_and_the_task_is_not_cancelled() -> None:
    limits = Limits()
    with pytest.raises(TimeoutError), limits.within(0.01):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    assert len(limits) == 0


async def test_a_shorter_limit_is_not_kept_waiting_by_a_longer_one() -> None:
    limits = Limits()
    with pytest.raises(TimeoutError), limits.within(600.0), limits.within(0.01):
        await asyncio.Event().wait()
    limits.close()


async def test_whoever_cancels_is_told_that_it_was_cancelled() -> None:
    limits = Limits()

    async def work() -> None:
        with limits.within(60.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(limits) == 0
    limits.close()


async def test_an_error_of_the_work_is_its_own() -> None:
    limits = Limits()
    with pytest.raises(ValueError, match="no"), limits.within(60.0):
        raise ValueError("no")
    limits.close()


async def test_each_wait_is_told_once_and_what_was_dropped_is_not() -> None:
    late: list[tuple[str, int]] = []
    waits: Waits[str, int] = Waits(lambda key, value: late.append((key, value)))
    now_s = loop_time_s()
    waits.add("dropped", now_s, 1)
    waits.add("first", now_s + 0.01, 2)
    waits.add("second", now_s + 0.02, 3)
    waits.add("never", float("inf"), 4)
    waits.drop("dropped")
    async with asyncio.timeout(10):
        while len(late) < 2:
            await asyncio.sleep(0.005)
    assert late == [("first", 2), ("second", 3)]
    assert len(waits) == 1
    waits.close()
    assert len(waits) == 0


async def test_who_is_late_may_add_another() -> None:
    late: list[int] = []

    def again(key: int, _value: None) -> None:
        late.append(key)
        if key < 3:
            waits.add(key + 1, loop_time_s(), None)

    waits: Waits[int, None] = Waits(again)
    waits.add(1, loop_time_s(), None)
    async with asyncio.timeout(10):
        while len(late) < 3:
            await asyncio.sleep(0.005)
    assert late == [1, 2, 3]
    assert len(waits) == 0
