"""Files that ``joblib.dump`` wrote uncompressed, read by Python's unpickler in C. Called by ``unpickling``.

joblib puts the bytes of each array into the pickle, right behind the description of a stand-in for it, and reads them with
the unpickler in Python, which can change what it builds on the way. The one in C, several times as fast, cannot. So the
pickle is gone through twice in C: first with nothing behind its names, to find the arrays; then without their bytes, each
stand-in being the array itself, and the step that would describe it taken out. No code of the model's runs before the second time.

Whatever is not exactly as expected is left to joblib's way.
"""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Self

import numpy as np

from hotset.payload import Array

MODULE: Final = "joblib.numpy_pickle"
STAND_IN: Final = "NumpyArrayWrapper"
_MOST_BYTES: Final = 64 << 20
"""Of pickle between the arrays, which is held in memory."""

MapArray = Callable[[Mapping[str, Any]], Array | None]
"""Return the array that begins where the file is now, mapped, and go behind it; None if it is better read."""


class UnsuitedError(Exception):
    """The file is not as expected. Nothing of the model has run."""


class Pickled(NamedTuple):
    """A pickle, and beside it the arrays that were in it: what its object is built from, once or again and again."""

    stream: bytes
    arrays: tuple[Array, ...] = ()

    @property
    def bytes(self) -> int:
        return len(self.stream) + sum(array.nbytes for array in self.arrays)

    def copy(self) -> Pickled:
        """Return one with arrays of its own: what is built from it gets these very ones, and may write to them."""
        return self._replace(arrays=tuple([array.copy(order="K") for array in self.arrays]))

    def build(self) -> Any:
        """Return the object.

        Raises:
            Exception: whatever the model's own code raises.
        """
        outer, _current.arrays = _current.arrays, iter(self.arrays)  # the model's own code may load another
        try:
            return _Build(io.BytesIO(self.stream)).load()
        finally:
            _current.arrays = outer


class _Place(NamedTuple):
    """An array's bytes in the file, with what aligns them."""

    begin: int
    end: int


class _Nothing:
    """Stands for whatever is named in a pickle while it is only gone through."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)

    def _take(self, *_: Any, **__: Any) -> _Nothing:
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = _take


class _Current(threading.local):
    """What is being loaded in this thread. The unpickler wants a class, and one made for each load would keep its arrays."""

    scan: _Scan
    arrays: Iterator[Array] = iter(())


_current: Final = _Current()


class _Described:
    """An array's stand-in when the arrays are looked for."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        _current.scan.note(state)


class _Present:
    """An array's stand-in when the arrays are there: it is the next of them."""

    def __new__(cls) -> Any:
        return next(_current.arrays)


class _Scan(pickle.Unpickler):
    """Goes through a pickle and notes its arrays. ``stream`` must not read ahead: where it is, is where the pickle is."""

    def __init__(self, stream: io.RawIOBase | io.BytesIO, map_array: MapArray) -> None:
        super().__init__(stream)
        self._stream = stream
        self._map_array = map_array
        self.arrays: list[Array] = []
        self.places: list[_Place] = []

    def find_class(self, module: str, name: str) -> Any:
        if module == MODULE:
            if name != STAND_IN:
                raise UnsuitedError(name)
            return _Described
        if module == "numpy" and name in ("dtype", "ndarray", "memmap"):
            return getattr(np, name)
        return _Nothing

    def note(self, state: Mapping[str, Any]) -> None:
        begin = self._stream.tell()
        dtype, alignment = state["dtype"], state.get("numpy_array_alignment_bytes")
        if alignment is None or dtype.hasobject or not dtype.isnative:
            raise UnsuitedError("an array of another kind")
        if state["subclass"] not in (np.ndarray, np.memmap):
            raise UnsuitedError("an array of a class of its own")
        if not self._is_aligned(begin, alignment):
            raise UnsuitedError("no array where one should be")
        self._stream.seek(begin)
        array = self._map_array(state)
        self.arrays.append(array if array is not None else self._read(state))
        self.places.append(_Place(begin, self._stream.tell()))

    def _is_aligned(self, begin: int, alignment: int) -> bool:
        """Whether here is what joblib writes before an array: how many bytes follow until it is aligned, and those."""
        padding = self._stream.read(1)
        if not padding or not 0 < padding[0] <= alignment or (begin + 1 + padding[0]) % alignment:
            return False
        return self._stream.read(padding[0]) == b"\xff" * padding[0]

    def _read(self, state: Mapping[str, Any]) -> Array:
        padding = self._stream.read(1)
        assert padding
        self._stream.seek(padding[0], io.SEEK_CUR)
        array: Array = np.empty(state["shape"], state["dtype"], order="F" if state["order"] == "F" else "C")
        flat = array.T if state["order"] == "F" else array
        data = self._stream.read(array.nbytes)
        if data is None or len(data) != array.nbytes:
            raise UnsuitedError("the file ends within an array")
        flat[...] = np.frombuffer(data, array.dtype).reshape(flat.shape)
        return array


class _Build(pickle.Unpickler):
    """Builds the model; each stand-in is the next array."""

    def find_class(self, module: str, name: str) -> Any:
        return _Present if module == MODULE else super().find_class(module, name)


def read_inlined(stream: io.RawIOBase | io.BytesIO, map_array: MapArray) -> Pickled:
    """Return what the object in the file is built from; ``stream`` is at the file's beginning.

    Raises:
        UnsuitedError: the file is not as expected.
    """
    scan = _current.scan = _Scan(stream, map_array)
    try:
        scan.load()
        short = _without(stream, scan.places)
    except UnsuitedError:
        raise
    except Exception as error:
        raise UnsuitedError(f"it cannot be gone through: {error}") from error
    finally:
        del _current.scan
    return Pickled(short, tuple(scan.arrays))


def _without(stream: io.RawIOBase | io.BytesIO, places: list[_Place]) -> bytes:
    """Return the pickle without the bytes of arrays, each of whose descriptions is dropped instead of given to a stand-in."""
    rest = bytearray()
    begin = 0
    for place in places:
        rest += _bytes(stream, begin, place.begin - begin)
        if rest[-1:] != pickle.BUILD:
            raise UnsuitedError("an array that does not follow its description")
        rest[-1:] = pickle.POP
        if len(rest) > _MOST_BYTES:
            raise UnsuitedError("too much beside the arrays")
        begin = place.end
    rest += _bytes(stream, begin, _MOST_BYTES)
    return bytes(rest)


def _bytes(stream: io.RawIOBase | io.BytesIO, begin: int, count: int) -> bytes:
    stream.seek(begin)
    return stream.read(count) or b""
