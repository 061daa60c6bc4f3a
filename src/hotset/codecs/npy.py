"""NumPy's own files as bodies: ``.npy`` is one array, ``.npz`` several by name. Both ways; nothing is ever unpickled.

Pure; called by the native codec. An array in a body is not copied: what is read is a read-only view of it.
The format is NumPy's (``numpy.lib.format``), versions 1 and 2.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from hotset.body_limits import check_elements, check_unpacked
from hotset.codecs.arrays import MAX_DIMENSIONS
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import Array, datatype_of

NPY: Final = "application/x-npy"
NPZ: Final = "application/x-npz"

MOST_ARRAYS: Final = 1000
"""In an ``.npz``: what a zip file says of each of its files takes a multiple of the room there."""

_WIDEST: Final = 8
"""Bytes of a number; NumPy's long double is one on this machine and not on the next."""

_ENTRY: Final = b"PK\x01\x02"

_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_LONGEST_HEADER: Final = 1 << 16
_NO_HEADER: Final = (
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    OverflowError,
)
"""What NumPy raises for headers that are none: it reads them as Python's literals."""

_PACKED_AS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""How NumPy packs arrays. Others would allocate what a file says before it is read."""


def read_npy(body: bytes | memoryview, where: str) -> Array:
    """Return the array in ``body``; text is an array of ``str`` objects, as BYTES is everywhere.

    Raises:
        InvalidInputError: it is not a whole ``.npy`` file, or its type cannot be a tensor's; the message begins ``where``.
    """
    shape, is_fortran, dtype, start = _header(body, where)
    if dtype.hasobject or dtype.kind not in "biufSU" or (dtype.kind == "f" and dtype.itemsize > _WIDEST):
        raise InvalidInputError(f"{where}: expected numbers, booleans or text, found the NumPy type: {dtype}")
    count = math.prod(shape)
    if count and not dtype.itemsize:
        raise InvalidInputError(
            f"{where}: expected text of at least one character, found the NumPy type: {dtype}"
        )
    expected = count * dtype.itemsize
    if len(body) - start != expected:
        raise InvalidInputError(
            f"{where}: expected {expected} bytes of data for the shape {list(shape)} of {dtype},"
            f" found: {len(body) - start}"
        )
    check_elements(count, where)
    flat = np.frombuffer(body, dtype=dtype, count=count, offset=start) if count else np.empty(0, dtype=dtype)
    return _tensor(flat.reshape(shape, order="F" if is_fortran else "C"))


def _header(body: bytes | memoryview, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    file = io.BytesIO(bytes(body[:_LONGEST_HEADER]))
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"its format version is {version[0]}.{version[1]}, expected 1.0 or 2.0")
        shape, is_fortran, dtype = _HEADERS[version](file)
    except _NO_HEADER as error:
        raise InvalidInputError(f"{where} is not a .npy file: {error}") from error
    if any(size < 0 for size in shape) or len(shape) > MAX_DIMENSIONS:
        raise InvalidInputError(f"{where}: not a shape: {list(shape)}")
    return shape, is_fortran, dtype, file.tell()


def _tensor(array: Array) -> Array:
    if array.dtype.kind in "SU":
        return array.astype(object)
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array


def read_npz(body: bytes | memoryview, where: str) -> dict[str, Array]:
    """Return the arrays in ``body`` by name, in order.

    Raises:
        InvalidInputError: as ``read_npy``, or it is not a zip file, or unpacks to too much.
    """
    arrays: dict[str, Array] = {}
    data = bytes(body)
    if data.count(_ENTRY) > MOST_ARRAYS:
        raise InvalidInputError(f"{where}: expected at most {MOST_ARRAYS} arrays, found more")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            check_unpacked(sum(entry.file_size for entry in entries), where)
            for entry in entries:
                if entry.compress_type not in _PACKED_AS:
                    raise InvalidInputError(f"{where}: expected arrays as numpy.savez packs them")
                name = entry.filename.removesuffix(".npy")
                with archive.open(entry) as file:
                    unpacked = file.read(entry.file_size + 1)
                arrays[name] = read_npy(unpacked, f"{where}: {name!r}")
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        zlib.error,
        struct.error,
    ) as error:
        raise InvalidInputError(f"{where} is not a .npz file: {error}") from error
    return arrays


def write_npy(array: Array, what: str) -> bytes:
    """Return a ``.npy`` file. Text is written as fixed-width Unicode, bytes as fixed-width bytes.

    Raises:
        PredictFailedError: ``what`` is of a type that needs pickling.
    """
    file = io.BytesIO()
    np.lib.format.write_array(file, _writable(array, what), allow_pickle=False)
    return file.getvalue()


def write_npz(arrays: Mapping[str, Array]) -> bytes:
    """Return an ``.npz`` file, not compressed.

    Raises:
        PredictFailedError: as ``write_npy``.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", write_npy(array, f"output {name!r}"))
    return file.getvalue()


def _writable(array: Array, what: str) -> Array:
    try:
        datatype = datatype_of(array)
    except TypeError as error:
        raise PredictFailedError(f"{what} cannot be written as .npy: {error}") from error
    if datatype != "BYTES" or array.dtype.kind in "SU":
        return array
    items = array.ravel().tolist()
    kinds = set(map(type, items))
    if kinds - {str, bytes}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds - {str, bytes}))
        raise PredictFailedError(f"{what} cannot be written as .npy: it holds values of type {names}")
    if bytes in kinds:
        items = [item.encode() if isinstance(item, str) else item for item in items]
    return np.array(items, dtype=None if items else "U1").reshape(array.shape)
