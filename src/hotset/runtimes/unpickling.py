"""Files of pickled objects, each read in the fastest way that is safe for it. Called by the runtimes that load pickles.

* A plain pickle goes through Python's own unpickler in C; ``joblib.load`` would take the one in Python.
* A file that ``joblib.dump`` wrote uncompressed goes through it as well, with the arrays' bytes taken out (``inlined.py``).
* Large arrays in a file that ``joblib.dump`` wrote uncompressed are mapped and not read. Each process that writes to such
  an array gets a page of its own (copy on write), because some estimators do. The file must never change: hotset's
  versions on disk do not, and one that is deleted stays readable for who has it open.
* All else, compressed files above all, is ``joblib.load``'s.

Of a small file it can be kept what its object is built from: to build it again takes a quarter of the time.
"""

from __future__ import annotations

import importlib
import inspect
import io
import math
import mmap
import pickle
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np

from hotset.payload import Array
from hotset.runtimes.inlined import Pickled, UnsuitedError, read_inlined
from hotset.runtimes.mapped import note_mapped

LEAST_MAPPED_BYTES: Final = 1 << 20
"""Smaller arrays are read: that is as fast, and a mapping is by whole pages."""

MOST_KEPT_BYTES: Final = 16 << 10
"""Of a file whose object may be built again without it."""

_PLAIN: Final = b"\x80"
"""How a pickle begins since protocol 2, if nothing is around it."""
_WRAPPER: Final = b"NumpyArrayWrapper"
_HEAD_BYTES: Final = 1 << 16
"""joblib's own class is named where the first array is, and that is nearly always near the beginning."""


class _NeedsJoblibError(Exception):
    """The file is joblib's: between its objects there are arrays that a plain unpickler takes for nonsense."""


def unpickle(path: Path) -> Any:
    """Return the object in the file.

    Raises:
        ImportError: joblib is not installed.
        Exception: whatever unpickling raises.
    """
    return unpickle_to_keep(path)[0]


def unpickle_to_keep(path: Path) -> tuple[Any, Pickled | None]:
    """Return the object in the file, and what it can be built from again; None where that is too much to keep.

    Raises:
        ImportError: joblib is not installed.
        Exception: whatever unpickling raises.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        if not head.startswith(_PLAIN):
            return _joblib().load(path), None
        is_small = len(head) <= MOST_KEPT_BYTES
        if _WRAPPER not in head:
            try:
                return _PlainUnpickler(file).load(), Pickled(head) if is_small else None
            except _NeedsJoblibError:
                file.seek(0)
        try:
            pickled, mapping = _read_inlined(file, head)
        except UnsuitedError:
            file.seek(0)
        else:
            kept = pickled.copy() if is_small else None
            loaded = pickled.build()
            mapping.note()
            return loaded, kept
        load = _mapping_unpickler()
        if load is not None:
            return load(file, path), None
    return _joblib().load(path), None


def _read_inlined(file: io.BufferedReader, head: bytes) -> tuple[Pickled, _Mapping]:
    """Return what is in a file of joblib's, for the unpickler in C."""
    stream = io.BytesIO(head) if len(head) < _HEAD_BYTES else cast("io.RawIOBase", file.raw)
    stream.seek(0)
    mapping = _Mapping(file, stream)
    return read_inlined(stream, mapping.array), mapping


def _joblib() -> Any:
    return importlib.import_module("joblib")


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("joblib.numpy_pickle"):
            raise _NeedsJoblibError
        return super().find_class(module, name)


class _Mapping:
    """The file of one load, mapped when the first large array asks for it. Owned by that load."""

    def __init__(self, file: BinaryIO, stream: BinaryIO | io.RawIOBase | io.BytesIO | None = None) -> None:
        """``stream`` is what tells where the file is, and goes on; None: the file itself."""
        self._file = file
        self._stream = stream if stream is not None else file
        self._mapping: mmap.mmap | None = None
        self._used_bytes = 0

    def array(self, state: Mapping[str, Any]) -> Array | None:
        """Return the array that begins where the file is now, and go behind it; None if it is better read.

        ``state`` is what joblib has written down of it.
        """
        dtype, shape = state["dtype"], state["shape"]
        size = math.prod(shape) * dtype.itemsize
        padded = state.get("numpy_array_alignment_bytes") is not None
        if size < LEAST_MAPPED_BYTES or not (state["allow_mmap"] and dtype.isnative and padded):
            return None
        if state["subclass"] not in (np.ndarray, np.memmap):
            return None
        if self._mapping is None:
            self._mapping = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        begin = self._stream.tell()
        begin += 1 + self._mapping[begin]  # one byte tells how many follow until the array is aligned
        array: Array = np.ndarray(shape, dtype, self._mapping, begin, order=state["order"])
        self._stream.seek(begin + size)
        self._used_bytes += size
        return array

    def note(self) -> None:
        """Count what was used of it, once all is loaded."""
        if self._mapping is not None:
            note_mapped(self._mapping, self._used_bytes)


@cache
def _mapping_unpickler() -> Callable[[BinaryIO, Path], Any] | None:
    """Return what unpickles a file of joblib's and maps its large arrays, or None where joblib is not as it was.

    It is made when it is first used, as joblib is not imported before.
    """
    module = importlib.import_module("joblib.numpy_pickle")
    unpickler: Any = getattr(module, "NumpyUnpickler", None)
    wrapper: Any = getattr(module, "NumpyArrayWrapper", None)
    dispatch = getattr(unpickler, "dispatch", {})
    if wrapper is None or pickle.BUILD[0] not in dispatch:
        return None
    build: Callable[[Any], None] = dispatch[pickle.BUILD[0]]

    def build_or_map(self: Any) -> None:
        """As joblib does it: where the state of an array's stand-in is at hand, the array takes its place."""
        stand_in, state = self.stack[-2:]
        array = self.mapping.array(state) if isinstance(stand_in, wrapper) else None
        if array is None:
            build(self)
        else:
            self.stack[-2:] = [array]

    mapping_unpickler: Any = type(
        "MappingUnpickler", (unpickler,), {"dispatch": dispatch | {pickle.BUILD[0]: build_or_map}}
    )
    options = inspect.signature(unpickler).parameters.keys() & {"ensure_native_byte_order"}

    def load(file: BinaryIO, path: Path) -> Any:
        made = mapping_unpickler(str(path), file, **dict.fromkeys(options, True))
        made.mapping = _Mapping(file)
        loaded = made.load()
        made.mapping.note()
        return loaded

    return load
