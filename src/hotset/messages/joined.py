"""Messages one behind another in a stream of bytes that is cut anywhere: how answers in parts come from a worker to the gRPC door.

Pure; needs no library. The codec packs each message, the door unpacks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_LENGTH_BYTES: Final = 8


def packed(message: bytes | memoryview) -> bytes:
    """Return a message with its length in front."""
    return b"".join((len(message).to_bytes(_LENGTH_BYTES, "little"), message))


class Unpacker:
    """Takes pieces, gives messages. Owned by whoever reads one stream; it holds no more than one message that is not whole."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes | memoryview) -> Iterator[bytes]:
        """Yield the messages that are whole with one more piece. To be iterated to its end before the next call."""
        held = self._held
        held += piece
        start, end = 0, len(held)
        while end - start >= _LENGTH_BYTES:
            first = start + _LENGTH_BYTES
            last = first + int.from_bytes(held[start:first], "little")
            if last > end:
                break
            yield bytes(memoryview(held)[first:last])
            start = last
        del held[:start]
