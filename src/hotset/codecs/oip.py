"""The Open Inference Protocol v2 with JSON data, ``oip``: the bodies of KServe's and Triton's ``infer`` over REST.

Data comes in flat or nested as the shape is, and goes out flat. ``null`` among floats is NaN, both ways. The binary
extension is refused, saying so; FP16 and BF16 exist only there. Unknown keys are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from math import prod
from types import GenericAlias
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from hotset.codecs.arrays import MAX_DIMENSIONS, as_text
from hotset.codecs.jsontext import read_json, write_json
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import DTYPES, Array, Encoded, InferRequest, InferResponse, Signature, datatype_of
from hotset.runtimes.base import CallMeta

BINARY_HEADER: Final = "inference-header-content-length"
ONLY_OUTPUT: Final = "output-0"

_NESTED: Final = re.compile(rb"\s*\[\s*\[")
_BINARY_ONLY: Final = frozenset({"FP16", "BF16"})


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


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw(b"")


class _WantedOutput(msgspec.Struct, gc=False):
    name: str


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_WantedOutput] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any]


class _Response(msgspec.Struct, omit_defaults=True, kw_only=True):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[_Output]


_REQUEST: Final = msgspec.json.Decoder(_Request)


class OipCodec:
    """Stateless and thread-safe."""

    name = "oip"

    def decode_tensors(self, body: bytes | memoryview, meta: CallMeta, signature: Signature) -> InferRequest:
        del signature
        return _read(body, meta)

    def encode_tensors(self, response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded:
        outputs = [_written(name, array) for name, array in response.outputs.items()]
        answer = _Response(
            model_name=meta.model_name, model_version=str(meta.model_version), id=request.id, outputs=outputs
        )
        return Encoded(write_json(answer))

    def decode_payload(self, body: bytes | memoryview, meta: CallMeta) -> tuple[Any, InferRequest | None]:
        request = _read(body, meta)
        return dict(request.inputs), request

    def encode_result(self, result: Any, request: InferRequest | None, meta: CallMeta) -> Encoded:
        request = request or InferRequest({})
        outputs = _result_arrays(result)
        if request.outputs:
            outputs = {name: _wanted(name, outputs) for name in request.outputs}
        return self.encode_tensors(InferResponse(outputs), request, meta)


def _read(body: bytes | memoryview, meta: CallMeta) -> InferRequest:
    if any(name == BINARY_HEADER for name, _ in meta.headers):
        raise InvalidInputError(
            "the binary tensor data extension is not supported; send JSON data, without the header: "
            "Inference-Header-Content-Length"
        )
    asked = read_json(_REQUEST, body)
    inputs: dict[str, Array] = {}
    for tensor in asked.inputs:
        if tensor.name in inputs:
            raise InvalidInputError(f"input {tensor.name!r} is given twice")
        inputs[tensor.name] = _array(tensor)
    outputs = tuple(output.name for output in asked.outputs) if asked.outputs else ()
    return InferRequest(inputs, outputs, asked.id, asked.parameters or {})


def _array(tensor: _Input) -> Array:
    where, shape = f"input {tensor.name!r}", tensor.shape
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidInputError(f"{where}: expected at most {MAX_DIMENSIONS} dimensions, found: {len(shape)}")
    if shape and min(shape) < 0:
        raise InvalidInputError(f"{where}: expected sizes of 0 or more in the shape, found: {shape}")
    data: Any = tensor.data
    if not memoryview(data).nbytes:
        raise InvalidInputError(f"{where}: 'data' is missing; binary data is not supported")
    depth = len(shape) if len(shape) > 1 and _NESTED.match(data) else 1
    values = read_json(_decoder(tensor.datatype, depth, where), data, what=where, root="data")
    if depth == 1 and len(values) != prod(shape):
        raise InvalidInputError(
            f"{where}: the shape {shape} has {prod(shape)} elements, but the data has: {len(values)}"
        )
    return _shaped(values, tensor.datatype, shape, where)


def _decoder(datatype: str, depth: int, where: str) -> msgspec.json.Decoder[list[Any]]:
    if datatype in _ELEMENTS:
        return _list_decoder(datatype, depth)
    if datatype in _BINARY_ONLY:
        raise InvalidInputError(f"{where}: {datatype} cannot be sent as JSON; send FP32")
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


def _written(name: str, array: Array) -> _Output:
    try:
        datatype = datatype_of(array)
    except TypeError as error:
        raise PredictFailedError(f"output {name!r}: {error}") from error
    if datatype in _BINARY_ONLY:
        raise PredictFailedError(f"output {name!r} is {datatype}, which JSON cannot carry; return FP32")
    if datatype == "BYTES":
        return _Output(name, array.shape, datatype, [as_text(item, name) for item in array.ravel().tolist()])
    flat: list[Any] = array.ravel().tolist()
    return _Output(name, array.shape, datatype, flat)


def _result_arrays(result: Any) -> dict[str, Array]:
    """Return what the user's ``predict`` gave as arrays: a mapping by name, or one array-like."""
    if isinstance(result, InferResponse):
        return result.outputs
    if isinstance(result, Mapping):
        return {str(name): _result_array(str(name), value) for name, value in result.items()}
    return {ONLY_OUTPUT: _result_array(ONLY_OUTPUT, result)}


def _result_array(name: str, value: Any) -> Array:
    try:
        if isinstance(value, bytes | bytearray):
            return np.array([bytes(value)], dtype=object)
        return np.atleast_1d(np.asarray(value))
    except (ValueError, TypeError, OverflowError) as error:
        raise PredictFailedError(f"output {name!r} is not an array: {error}") from error


def _wanted(name: str, outputs: Mapping[str, Array]) -> Array:
    array = outputs.get(name)
    if array is None:
        raise InvalidInputError(f"no output {name!r}; this model has: {', '.join(outputs) or 'none'}")
    return array
