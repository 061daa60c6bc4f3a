"""How messages go over a stream: frames of a small msgpack header and raw payload bytes.

A frame is two little-endian 32-bit lengths, the header, the payload. Both ends of both channels of a child are made of
this; what the messages say is for ``wire.py``. Nothing here knows a socket.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

MAX_HEADER_BYTES: Final = 1 << 26
MAX_PAYLOAD_BYTES: Final = (1 << 32) - 1
RECEIVE_BYTES: Final = 1 << 16
_LENGTHS: Final = struct.Struct("<II")
_encode: Final = msgspec.msgpack.Encoder().encode

Message = TypeVar("Message")

Piece: TypeAlias = bytes | memoryview
"""What is written: a head, or a payload as whoever made it left it."""


class WireError(ValueError):
    """A frame that cannot be sent, or bytes that are no frame: the channel is of no more use."""


def frame_head(message: msgspec.Struct, payload_bytes: int = 0) -> bytes:
    """Return lengths and header; the payload follows as it is, so that a large one is never copied here.

    Raises:
        WireError: the header or the payload is too large.
    """
    header = _encode(message)
    if len(header) > MAX_HEADER_BYTES:
        raise WireError(f"a header of {len(header)} bytes; the most is {MAX_HEADER_BYTES}")
    if payload_bytes > MAX_PAYLOAD_BYTES:
        raise WireError(f"a payload of {payload_bytes} bytes; the most is {MAX_PAYLOAD_BYTES}")
    return _LENGTHS.pack(len(header), payload_bytes) + header


def joined(pieces: Iterable[Piece], *, small: int = RECEIVE_BYTES) -> list[Piece]:
    """Return ``pieces`` with runs of small ones joined: one write for many frames, no copy of a large payload."""
    buffers: list[Piece] = []
    run: list[Piece] = []
    for piece in pieces:
        if len(piece) < small:
            run.append(piece)
            continue
        if run:
            buffers.append(b"".join(run))
            run = []
        buffers.append(piece)
    if run:
        buffers.append(b"".join(run))
    return buffers


def _lengths(data: bytes | bytearray, position: int) -> tuple[int, int]:
    header_bytes, payload_bytes = _LENGTHS.unpack_from(data, position)
    if not 0 < header_bytes <= MAX_HEADER_BYTES:
        raise WireError(f"a header of {header_bytes} bytes; expected 1 to {MAX_HEADER_BYTES}")
    return header_bytes, payload_bytes


class FrameReader(Generic[Message]):
    """Cuts a byte stream, in chunks of any size, into messages and payloads.

    A payload is copied once: cut out of its chunk, or joined from its parts. Owned by one thread at a time.
    """

    def __init__(self, decode: Callable[[bytes], Message]) -> None:
        self._decode = decode
        self._head = bytearray()
        self._message: Message | None = None
        self._parts: list[bytes | memoryview] = []
        self._missing = 0

    @property
    def missing(self) -> int:
        """Bytes still to come of the payload that has begun; a hint for the size of the next read."""
        return self._missing

    def feed(self, data: bytes) -> list[tuple[Message, bytes]]:
        """Take the next chunk and return what it completed, in order.

        Raises:
            WireError: these bytes are no frame. The reader is of no more use.
        """
        frames: list[tuple[Message, bytes]] = []
        position = 0
        if self._missing:
            position = self._continue_payload(data, frames)
        while self._head and position < len(data):
            position = self._continue_head(data, position, frames)
        while position < len(data):
            position = self._whole_frame(data, position, frames)
        return frames

    def _whole_frame(self, data: bytes, position: int, frames: list[tuple[Message, bytes]]) -> int:
        """The usual case: a frame that starts, and most often ends, in this chunk."""
        if len(data) - position < _LENGTHS.size:
            self._head += data[position:]
            return len(data)
        header_bytes, payload_bytes = _lengths(data, position)
        start = position + _LENGTHS.size
        if len(data) - start < header_bytes:
            self._head += data[position:]
            return len(data)
        body = start + header_bytes
        return self._begin_payload(self._decoded(data[start:body]), payload_bytes, data, body, frames)

    def _continue_head(self, data: bytes, position: int, frames: list[tuple[Message, bytes]]) -> int:
        """Take no more than the head lacks, so that the payload behind it stays where it is."""
        want = _LENGTHS.size
        if len(self._head) >= want:
            header_bytes, payload_bytes = _lengths(self._head, 0)
            want += header_bytes
        end = position + want - len(self._head)
        self._head += data[position:end]
        if len(self._head) < want or want == _LENGTHS.size:
            return min(end, len(data))
        message = self._decoded(bytes(self._head[_LENGTHS.size :]))
        self._head.clear()
        return self._begin_payload(message, payload_bytes, data, end, frames)

    def _begin_payload(
        self, message: Message, size: int, data: bytes, start: int, frames: list[tuple[Message, bytes]]
    ) -> int:
        end = start + size
        if end <= len(data):
            frames.append((message, data[start:end]))
            return end
        self._message = message
        self._parts = [memoryview(data)[start:]]
        self._missing = end - len(data)
        return len(data)

    def _continue_payload(self, data: bytes, frames: list[tuple[Message, bytes]]) -> int:
        if len(data) < self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            return len(data)
        end = self._missing
        self._parts.append(memoryview(data)[:end])
        message, self._message = self._message, None
        parts, self._parts, self._missing = self._parts, [], 0
        if message is not None:
            frames.append((message, b"".join(parts)))
        return end

    def _decoded(self, header: bytes) -> Message:
        try:
            return self._decode(header)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WireError(f"a header that is none of this channel's messages: {error}") from error
