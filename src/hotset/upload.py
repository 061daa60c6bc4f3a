"""The rest of a large body, received where it is to be: from the socket into shared memory, past parser and heap.

``connection.py`` puts it in its own place on the transport once a body of known length has its segment, and takes the
transport back when that is full. Measured for 100 MB: a fifth of the processor time of the way through the parser; and
the event loop, which reads up to 32 times in a turn, is held for 2 ms instead of 25.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from hotset.api.body import BodySink

READ_BYTES: Final = 1 << 16
"""Received at a time. More is hardly cheaper, and 32 times as much is one turn of the loop."""

LEAST_UPLOAD_BYTES: Final = 1 << 17
"""Less than this is not worth the change."""


class Upload(asyncio.BufferedProtocol):
    """Owned by the event loop. It reads what is missing and not a byte more, then calls ``on_whole``, once.

    All else that the transport says is for ``owner``, the protocol that will have it back. Where the body is given up
    meanwhile (it took too long), what comes is dropped: its owner closes the connection.
    """

    def __init__(self, sink: BodySink, owner: asyncio.Protocol, *, on_whole: Callable[[], None]) -> None:
        self._sink = sink
        self._owner = owner
        self._on_whole = on_whole
        self._dropped: bytearray | None = None

    def get_buffer(self, sizehint: int) -> memoryview | bytearray:
        del sizehint
        if self._sink.missing:
            return self._sink.buffer()[:READ_BYTES]
        self._dropped = bytearray(READ_BYTES)
        return self._dropped

    def buffer_updated(self, nbytes: int) -> None:
        if self._dropped is not None:
            return
        self._sink.filled(nbytes)
        if not self._sink.missing:
            self._on_whole()  # and the transport may refer to this object until it gets another of its kind

    def eof_received(self) -> bool | None:
        return self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        self._owner.resume_writing()
