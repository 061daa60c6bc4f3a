"""The fields of an encoded protocol buffer, found without decoding any of them. Pure; needs no library.

Called by the door, which reads only a request's model, version and id, and by the codec, which takes large tensors as
views of the bytes that came. A decoded message would be a copy of all of it.
"""

from __future__ import annotations

from typing import Final, TypeAlias

MOST_FIELDS: Final = 1 << 16
"""A message may be all fields of two bytes each; looking at all of them would hold the event loop up for seconds."""

LENGTH_DELIMITED: Final = 2
_VARINT: Final = 0
_FIXED: Final = {1: 8, 5: 4}
_MOST_VARINT: Final = 10


Span: TypeAlias = tuple[int, int, int]
"""One field: its tag (number and wire type), where the value starts, and where it ends."""


class MalformedError(ValueError):
    """The bytes are not a message; the text says what was found."""


def tag_of(number: int) -> int:
    """Return the tag of a field of that number whose value has a length: text, bytes, a message."""
    return number << 3 | LENGTH_DELIMITED


def spans(data: bytes | memoryview) -> list[Span]:
    """Return every field of the message in ``data``, in order.

    Raises:
        MalformedError: it is not a message, or has too many fields.
    """
    found: list[Span] = []
    position, end = 0, len(data)
    while position < end:
        tag = data[position]
        position += 1
        if tag > 0x7F:
            tag, position = _varint(data, position - 1)
        if tag & 7 == LENGTH_DELIMITED and position < end and data[position] < 0x80:
            start = position + 1
            position = start + data[position]
        else:
            start, position = _extent(data, tag & 7, position)
        found.append((tag, start, position))
        if tag < 8:
            raise MalformedError("a field has the number 0")
        if len(found) > MOST_FIELDS:
            raise MalformedError(f"expected at most {MOST_FIELDS} fields, found more")
    if position > end:
        raise MalformedError(f"the last field goes {position - end} bytes past the end of {end}")
    return found


def _extent(data: bytes | memoryview, wire_type: int, position: int) -> tuple[int, int]:
    """Return where a value starts and ends."""
    if wire_type == LENGTH_DELIMITED:
        length, start = _varint(data, position)
        return start, start + length
    if wire_type == _VARINT:
        return position, _varint(data, position)[1]
    if wire_type in _FIXED:
        return position, position + _FIXED[wire_type]
    raise MalformedError(f"a field has the wire type {wire_type}")


def _varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Return the number at ``position``, and where the next thing is."""
    value = shift = 0
    for index in range(position, min(len(data), position + _MOST_VARINT)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise MalformedError("a number does not end")


def framed(number: int, length: int) -> bytes:
    """Return what stands before a value of ``length`` bytes in the field of that number."""
    return varint(tag_of(number)) + varint(length)


def varint(value: int) -> bytes:
    """Return a whole number that is not negative, as lengths, tags and integers are written."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
