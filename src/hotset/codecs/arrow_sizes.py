"""What the record batches of an Arrow IPC stream unpack to, by what they say themselves. Pure; called by ``arrow.py``.

Batches may be compressed inside, a few bytes for gigabytes, and many columns may refer to the same bytes. ``pyarrow``
shows neither before it has unpacked them, so the headers are read here: flatbuffers (``Message.fbs`` of the format), which
``pyarrow`` has verified. It allocates for each buffer what stands in front of it, and no more.
"""

from __future__ import annotations

import struct
from typing import Any, Final

_VERSION_AND_HEADER: Final = 2
_DATA_OF_DICTIONARY: Final = 1
_BUFFERS: Final = 2
_COMPRESSION: Final = 3

_RECORD_BATCH: Final = "record batch"
_DICTIONARY: Final = "dictionary"

_OLD_COMPRESSION: Final = b"ARROW:experimental_compression"
"""How Arrow 0.17 said that a batch is compressed; it is still understood."""

_I64: Final = struct.Struct("<q")
_I32: Final = struct.Struct("<i")
_U32: Final = struct.Struct("<I")
_U16: Final = struct.Struct("<H")
_BUFFER: Final = struct.Struct("<qq")


def unpacked_bytes(message: Any) -> int:
    """Return the bytes of all buffers of a ``pyarrow.ipc.Message``, each as large as it is once it is unpacked.

    Raises:
        ValueError: what stands in front of a compressed buffer is no length.
    """
    if message.type not in {_RECORD_BATCH, _DICTIONARY}:
        return 0
    metadata = memoryview(message.metadata)
    batch = _table(metadata, _field(metadata, _U32.unpack_from(metadata)[0], _VERSION_AND_HEADER))
    if message.type == _DICTIONARY:
        batch = _table(metadata, _field(metadata, batch, _DATA_OF_DICTIONARY))
    buffers = _field(metadata, batch, _BUFFERS)
    if not buffers:
        return 0
    is_packed = bool(_field(metadata, batch, _COMPRESSION)) or _OLD_COMPRESSION in bytes(metadata)
    start = _table(metadata, buffers)
    count = _U32.unpack_from(metadata, start)[0]
    places = _BUFFER.iter_unpack(metadata[start + 4 : start + 4 + _BUFFER.size * count])
    if not is_packed:
        return sum(length for _, length in places)
    body = memoryview(message.body if message.body is not None else b"")
    return sum(_unpacked(body, offset, length) for offset, length in places if length)


def _unpacked(body: memoryview, offset: int, length: int) -> int:
    """The length of a buffer stands in front of it; -1 where it is as it was."""
    if offset < 0 or length < _I64.size or offset + length > len(body):
        raise ValueError(f"a compressed buffer of {length} bytes at {offset} is not inside its batch")
    size: int = _I64.unpack_from(body, offset)[0]
    if size < -1:
        raise ValueError(f"a compressed buffer has a length of {size}")
    return length if size == -1 else size


def _field(data: memoryview, table: int, index: int) -> int:
    """Return where a table's field is; 0 if it has it not."""
    layout = table - _I32.unpack_from(data, table)[0]
    slot = 4 + 2 * index
    if slot >= _U16.unpack_from(data, layout)[0]:
        return 0
    offset = _U16.unpack_from(data, layout + slot)[0]
    return table + offset if offset else 0


def _table(data: memoryview, field: int) -> int:
    """Return what a field points to: a table or a vector."""
    return field + int(_U32.unpack_from(data, field)[0])
