"""The two directions of a client's stream. It is read until it ends, or until the server stops: an idle stream must not hold
the stop up. And it is written to by turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from grpc import aio


class Incoming:
    """The messages that a client still sends. Owned by one RPC. Made by ``incoming``; ``next`` until it is None."""

    def __init__(self, context: Any, stopping: asyncio.Task[Any]) -> None:
        self._context: Final = context
        self._stopping: Final = stopping
        self._reading: asyncio.Task[Any] | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether no more is read because the server stops."""
        return self._stopping.done()

    async def next(self) -> bytes | None:
        """Return the next message, or None when no more will come, or none should."""
        if self._stopping.done():
            return None
        self._reading = reading = asyncio.ensure_future(self._context.read())
        await asyncio.wait((reading, self._stopping), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            return None
        self._reading = None
        message = reading.result()
        return None if message is aio.EOF else message

    def close(self) -> None:
        for task in (self._reading, self._stopping):
            if task is not None:
                task.cancel()


@asynccontextmanager
async def incoming(context: Any, stop: asyncio.Event) -> AsyncIterator[Incoming]:
    """Yield what comes on a stream until ``stop`` is set."""
    messages = Incoming(context, asyncio.create_task(stop.wait(), name="gRPC stream waits for the stop"))
    try:
        yield messages
    finally:
        messages.close()


class Turns:
    """Who may write: one after the other at first, and later whoever has something. Owned by one RPC; any ``next``."""

    __slots__ = ("_last", "_write", "_writing")

    def __init__(self, write: Callable[[bytes], Awaitable[Any]]) -> None:
        """``write`` returns when the client takes more."""
        self._write: Final = write
        self._writing: Final = asyncio.Lock()
        self._last = asyncio.Event()
        self._last.set()

    def next(self) -> Turn:
        """Return the turn of the next in line."""
        before, self._last = self._last, asyncio.Event()
        return Turn(before, self._last, self._written)

    async def _written(self, message: bytes) -> None:
        async with self._writing:
            await self._write(message)


class Turn:
    """The place of one answer in the line. Owned by whoever writes it: any ``write``, then ``end``."""

    __slots__ = ("_before", "_has_come", "_write")

    def __init__(
        self, before: asyncio.Event, has_come: asyncio.Event, write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._before: Final = before
        self._has_come: Final = has_come
        self._write: Final = write

    async def write(self, message: bytes) -> None:
        """Write a message, the first one when all before have written theirs."""
        await self.end()
        await self._write(message)

    async def end(self) -> None:
        """Let the next in line begin, once this one's turn has come; it may write on."""
        if not self._has_come.is_set():
            await self._before.wait()
            self._has_come.set()
