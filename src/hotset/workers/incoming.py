"""Answers in parts on their way to the gateway: the parts that have come, and the words that go back to who makes them.

Either kind of worker has one ``IncomingStreams``. A ``Rest`` of it is iterated by whoever sends it to the client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Self

from hotset.errors import HotsetError
from hotset.payload import Encoded, Streamed
from hotset.workers.answers import WINDOW

_TELL: Final = WINDOW // 2
"""Taken parts are told of so many at once: the maker always has room for as many more."""


class IncomingStream:
    """One answer's parts. Owned by the event loop; implements ``Rest``."""

    __slots__ = ("_error", "_is_over", "_number", "_parts", "_streams", "_untold", "_waiter")

    def __init__(self, number: int, streams: IncomingStreams) -> None:
        self._number = number
        self._streams = streams
        self._parts: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._untold = 0
        self._is_over = False
        self._error: HotsetError | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self._is_over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        part = self._parts.popleft()
        if not self._is_over:
            self._untold += 1
            if self._untold == _TELL:
                self._untold = 0
                self._streams.taken(self._number, _TELL)
        return part

    def close(self) -> None:
        self._parts.clear()
        if not self._is_over:
            self._is_over = True
            self._streams.drop(self._number)
            self._wake()

    def add(self, part: bytes) -> None:
        """One more part has come."""
        self._parts.append(part)
        self._wake()

    def end(self, error: HotsetError | None) -> None:
        """No more parts will come; those that have are still given out, before the error."""
        self._is_over = True
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class IncomingStreams:
    """Those of one worker, by number. Owned by the event loop. ``begin`` one; any ``part``; ``end``. ``close`` ends all."""

    def __init__(self, *, taken: Callable[[int, int], None], stop: Callable[[int], None]) -> None:
        """``taken`` and ``stop`` tell the maker: so many parts of a number were taken; nobody wants any more of it."""
        self.taken: Final = taken
        self._stop = stop
        self._streams: dict[int, IncomingStream] = {}

    def begin(self, number: int, first: Encoded, answer: asyncio.Future[Any] | None) -> None:
        """Give an answer that has begun to who waits for it; where nobody does any more, its maker is told."""
        if answer is None or answer.done():
            self._stop(number)
            return
        stream = self._streams[number] = IncomingStream(number, self)
        answer.set_result(Streamed(first.body, first.content_type, first.headers, rest=stream))

    def part(self, number: int, body: bytes) -> None:
        stream = self._streams.get(number)
        if stream is not None:  # else nobody wants it
            stream.add(body)

    def end(self, number: int, error: HotsetError | None = None) -> bool:
        """It has ended, or broken off; False if there is none of that number."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.end(error)
        return stream is not None

    def drop(self, number: int) -> None:
        """Nobody wants any more of it."""
        if self._streams.pop(number, None) is not None:
            self._stop(number)

    def close(self, error: Callable[[], HotsetError]) -> None:
        """Nothing more will come; ``error`` says why, to each."""
        for number in tuple(self._streams):
            self.end(number, error())
