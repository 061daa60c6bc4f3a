"""The gateway's end of one channel to a child: framed messages over an asyncio transport.

Called by ``process.py``. What is sent in one turn of the event loop leaves in one write, and one read may bring
many messages; there is no task and no copy of a large payload for any of them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, cast

import msgspec

from hotset.workers import framing
from hotset.workers.framing import Message

_logger: Final = logging.getLogger(__name__)


class Channel(asyncio.Protocol, Generic[Message]):
    """Owns its socket. Owned by the event loop. Legal order: ``open``; any ``send``; ``close``, which may be called twice.

    ``lost`` is done once nothing more will come, after ``close`` too. While the child does not read, what is sent
    waits here, model by model in turn, so that a call does not wait behind the large bodies of all of another model's:
    whoever sends bounds it.
    """

    def __init__(
        self,
        channel: socket.socket,
        *,
        decode: Callable[[bytes], Message],
        on_message: Callable[[Message, bytes], None],
    ) -> None:
        """``on_message`` may raise ``WireError``, which ends the channel."""
        self._socket = channel
        self._reader = framing.FrameReader(decode)
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._pieces: list[framing.Piece] = []
        self._scheduled = False
        self._paused = False
        self._held: Final[dict[object, deque[tuple[framing.Piece, ...]]]] = {}
        """Frames that wait until the child reads on, by the model that they are for."""
        self.lost: asyncio.Future[None] = self._loop.create_future()

    async def open(self) -> None:
        await self._loop.create_unix_connection(lambda: self, sock=self._socket)

    def send(self, message: msgspec.Struct, payload: framing.Piece = b"") -> None:
        """Queue a frame; it leaves in the next turn of the loop. After the end it goes nowhere.

        Raises:
            WireError: it is too large.
        """
        if self._paused:
            self._hold(message, payload)
            return
        self._pieces.append(framing.frame_head(message, len(payload)))
        if payload:
            self._pieces.append(payload)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Drop the connection and what was not sent."""
        self._pieces.clear()
        self._held.clear()
        if self._transport is not None:
            self._transport.abort()
        elif not self.lost.done():
            self._socket.close()
            self.lost.set_result(None)

    def share(self, message: msgspec.Struct, files: Sequence[int]) -> None:
        """Send a short frame and files with it, at once. Legal only before ``open``.

        Raises:
            OSError: the child is gone.
        """
        socket.send_fds(self._socket, [framing.frame_head(message)], files)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except framing.WireError:
            _logger.exception("a child sent what is no frame")
            self.close()
            return
        try:
            for message, payload in frames:
                self._on_message(message, payload)
        except framing.WireError as error:
            # As text: a record that kept the traceback would keep the memory that the child shares.
            _logger.error("a child sent what does not fit and is ended: %s", str(error))  # noqa: TRY400
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # how the child ended says more
        self._transport = None
        self._pieces.clear()
        self._held.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()
        while self._held and not self._paused and self._transport is not None:
            self._transport.writelines(self._next_frame())  # which pauses us once it has enough

    def _hold(self, message: msgspec.Struct, payload: framing.Piece) -> None:
        if self._transport is None:
            return
        head = framing.frame_head(message, len(payload))
        frame = (head, payload) if payload else (head,)
        self._held.setdefault(getattr(message, "handle", None), deque()).append(frame)

    def _next_frame(self) -> tuple[framing.Piece, ...]:
        """Return the first frame of the model whose turn it is; then it is the others' turn."""
        model = next(iter(self._held))
        frames = self._held.pop(model)
        frame = frames.popleft()
        if frames:
            self._held[model] = frames
        return frame

    def _flush(self) -> None:
        self._scheduled = False
        if self._paused or self._transport is None:
            return
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._transport.writelines(framing.joined(pieces))
