"""JSON values to arrays and back, one tensor at a time, with the place of whatever does not fit.

Called by the row format and by codecs that hold decoded JSON. Values are flattened and their types looked at before
NumPy sees them: left to guess, it would read text as numbers, and give every string the room of the longest one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np

from hotset.body_limits import check_elements
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import DTYPES, Array

MAX_DIMENSIONS: Final = 64

_REAL: Final[frozenset[type]] = frozenset({int, float, type(None)})
_FITTING: Final[dict[str, frozenset[type]]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": _REAL,
    "O": frozenset({str, bytes}),
}
"""The Python types that a JSON value may have, by the kind of the NumPy type that is declared."""

_WORDS: Final[dict[type, str]] = {str: "text", bool: "a boolean", type(None): "null", dict: "an object"}


def to_array(value: Any, datatype: str | None, where: str) -> Array:
    """Return nested lists, or one value, as an array of the declared type; of the natural one where it is None.

    ``null`` is NaN among numbers, and ``{"b64": …}`` is bytes. Text among numbers makes an array of objects where
    no type was declared.

    Raises:
        InvalidInputError: uneven rows, or a value of another type; the message names the place in ``where``.
    """
    flat, shape, kinds = _flatten(value, where)
    check_elements(len(flat), where)
    if dict in kinds and (datatype is None or datatype == "BYTES"):
        flat = [_from_base64(item, where) if type(item) is dict else item for item in flat]
        kinds = set(map(type, flat))
    target = DTYPES[datatype] if datatype is not None else _natural(kinds)
    if datatype is not None and not kinds <= _FITTING[target.kind]:
        raise _misfit(flat, shape, datatype, where)
    try:
        return _filled(flat, target).reshape(shape)
    except (OverflowError, FloatingPointError, ValueError) as error:
        if datatype is None and target.kind == "i":
            return to_array(value, "FP64", where)
        raise InvalidInputError(f"{where}: a number is out of range for {datatype or 'FP64'}") from error


def _flatten(value: Any, where: str) -> tuple[list[Any], list[int], set[type]]:
    """Return the values in row-major order, the shape of the nest, and the types found."""
    level: list[Any] = [value]
    shape: list[int] = []
    while True:
        kinds: set[type] = set(map(type, level))
        if list not in kinds:
            return level, shape, kinds
        sizes = set(map(len, level)) if len(kinds) == 1 else ()
        if len(sizes) != 1:
            raise InvalidInputError(_uneven(level, shape, where))
        if len(shape) == MAX_DIMENSIONS:
            raise InvalidInputError(f"{where}: nested more than {MAX_DIMENSIONS} deep")
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))


def _natural(kinds: set[type]) -> np.dtype[Any]:
    if kinds == {int}:
        return DTYPES["INT64"]
    if kinds <= _REAL:
        return DTYPES["FP64"]
    return DTYPES["BOOL"] if kinds == {bool} else DTYPES["BYTES"]


def _filled(flat: list[Any], target: np.dtype[Any]) -> Array:
    if target.kind == "O":
        objects = np.empty(len(flat), dtype=object)
        objects[:] = flat
        return objects
    if target.kind == "f" and target.itemsize < 8:
        with np.errstate(over="raise"):
            return np.array(flat, dtype=target)
    return np.array(flat, dtype=target)


def _from_base64(item: dict[str, Any], where: str) -> bytes:
    if not is_base64(item):
        keys = ", ".join(sorted(item)[:10]) or "none"
        raise InvalidInputError(f"{where}: expected a value, found an object with the keys: {keys}")
    try:
        return base64.b64decode(item["b64"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidInputError(f"{where}: not base64: {error}") from error


def is_base64(value: Any) -> bool:
    """Whether a value is ``{"b64": …}``: bytes, and not an object with fields."""
    return type(value) is dict and len(value) == 1 and "b64" in value


def _misfit(flat: list[Any], shape: list[int], datatype: str, where: str) -> InvalidInputError:
    fitting = _FITTING[DTYPES[datatype].kind]
    index = next(index for index, item in enumerate(flat) if type(item) not in fitting)
    item = flat[index]
    found = _WORDS.get(type(item)) or f"the number {item}"
    return InvalidInputError(f"{where}{_place(index, shape)}: expected {datatype}, found: {found}")


def _uneven(level: list[Any], shape: list[int], where: str) -> str:
    sizes = [len(item) if type(item) is list else None for item in level]
    index = next(index for index, size in enumerate(sizes) if size != sizes[0])
    return (
        f"{where}{_place(index, shape)}: expected {_size(sizes[0])} as in {where}{_place(0, shape)}, "
        f"found: {_size(sizes[index])}"
    )


def _size(size: int | None) -> str:
    return "a single value" if size is None else f"a list of {size}"


def _place(index: int, shape: Sequence[int]) -> str:
    """Return ``[1][0]`` for the flat ``index`` into a nest of this shape."""
    steps: list[str] = []
    for size in reversed(shape):
        index, step = divmod(index, size)
        steps.append(f"[{step}]")
    return "".join(reversed(steps))


def to_lists(array: Array, name: str) -> Any:
    """Return an output as nested lists for JSON; bytes as text.

    Raises:
        PredictFailedError: an output holds bytes that are not UTF-8, or objects that are not text.
    """
    if array.dtype.kind not in "SO":
        return array.tolist()
    flat = np.empty(array.size, dtype=object)
    flat[:] = [as_text(item, name) for item in array.ravel().tolist()]
    return flat.reshape(array.shape).tolist()


def as_text(item: Any, name: str) -> str:
    """Return one BYTES element as text."""
    if isinstance(item, str):
        return str(item)
    if not isinstance(item, bytes):
        raise PredictFailedError(
            f"output {name!r} holds values of type {type(item).__name__}; expected numbers or text"
        )
    try:
        return item.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PredictFailedError(
            f"output {name!r} holds bytes that are not UTF-8, which JSON cannot carry"
        ) from error
