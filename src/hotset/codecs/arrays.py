"""JSON values to arrays and back, one tensor at a time, with the place of whatever does not fit.

Called by the row format and by codecs that hold decoded JSON. The usual case, numbers in equal rows, is one call of
NumPy; everything else is looked at closely only once that call has shown that it is not the usual case.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import numpy as np

from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import DTYPES, Array

MAX_DIMENSIONS: Final = 64
_NUMBERS: Final = frozenset({int, float, bool, type(None)})


def to_array(value: Any, datatype: str | None, where: str) -> Array:
    """Return nested lists, or one value, as an array of the declared type; of the natural one where it is None.

    ``null`` is NaN among floats. Text among numbers makes an array of objects where no type was declared.

    Raises:
        InvalidInputError: uneven rows, or a value of another type; the message names the place in ``where``.
    """
    try:
        array = np.array(value)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(_uneven(value, where)) from error
    if array.dtype.kind in "UO":
        array = _objects(value, array.shape, datatype, where)
    if datatype is None or not array.size:
        return array if datatype is None else array.astype(DTYPES[datatype])
    return _cast(array, datatype, value, where)


def _objects(value: Any, shape: tuple[int, ...], datatype: str | None, where: str) -> Array:
    """Read what NumPy took for text or objects: text, nulls, base64 objects, integers past 64 bits."""
    array: Array = np.array(value, dtype=object)
    if array.shape != shape:
        raise InvalidInputError(_uneven(value, where))
    kinds = set(map(type, array.flat))
    if kinds <= _NUMBERS and datatype != "BYTES":
        return _floats(array, where)
    if datatype not in {None, "BYTES"}:
        raise _misfit(value, datatype, where)
    if dict in kinds:
        for index, item in enumerate(array.flat):
            if type(item) is dict:
                array.flat[index] = _from_base64(item, where)
    return array


def _floats(array: Array, where: str) -> Array:
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise InvalidInputError(f"{where}: a number is out of range") from error


def _cast(array: Array, datatype: str, value: Any, where: str) -> Array:
    target = DTYPES[datatype]
    if array.dtype == target and datatype != "BYTES":
        return array
    found, wanted = array.dtype.kind, target.kind
    if wanted == "f" and found in "iuf":
        return _narrowed(array, target, datatype, where)
    if wanted in "iu" and found in "iu":
        limits = np.iinfo(target)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            worst = low if low < limits.min else high
            raise InvalidInputError(f"{where}: {worst} is out of range for {datatype}")
        return array.astype(target)
    if wanted == "O" and found == "O" and set(map(type, array.flat)) <= {str, bytes}:
        return array
    raise _misfit(value, datatype, where)


def _narrowed(array: Array, target: np.dtype[Any], datatype: str, where: str) -> Array:
    try:
        with np.errstate(over="raise"):
            return array.astype(target)
    except FloatingPointError as error:
        raise InvalidInputError(f"{where}: a number is out of range for {datatype}") from error


def _from_base64(item: dict[str, Any], where: str) -> bytes:
    if not is_base64(item):
        raise InvalidInputError(f"{where}: expected a value, found an object with the keys: {_keys(item)}")
    try:
        return base64.b64decode(item["b64"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidInputError(f"{where}: not base64: {error}") from error


def is_base64(value: Any) -> bool:
    """Whether a value is ``{"b64": …}``: bytes, and not an object with fields."""
    return type(value) is dict and len(value) == 1 and "b64" in value


def _keys(item: dict[str, Any]) -> str:
    return ", ".join(sorted(item)[:10]) or "none"


def _misfit(value: Any, datatype: str | None, where: str) -> InvalidInputError:
    place, item = _first(value, datatype or "", where)
    return InvalidInputError(f"{place}: expected {datatype}, found: {_kind(item)}")


def _first(value: Any, datatype: str, where: str) -> tuple[str, Any]:
    """Return the place of the first value that is not of the type, and that value."""
    if type(value) is list:
        for index, item in enumerate(value):
            place, found = _first(item, datatype, where)
            if place:
                return f"{where}[{index}]{place[len(where) :]}", found
        return "", None
    return ("", None) if type(value) in _PYTHON[DTYPES[datatype].kind] else (where, value)


_PYTHON: Final[dict[str, frozenset[type]]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float, type(None)}),
    "O": frozenset({str, bytes}),
}


def _kind(item: Any) -> str:
    names = {str: "text", bool: "a boolean", type(None): "null", dict: "an object", list: "a list"}
    return names.get(type(item)) or f"the number {item}"


def _uneven(value: Any, where: str) -> str:
    """Say where lists that should be equally long, or equally deep, are not."""
    place = where
    for _ in range(MAX_DIMENSIONS):
        if type(value) is not list:
            break
        sizes = [len(item) if type(item) is list else None for item in value]
        odd = next((index for index, size in enumerate(sizes) if size != sizes[0]), None)
        if odd is not None:
            return f"{place}[{odd}]: expected {_size(sizes[0])} as in {place}[0], found: {_size(sizes[odd])}"
        index = next((index for index, item in enumerate(value) if _is_uneven(item)), 0)
        place, value = f"{place}[{index}]", value[index] if value else None
    else:
        return f"{where}: nested more than {MAX_DIMENSIONS} deep"
    return f"{where}: the rows differ in length or depth"


def _is_uneven(item: Any) -> bool:
    try:
        np.array(item)
    except (ValueError, OverflowError):
        return True
    return False


def _size(size: int | None) -> str:
    return "a single value" if size is None else f"a list of {size}"


def to_lists(array: Array, name: str) -> Any:
    """Return an output as nested lists for JSON; bytes as text.

    Raises:
        PredictFailedError: an output holds bytes that are not UTF-8, or objects that are not text.
    """
    if array.dtype.kind not in "SO":
        return array.tolist()
    flat = np.empty(array.size, dtype=object)
    flat[:] = [as_text(item, name) for item in array.flat]
    return flat.reshape(array.shape).tolist()


def as_text(item: Any, name: str) -> str:
    """Return one BYTES element as text."""
    if isinstance(item, str):
        return str(item)
    if not isinstance(item, bytes):
        raise PredictFailedError(f"output {name!r} holds a {type(item).__name__}; expected numbers or text")
    try:
        return item.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PredictFailedError(
            f"output {name!r} holds bytes that are not UTF-8, which JSON cannot carry"
        ) from error
