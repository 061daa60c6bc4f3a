"""The body of an Open Inference Protocol request: JSON, and behind it the raw bytes of those inputs that are binary.

Pure; called by the ``oip`` codec. JSON data comes flat or nested as the shape is; ``null`` among floats is NaN. FP16 and
BF16 exist only as binary data. Unknown keys are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import GenericAlias
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from hotset.body_limits import LIMITS, check_depth, check_elements
from hotset.codecs.jsontext import read_json
from hotset.codecs.oip_raw import read_raw
from hotset.codecs.rawtensors import element_count, read_tensor
from hotset.errors import InvalidInputError
from hotset.payload import DTYPES, Array, InferRequest, Signature

BINARY_HEADER: Final = "inference-header-content-length"
BINARY_ONLY: Final = frozenset({"FP16", "BF16"})

_ALL_BINARY: Final = "binary_data_output"
_NESTED: Final = re.compile(rb"\s*\[\s*\[")
_MOST_DIGITS: Final = 15


def _integer(bits: int, *, signed: bool) -> Any:
    low = -(2 ** (bits - 1)) if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    # Limits past 64 signed bits are NumPy's to check.
    limit = msgspec.Meta(ge=low, le=high) if high < 2**63 else msgspec.Meta(ge=low)
    return Annotated[int, limit] if not signed or bits < 64 else int


_FP32_MAX: Final = float(np.finfo(np.float32).max)

_ELEMENTS: Final[Mapping[str, Any]] = {
    "BOOL": bool,
    **{f"UINT{bits}": _integer(bits, signed=False) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": _integer(bits, signed=True) for bits in (8, 16, 32, 64)},
    "FP32": Annotated[float, msgspec.Meta(ge=-_FP32_MAX, le=_FP32_MAX)] | None,
    "FP64": float | None,
    "BYTES": str,
}
"""What JSON may hold for each datatype, with its range, as msgspec checks it while it reads."""


class _InputParameters(msgspec.Struct, gc=False):
    binary_data_size: int | None = None
    shared_memory_region: str | None = None


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw(b"")
    parameters: _InputParameters | None = None


class _OutputParameters(msgspec.Struct, gc=False):
    binary_data: bool | None = None
    shared_memory_region: str | None = None
    classification: int | None = None


class _WantedOutput(msgspec.Struct, gc=False):
    name: str
    parameters: _OutputParameters | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_WantedOutput] | None = None


_REQUEST: Final = msgspec.json.Decoder(_Request)


@dataclass(slots=True)
class BinaryRequest(InferRequest):
    """A request that wants outputs as raw bytes: ``binary`` says so of some by name, ``all_binary`` of all others."""

    all_binary: bool = False
    binary: Mapping[str, bool] = field(default_factory=dict)

    def is_binary(self, output: str) -> bool:
        return self.binary.get(output, self.all_binary)


class _Tail:
    """What is behind the JSON of a body. Legal order: any ``take``, in the order of the inputs, then ``finish``."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._start = 0

    def take(self, size: int, where: str) -> memoryview:
        left = len(self._data) - self._start
        if not 0 <= size <= left:
            raise InvalidInputError(
                f"{where}: 'binary_data_size' is {size}, but behind the JSON and the inputs before it the body has "
                f"{left} bytes"
            )
        self._start += size
        return self._data[self._start - size : self._start]

    def finish(self) -> None:
        left = len(self._data) - self._start
        if left:
            raise InvalidInputError(f"the body has {left} bytes behind the data of its last binary input")


def read_request(
    body: bytes | memoryview, headers: tuple[tuple[str, str], ...], signature: Signature | None
) -> InferRequest:
    """Return the request in ``body``; ``signature`` is what the model declares, None for the user's own code.

    Raises:
        InvalidInputError: whatever does not fit; the message names the input.
    """
    length = _json_length(headers) if headers else None
    if length is None:
        if len(body) > LIMITS.json_depth:
            check_depth(body, "the body")
        return _request(read_json(_REQUEST, body), None)
    if length == 0:
        return BinaryRequest(read_raw(body, signature), all_binary=True)
    whole = memoryview(body)
    if length > len(whole):
        raise InvalidInputError(
            f"{BINARY_HEADER.title()} says that the JSON has {length} bytes, but the body has: {len(whole)}"
        )
    tail = _Tail(whole[length:])
    check_depth(whole[:length], "the body")
    request = _request(read_json(_REQUEST, whole[:length]), tail)
    tail.finish()
    return request


def _json_length(headers: tuple[tuple[str, str], ...]) -> int | None:
    for name, value in headers:
        if name == BINARY_HEADER:
            text = value.strip()
            if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
                raise InvalidInputError(
                    f"expected {BINARY_HEADER.title()} to be a number of bytes, found: {value[:40]!r}"
                )
            return int(text)
    return None


def _request(asked: _Request, tail: _Tail | None) -> InferRequest:
    inputs: dict[str, Array] = {}
    for tensor in asked.inputs:
        if tensor.name in inputs:
            raise InvalidInputError(f"input {tensor.name!r} is given twice")
        inputs[tensor.name] = _array(tensor) if tensor.parameters is None else _with_parameters(tensor, tail)
    if not asked.outputs and not asked.parameters:
        return InferRequest(inputs, (), asked.id)
    return _with_wishes(inputs, asked)


def _with_wishes(inputs: dict[str, Array], asked: _Request) -> InferRequest:
    wanted, parameters = asked.outputs or [], asked.parameters or {}
    outputs = tuple(output.name for output in wanted)
    # Taken out, because requests that differ in nothing else may be predicted together.
    all_binary = parameters.pop(_ALL_BINARY, False)
    if not isinstance(all_binary, bool):
        raise InvalidInputError(
            f"expected true or false for the parameter {_ALL_BINARY!r}, found: {str(all_binary)[:40]!r}"
        )
    binary = dict(filter(None, map(_binary_wish, wanted)))
    if all_binary or any(binary.values()):
        return BinaryRequest(inputs, outputs, asked.id, parameters, all_binary, binary)
    return InferRequest(inputs, outputs, asked.id, parameters)


def _binary_wish(output: _WantedOutput) -> tuple[str, bool] | None:
    parameters = output.parameters
    if parameters is None:
        return None
    if parameters.shared_memory_region is not None:
        raise _no_shared_memory(f"output {output.name!r}")
    if parameters.classification:
        raise InvalidInputError(
            f"output {output.name!r}: this server does not have the classification extension"
        )
    return None if parameters.binary_data is None else (output.name, parameters.binary_data)


def _no_shared_memory(where: str) -> InvalidInputError:
    return InvalidInputError(
        f"{where}: this server does not have the shared memory extensions; send data in the body"
    )


def _with_parameters(tensor: _Input, tail: _Tail | None) -> Array:
    where, parameters = f"input {tensor.name!r}", tensor.parameters
    assert parameters is not None
    if parameters.shared_memory_region is not None:
        raise _no_shared_memory(where)
    size = parameters.binary_data_size
    if size is None:
        return _array(tensor)
    if memoryview(tensor.data).nbytes:
        raise InvalidInputError(f"{where}: found both 'data' and 'binary_data_size'; expected one of them")
    if tail is None:
        raise InvalidInputError(
            f"{where}: 'binary_data_size' needs the header {BINARY_HEADER.title()}, the length of the JSON"
        )
    return read_tensor(tail.take(size, where), tensor.datatype, tensor.shape, where)


def _array(tensor: _Input) -> Array:
    where, shape = f"input {tensor.name!r}", tensor.shape
    count = element_count(shape, where)
    data: Any = tensor.data
    if not memoryview(data).nbytes:
        raise InvalidInputError(
            f"{where}: expected 'data', or the parameter 'binary_data_size'; found neither"
        )
    depth = len(shape) if len(shape) > 1 and _NESTED.match(data) else 1
    values = read_json(_decoder(tensor.datatype, depth, where), data, what=where, root="data")
    if depth == 1 and len(values) != count:
        raise InvalidInputError(
            f"{where}: the shape {shape} has {count} elements, but the data has: {len(values)}"
        )
    check_elements(count, where)
    return _shaped(values, tensor.datatype, shape, where)


def _decoder(datatype: str, depth: int, where: str) -> msgspec.json.Decoder[list[Any]]:
    if datatype in _ELEMENTS:
        return _list_decoder(datatype, depth)
    if datatype in BINARY_ONLY:
        raise InvalidInputError(
            f"{where}: {datatype} cannot be sent as JSON; send it as binary data, or send FP32"
        )
    raise InvalidInputError(
        f"{where}: expected a datatype of {', '.join(_ELEMENTS)}, found: {datatype[:40]!r}"
    )


@cache
def _list_decoder(datatype: str, depth: int) -> msgspec.json.Decoder[list[Any]]:
    element = _ELEMENTS[datatype]
    for _ in range(depth):
        element = GenericAlias(list, (element,))
    return msgspec.json.Decoder(element)


def _shaped(values: list[Any], datatype: str, shape: list[int], where: str) -> Array:
    try:
        array: Array = np.array(values, dtype=DTYPES[datatype])
        if array.ndim > 1 and array.size and list(array.shape) != shape:
            raise InvalidInputError(
                f"{where}: the data is nested as {list(array.shape)}, but the shape is: {shape}"
            )
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"{where}: the data does not fit {datatype} of the shape {shape}: {error}"
        ) from error
