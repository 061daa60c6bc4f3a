"""One example as the message ``tf.train.Example``, which TensorFlow models parse themselves. Pure; for ``tfexamples``.

Written by hand: it is three levels of length-prefixed fields, and protobuf's classes for it come with TensorFlow only.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hotset.errors import InvalidInputError
from hotset.messages.fields import framed, varint

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3
"""Field numbers of a feature's kinds of lists."""

_LARGEST: Final = 2**63


def serialized(example: Mapping[str, Sequence[Any]], where: str) -> bytes:
    """Return the message for features by name: whole numbers and booleans, floats, or text and ``{"b64": …}``.

    Raises:
        InvalidInputError: a feature mixes them, or a value is out of range; the message names it.
    """
    entries = (
        _field(1, _field(1, name.encode()) + _field(2, _feature(values, f"{where}: Feature: {name}")))
        for name, values in example.items()
    )
    return _field(1, b"".join(entries))


def _feature(values: Sequence[Any], where: str) -> bytes:
    kinds = {_kind(value) for value in values}
    if not kinds:
        return b""
    if len(kinds) > 1:
        raise InvalidInputError(f"{where}: Unexpected element type; expected values of one kind")
    kind = kinds.pop()
    if kind == _BYTES:
        return _field(kind, b"".join(_field(1, _raw(value, where)) for value in values))
    if kind == _FLOATS:
        return _field(kind, _field(1, b"".join(_float(value, where) for value in values)))
    return _field(kind, _field(1, b"".join(_integer(int(value), where) for value in values)))


def _kind(value: Any) -> int:
    if isinstance(value, float):
        return _FLOATS
    return _INTEGERS if isinstance(value, int) else _BYTES


def _raw(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidInputError(f"{where}: not base64: {error}") from error


def _float(value: float, where: str) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError as error:
        raise InvalidInputError(f"{where}: {value} is out of range for a float") from error


def _integer(value: int, where: str) -> bytes:
    if not -_LARGEST <= value < _LARGEST:
        raise InvalidInputError(f"{where}: {value} is out of range for an int64")
    return varint(value % (1 << 64))


def _field(number: int, content: bytes) -> bytes:
    return framed(number, len(content)) + content
