"""The parts that ``predict`` makes, cut into what is sent. ``finishing`` and the warm-up call it, in whatever thread they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from hotset.codecs.base import PartWriter, StreamingCodec
from hotset.payload import Encoded
from hotset.stream import Stream
from hotset.workers.answers import PIECE_BYTES, Begun, End, Part
from hotset.workers.unfinished import Unfinished

NOTHING: Final = object()
"""What an iterator gives that has no part."""


class Cutter:
    """Owned by whoever sends one stream. Legal order: ``cut`` each part, in order; then ``end``."""

    def __init__(self, work: Unfinished, stream: Stream) -> None:
        self._codec = cast("StreamingCodec", work.codec)
        self._meta = work.meta
        self._asked = work.asked
        self._content_type = stream.content_type
        self._writer: PartWriter | None = None

    def cut(self, part: object) -> Iterator[Begun | Part]:
        """Yield what is sent for a part: for the first one that of what type all are, at once. Empty parts are not sent."""
        writer = self._writer
        if writer is None:
            writer = self._codec.part_writer(part, self._content_type, self._meta, self._asked)
            data = writer.write(part)
            self._writer = writer
            yield Begun(Encoded(data[:PIECE_BYTES], writer.content_type))
            data = data[PIECE_BYTES:]
        else:
            data = writer.write(part)
        for start in range(0, len(data), PIECE_BYTES):
            yield Part(data[start : start + PIECE_BYTES])

    def end(self) -> Encoded | End:
        """Return what is sent last. A stream without parts is a whole answer."""
        return self._codec.empty(self._content_type, self._meta) if self._writer is None else End()
