"""Tensors as raw bytes and back, by Open Inference datatype: little-endian, row-major, without padding.

Called by the codecs of REST's binary extension and of gRPC's raw contents. It knows no protocol's framing of several
tensors, and copies nothing that it need not: what it reads are read-only views of the bytes, where those are aligned.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np

from hotset.body_limits import check_elements
from hotset.codecs.arrays import MAX_DIMENSIONS
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import DTYPES, Array, datatype_of

BYTES: Final = "BYTES"
BF16: Final = "BF16"

RAW_DATATYPES: Final = (*DTYPES, BF16)
"""What can be sent as raw bytes: all that JSON can carry, FP16 and BF16."""

_LENGTH: Final = struct.Struct("<I")
_MOST_LENGTH: Final = 2**32 - 1
_LITTLE: Final = {name: dtype.newbyteorder("<") for name, dtype in DTYPES.items() if name != BYTES}


def read_tensor(data: bytes | memoryview, datatype: str, shape: Sequence[int], where: str) -> Array:
    """Return the tensor in ``data``, all of it, as an array that cannot be written to.

    NumPy has no type for BF16: such values come as ``float32``, which holds each of them exactly. BYTES elements
    come as ``bytes``.

    Raises:
        InvalidInputError: the type is unknown, or the bytes are not as many as type and shape say; the message
            begins with ``where``.
    """
    count = element_count(shape, where)
    if datatype == BYTES:
        array = _read_elements(memoryview(data), count, where)
    else:
        expected = count * item_size(datatype, where)
        if len(data) != expected:
            raise InvalidInputError(
                f"{where}: {datatype} of the shape {list(shape)} has {expected} bytes, found: {len(data)}"
            )
        check_elements(count, where)
        array = _read_bf16(data) if datatype == BF16 else _read_numbers(data, _LITTLE[datatype])
    try:
        array = array.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"{where}: the data does not fit the shape {list(shape)}: {error}") from error
    # A view of the request cannot be written to; that a copy could be would depend on how long the request's JSON is.
    array.flags.writeable = False
    return array


def write_tensor(array: Array, datatype: str, where: str) -> bytes | memoryview:
    """Return the bytes of a tensor; those of one that lies in order in memory as a view of it.

    Raises:
        PredictFailedError: an element of BYTES is neither bytes nor text; the message begins with ``where``.
    """
    if datatype == BYTES:
        return _write_elements(array, where)
    if datatype == BF16:
        return _write_bf16(array)
    ordered = np.ascontiguousarray(array, dtype=_LITTLE[datatype])
    return memoryview(ordered.reshape(-1).view(np.uint8).data) if ordered.size else b""


def raw_datatype(array: Array) -> str:
    """Return the type name of an array: BF16 too, which only raw bytes can carry.

    Raises:
        TypeError: the array's type has no such name.
    """
    try:
        return datatype_of(array)
    except TypeError:
        if _is_bf16(array):
            return BF16
        raise


def element_count(shape: Sequence[int], where: str) -> int:
    """Return how many elements a tensor of this shape has.

    Raises:
        InvalidInputError: it has a negative size, or too many dimensions.
    """
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidInputError(f"{where}: expected at most {MAX_DIMENSIONS} dimensions, found: {len(shape)}")
    if shape and min(shape) < 0:
        raise InvalidInputError(f"{where}: expected sizes of 0 or more in the shape, found: {list(shape)}")
    return prod(shape)


def item_size(datatype: str, where: str) -> int:
    """Return the bytes of one element; not for BYTES, whose elements differ.

    Raises:
        InvalidInputError: there is no such type.
    """
    if datatype == BF16:
        return 2
    dtype = _LITTLE.get(datatype)
    if dtype is None:
        expected = ", ".join(RAW_DATATYPES)
        raise InvalidInputError(f"{where}: expected a datatype of {expected}, found: {datatype[:40]!r}")
    return dtype.itemsize


def _read_numbers(data: bytes | memoryview, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "b":
        # Whatever is not 0 is true to C; NumPy's own bytes must be 0 or 1.
        truths: Array = np.frombuffer(data, dtype=np.uint8) != 0
        return truths
    array: Array = np.frombuffer(data, dtype=dtype)
    if sys.byteorder == "big":
        return array.astype(dtype.newbyteorder("="))
    # Frameworks' own code may rely on the alignment that every array of NumPy's making has.
    return array if array.flags.aligned else array.copy()


def _read_bf16(data: bytes | memoryview) -> Array:
    """BF16 is the upper half of a float32."""
    halves = np.frombuffer(data, dtype="<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _write_bf16(array: Array) -> bytes | memoryview:
    """Return the upper half of each float32, rounded to the nearest, ties to even; a NaN stays one."""
    if _is_bf16(array):
        halves = np.ascontiguousarray(array).reshape(-1).view(np.uint16)
    else:
        wide = np.ascontiguousarray(array, dtype=np.float32).reshape(-1)
        bits = wide.view(np.uint32)
        rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
        halves = np.where(np.isnan(wide), (bits >> 16) | 0x40, rounded).astype(np.uint16)
    return halves.astype("<u2", copy=False).tobytes()


def _is_bf16(array: Array) -> bool:
    """By its name, as the package that has the type need not be installed. To ask NumPy for a name takes long."""
    return array.dtype.name == "bfloat16"


def _read_elements(data: memoryview, count: int, where: str) -> Array:
    """Read elements that each have their length, four bytes, in front of them."""
    if count * _LENGTH.size > len(data):
        raise InvalidInputError(
            f"{where}: {count} elements of BYTES take {count * _LENGTH.size} bytes or more, found: {len(data)}"
        )
    check_elements(count, where)
    array = np.empty(count, dtype=object)
    start, end = 0, len(data)
    for index in range(count):
        first = start + _LENGTH.size
        start = first + _LENGTH.unpack_from(data, start)[0] if first <= end else end + 1
        if start > end:
            raise InvalidInputError(
                f"{where}: element {index} of {count} goes past the end of its {end} bytes"
            )
        array[index] = bytes(data[first:start])
    if start != end:
        raise InvalidInputError(f"{where}: {count} elements of BYTES have {start} bytes, found: {end}")
    return array


def _write_elements(array: Array, where: str) -> bytes:
    parts: list[bytes] = []
    for item in array.ravel().tolist():
        element = _element(item, where)
        if len(element) > _MOST_LENGTH:
            raise PredictFailedError(f"{where} has an element of more than {_MOST_LENGTH} bytes")
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def _element(item: Any, where: str) -> bytes:
    if isinstance(item, bytes | bytearray):
        return bytes(item)
    if not isinstance(item, str):
        raise PredictFailedError(
            f"{where} holds values of type {type(item).__name__}; expected numbers or text"
        )
    try:
        return item.encode()
    except UnicodeEncodeError as error:
        raise PredictFailedError(f"{where} holds text that is not Unicode: {error}") from error
