"""Reading from a client's stream until it ends, or until the server stops: an idle stream must not hold the stop up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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
