"""A tensor's elements as the numbers of a gRPC message (``InferTensorContents``), in place of raw bytes.

Called by the ``oip-grpc`` codec. Small integers travel in a wider field, so their range is checked here. FP16 and BF16 have
no field: they exist only as raw bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from hotset.body_limits import check_elements
from hotset.codecs.rawtensors import BYTES, RAW_DATATYPES, element_count
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import DTYPES, Array

FIELDS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""The field that holds the elements of each datatype."""

_WIDE: Final = {"int_contents": np.dtype(np.int32), "uint_contents": np.dtype(np.uint32)}


def read_contents(contents: Any, datatype: str, shape: Sequence[int], where: str) -> Array:
    """Return the tensor in ``contents``.

    Raises:
        InvalidInputError: another field than the datatype's, a number out of its range, or not as many as the shape has.
    """
    field = _field(datatype, where)
    given = [descriptor.name for descriptor, _ in contents.ListFields()]
    if given not in ([field], []):
        raise InvalidInputError(f"{where}: expected {field} for {datatype}, found: {', '.join(given)}")
    values = getattr(contents, field)
    count = element_count(shape, where)
    if len(values) != count:
        raise InvalidInputError(
            f"{where}: the shape {list(shape)} has {count} elements, but {field} has: {len(values)}"
        )
    check_elements(count, where)
    return _array(values, datatype, field, where).reshape(shape)


def write_contents(contents: Any, array: Array, datatype: str, where: str) -> None:
    """Put the elements of an output into ``contents``.

    Raises:
        PredictFailedError: an element of BYTES is neither bytes nor text.
    """
    values: Any = array.ravel().tolist()
    if datatype == BYTES:
        values = [_element(value, where) for value in values]
    getattr(contents, FIELDS[datatype]).extend(values)


def _field(datatype: str, where: str) -> str:
    field = FIELDS.get(datatype)
    if field is not None:
        return field
    if datatype in RAW_DATATYPES:
        raise InvalidInputError(
            f"{where}: {datatype} has no field in the contents; send it in raw_input_contents"
        )
    raise InvalidInputError(
        f"{where}: expected a datatype of {', '.join(RAW_DATATYPES)}, found: {datatype[:40]!r}"
    )


def _array(values: Any, datatype: str, field: str, where: str) -> Array:
    if datatype == BYTES:
        elements = np.empty(len(values), dtype=object)
        elements[:] = list(values)
        return elements
    dtype = DTYPES[datatype]
    numbers: Array = np.fromiter(values, dtype=_WIDE.get(field, dtype), count=len(values))
    if numbers.dtype == dtype or not numbers.size:
        return numbers.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    least, most = int(numbers.min()), int(numbers.max())
    if least < limits.min or most > limits.max:
        found = least if least < limits.min else most
        raise InvalidInputError(
            f"{where}: expected {datatype} from {limits.min} to {limits.max}, found: {found}"
        )
    return numbers.astype(dtype)


def _element(value: Any, where: str) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    raise PredictFailedError(f"{where} holds values of type {type(value).__name__}; expected numbers or text")
