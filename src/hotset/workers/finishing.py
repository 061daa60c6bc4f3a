"""Completes what a predict thread left unfinished: awaits coroutines, and sends streams as their parts are made.

Called by the predict threads, and with ``taken`` and ``stop`` by whoever hears from the gateway. Coroutines and
asynchronous generators run on the host's event loop, all others in threads of their own; a predict thread waits for none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from hotset.errors import ErrorKind, HotsetError, UnavailableError
from hotset.stream import Stream
from hotset.workers.answers import Answered, Begun, Outcome
from hotset.workers.cutting import Cutter
from hotset.workers.host import Host
from hotset.workers.question import failure_of
from hotset.workers.streamthreads import StreamThreads
from hotset.workers.unfinished import Unfinished, stream_of
from hotset.workers.window import LoopWindow, ThreadWindow, Window

_logger: Final = logging.getLogger(__name__)

T = TypeVar("T")


class Finisher:
    """Thread-safe. Any ``take``, ``taken`` and ``stop``; then ``close``."""

    def __init__(
        self,
        host: Host,
        send: Callable[[list[Answered]], None],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._send = send
        self._now = now
        self._threads = StreamThreads()
        self._windows: dict[int, Window] = {}
        self._soon: list[Answered] = []

    def take(self, number: int, work: Unfinished) -> None:
        """Complete it, under the number of its call."""
        try:
            self._begin(number, work, work.work)
        except RuntimeError as error:  # no thread can be started, or the worker was closed
            what = work.work.parts if isinstance(work.work, Stream) else work.work
            close = getattr(what, "close", None)
            if callable(close):
                close()
            self._tell(number, UnavailableError(f"the answer could not be completed: {error}"))
            self._host.finished(work)

    def taken(self, number: int, count: int) -> None:
        """The client has taken so many parts of it."""
        window = self._windows.get(number)
        if window is not None:
            window.give(count)

    def stop(self, number: int) -> None:
        """Nobody wants any more of it."""
        window = self._windows.get(number)
        if window is not None:
            window.stop()

    def close(self, limit_s: float) -> bool:
        """Stop everything; False if something has not ended after ``limit_s``. May be called again, to wait longer."""
        end = self._now() + limit_s
        for window in tuple(self._windows.values()):
            window.stop()
        is_over = self._host.loop.close(limit_s)
        return self._threads.join(max(0.0, end - self._now()), self._now) and is_over

    def _begin(self, number: int, work: Unfinished, what: Awaitable[Any] | Stream) -> None:
        if not isinstance(what, Stream):
            self._host.loop.start(self._await(number, work, what))
        elif isinstance(what.parts, AsyncIterable):
            self._host.loop.start(self._send_soon(number, work, what, what.parts))
        else:
            self._threads.run(partial(self._send_all, number, work, what, what.parts))

    # Coroutines

    async def _await(self, number: int, work: Unfinished, what: Awaitable[Any]) -> None:
        outcome: Outcome
        began_s = self._now()
        try:
            result = await self._in_time(work, what)
            stream = stream_of(result, work.codec)
            if stream is not None:
                self._begin(number, work, stream)
                return
            outcome = self._host.packed(work.call, work.codec.encode_result(result, work.asked, work.meta))
            work.held.executed.alone(self._now() - began_s)
        except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is the call's own failure
            outcome = _failure(work, error)
        self._tell_soon(number, outcome)
        self._host.finished(work)

    async def _in_time(self, work: Unfinished, what: Awaitable[T]) -> T:
        """Await it until the call's deadline, then cancel it."""
        try:
            async with asyncio.timeout(work.call.deadline_s - self._now()) as limit:
                return await what
        except TimeoutError as error:
            if limit.expired():
                raise _too_late() from error
            raise

    # Streams

    async def _send_soon(
        self, number: int, work: Unfinished, stream: Stream, parts: AsyncIterable[Any]
    ) -> None:
        window = self._windows[number] = LoopWindow()
        cutter, source, began_s = Cutter(work, stream), None, self._now()
        try:
            source = aiter(parts)
            with suppress(StopAsyncIteration):
                part = await self._in_time(work, anext(source))
                while True:
                    for step in cutter.cut(part):
                        if not isinstance(step, Begun):
                            await window.take()
                        self._tell_soon(number, step)
                    part = await anext(source)
            work.held.executed.alone(self._now() - began_s)
            self._tell_soon(number, cutter.end())
        except BaseException as error:  # noqa: BLE001 - as above
            if not window.is_stopped:
                self._tell_soon(number, _failure(work, error))
        finally:
            window.end()
            del self._windows[number]
            await self._close_soon(work, source)
            self._host.finished(work)

    async def _close_soon(self, work: Unfinished, source: Any) -> None:
        close = getattr(source, "aclose", None)
        try:
            if callable(close):
                await close()
        except BaseException:
            _logger.exception("the stream of %s raised when it was closed", work.held)

    def _send_all(self, number: int, work: Unfinished, stream: Stream, parts: Iterable[Any]) -> None:
        window = self._windows[number] = ThreadWindow()
        cutter, began_s = Cutter(work, stream), self._now()
        try:
            if work.call.deadline_s <= self._now():
                raise _too_late()
            for part in parts:
                for step in cutter.cut(part):
                    if not isinstance(step, Begun) and not window.take():
                        return
                    self._tell(number, step)
            work.held.executed.alone(self._now() - began_s)
            self._tell(number, cutter.end())
        except BaseException as error:  # noqa: BLE001 - as above
            self._tell(number, failure_of(work.held, error))
        finally:
            del self._windows[number]
            self._close(work, parts)
            self._host.finished(work)

    def _close(self, work: Unfinished, parts: Any) -> None:
        close = getattr(parts, "close", None)
        try:
            if callable(close):
                close()
        except BaseException:
            _logger.exception("the stream of %s raised when it was closed", work.held)

    def _tell_soon(self, number: int, outcome: Outcome) -> None:
        """On the loop: what is said in one turn of it is sent at once."""
        if not self._soon:
            asyncio.get_running_loop().call_soon(self._flush)
        self._soon.append(Answered(number, outcome))

    def _flush(self) -> None:
        answers, self._soon = self._soon, []
        with suppress(OSError):  # as below
            self._send(answers)

    def _tell(self, number: int, outcome: Outcome) -> None:
        with suppress(OSError):  # the other end is gone: there is nobody left to answer
            self._send([Answered(number, outcome)])


def _failure(work: Unfinished, error: BaseException) -> HotsetError:
    """Return why a coroutine has no result."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        return UnavailableError("the worker is stopping")
    return failure_of(work.held, error)


def _too_late() -> UnavailableError:
    return UnavailableError("the prediction went on past its deadline", kind=ErrorKind.DEADLINE)
