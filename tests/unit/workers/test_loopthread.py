from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from hotset.workers.loopthread import LoopThread

LIMIT_S = 20.0


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def forever(begun: threading.Event, ended: threading.Event) -> None:
    try:
        begun.set()
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)  # what is cancelled may still clean up
        ended.set()


def test_coroutines_of_any_thread_run_on_one_loop_in_a_thread_of_its_own() -> None:
    loop = LoopThread()
    assert [loop.run(answer(1)), loop.run(answer(2))] == [1, 2]

    async def where() -> str:
        return threading.current_thread().name

    assert loop.run(where()) == "hotset-async"
    assert loop.close(LIMIT_S)


def test_close_cancels_what_runs_and_waits_for_it() -> None:
    loop, begun, ended = LoopThread(), threading.Event(), threading.Event()
    loop.start(forever(begun, ended))
    assert begun.wait(LIMIT_S)
    assert loop.close(LIMIT_S)
    assert ended.is_set()
    assert loop.close(LIMIT_S)  # twice is fine


def test_what_comes_after_the_end_is_closed_and_said_to_be_late() -> None:
    loop, event = LoopThread(), threading.Event()
    assert loop.close(LIMIT_S)  # it never ran
    for run in (loop.start, loop.run):
        with pytest.raises(RuntimeError, match="this worker was closed"):
            run(forever(event, event))
    assert not event.is_set()


def test_one_that_does_not_end_is_not_waited_for_beyond_the_limit() -> None:
    loop, begun, go_on = LoopThread(), threading.Event(), threading.Event()

    async def stubborn() -> None:
        begun.set()
        go_on.wait(LIMIT_S)

    loop.start(stubborn())
    assert begun.wait(LIMIT_S)
    assert not loop.close(0.0)
    go_on.set()
    assert loop.close(LIMIT_S)


def test_threads_that_a_coroutine_asked_for_end_with_it() -> None:
    loop = LoopThread()

    async def in_thread() -> int:
        return await asyncio.to_thread(lambda: 7)

    assert loop.run(in_thread()) == 7
    assert loop.close(LIMIT_S)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]


async def left_open(may_end: threading.Event, opened: list[object]) -> None:
    """Leave a generator behind, whose end takes as long as it is told to."""

    async def parts() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            while not may_end.is_set():
                await asyncio.sleep(0)

    opened.append(parts())
    await anext(opened[0])  # type: ignore[call-overload]


@pytest.mark.parametrize("again", [False, True])
def test_the_loop_is_stopped_once_whenever_its_last_task_ends(
    again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a task that ended, or a second ``close``, in the middle of ``close`` had it stopped once more, while it closed
    generators, and those stayed open."""
    it, begun, go = LoopThread(), threading.Event(), threading.Event()
    told, opened = threading.Event(), list[object]()
    it.run(left_open(told, opened))

    async def last() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    loop = it.run(last())

    async def ends() -> None:
        begun.set()
        go.wait(LIMIT_S)

    it.start(ends())
    assert begun.wait(LIMIT_S)
    tell = loop.call_soon_threadsafe

    def late(step: Callable[[], object]) -> asyncio.Handle:
        """The task has ended, and whoever waits for that has heard of it, before the loop is told that it is closed."""
        go.set()
        heard = threading.Event()
        tell(lambda: loop.call_soon(loop.call_soon, heard.set))
        assert heard.wait(LIMIT_S)
        handle = tell(step)
        if again:
            tell(step)
        idle = threading.Event()
        tell(lambda: loop.call_soon(loop.call_soon, idle.set))
        assert idle.wait(LIMIT_S)
        told.set()
        return handle

    monkeypatch.setattr(loop, "call_soon_threadsafe", late)
    assert it.close(LIMIT_S)
    assert loop.is_closed()
