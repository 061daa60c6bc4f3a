"""A streamed answer on its way to its client: what a connection writes bit by bit, where others are written at once.

``connection`` makes them of what the data plane gives, and starts each in its turn. The client sets the pace: nothing is
asked for while what was written before still waits to be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from hotset.api.errors import error_reply
from hotset.api.http1 import LAST_CHUNK, chunk
from hotset.api.predictions import error_event
from hotset.errors import HotsetError, UnavailableError
from hotset.payload import Streamed


class Sink(Protocol):
    """Where it is written to: a transport."""

    def write(self, data: bytes) -> None: ...


class Outflow:
    """Owned by its connection and the event loop. Legal order: ``start`` once, or not at all; ``drop`` at any time."""

    __slots__ = ("_encoded", "_is_chunked", "_task", "_transport", "head", "keep_alive")

    def __init__(self, head: bytes, encoded: Streamed, *, is_chunked: bool, keep_alive: bool) -> None:
        """``head`` is what goes before the first part. Without ``is_chunked`` the connection's end is the answer's."""
        self.head: Final = head
        self.keep_alive: Final = keep_alive
        self._encoded: Final = encoded
        self._is_chunked: Final = is_chunked
        self._transport: Sink | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def last(self) -> bytes:
        """What tells the client that it has all."""
        return LAST_CHUNK if self._is_chunked else b""

    @property
    def is_chunked(self) -> bool:
        return self._is_chunked

    def start(
        self, transport: Sink, *, drain: Callable[[], Awaitable[None]], done: Callable[[bool], None]
    ) -> None:
        """Write it all. ``done`` is told whether it is whole; it is not called after ``drop``."""
        self._transport = transport
        transport.write(self.head + self._part(self._encoded.body))
        self._task = asyncio.get_running_loop().create_task(
            self._run(transport, drain, done), name="stream to a client"
        )

    def drop(self) -> None:
        """Its client has gone."""
        self._encoded.rest.close()
        if self._task is not None:
            self._task.cancel()

    def cut_off(self) -> None:
        """Tell the client, as far as this answer can, that it is not whole, and drop it."""
        if self._transport is not None:
            error = UnavailableError("the server is shutting down and waits no longer")
            self._write_failure(self._transport, error)
        self.drop()

    async def _run(
        self, transport: Sink, drain: Callable[[], Awaitable[None]], done: Callable[[bool], None]
    ) -> None:
        is_whole = False
        try:
            await drain()
            async for part in self._encoded.rest:
                transport.write(self._part(part))
                await drain()
            is_whole = True
        except HotsetError as error:
            self._write_failure(transport, error)
        except Exception as error:  # noqa: BLE001 - the last border: it is logged, and the answer breaks off
            error_reply(error)
        finally:
            self._encoded.rest.close()
        self._task = None
        done(is_whole)

    def _part(self, part: bytes | memoryview) -> bytes:
        return chunk(part) if self._is_chunked else bytes(part)

    def _write_failure(self, transport: Sink, error: HotsetError) -> None:
        event = error_event(self._encoded.content_type, error)
        if event:
            transport.write(self._part(event))
