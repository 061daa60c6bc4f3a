"""The body of an Open Inference Protocol answer: JSON, and behind it the raw bytes of those outputs that are binary.

Pure; called by the ``oip`` codec. JSON data goes out flat; NaN goes out as ``null``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hotset.codecs.arrays import as_text
from hotset.codecs.content import BINARY
from hotset.codecs.jsontext import write_json
from hotset.codecs.oip_request import BINARY_HEADER, BINARY_ONLY, BinaryRequest
from hotset.codecs.rawtensors import BYTES, raw_datatype, write_tensor
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import Array, Encoded, InferRequest, InferResponse, datatype_of
from hotset.runtimes.base import CallMeta


class _Output(msgspec.Struct, gc=False):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any]


class _Size(msgspec.Struct, gc=False):
    binary_data_size: int


class _BinaryOutput(msgspec.Struct, gc=False):
    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: _Size


class _Response(msgspec.Struct, omit_defaults=True, kw_only=True):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[_Output | _BinaryOutput]


_HEADER: Final = BINARY_HEADER.title()


def write_answer(response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded:
    """Return the answer, each output in the form that the request asks for.

    Raises:
        PredictFailedError: an output is of a type that the protocol cannot carry.
        InvalidInputError: an output can be carried as binary data only, and was not asked for so.
    """
    if isinstance(request, BinaryRequest):
        return _with_binary(response, request, meta)
    outputs: list[_Output | _BinaryOutput] = [
        _output(name, array) for name, array in response.outputs.items()
    ]
    answer = _Response(
        model_name=meta.model_name, model_version=str(meta.model_version), id=request.id, outputs=outputs
    )
    return Encoded(write_json(answer))


def _with_binary(response: InferResponse, request: BinaryRequest, meta: CallMeta) -> Encoded:
    outputs: list[_Output | _BinaryOutput] = []
    parts: list[bytes | memoryview] = []
    for name, array in response.outputs.items():
        if request.is_binary(name):
            datatype = _datatype(name, array)
            part = write_tensor(array, datatype, f"output {name!r}")
            parts.append(part)
            outputs.append(_BinaryOutput(name, array.shape, datatype, _Size(len(part))))
        else:
            outputs.append(_output(name, array))
    answer = _Response(
        model_name=meta.model_name, model_version=str(meta.model_version), id=request.id, outputs=outputs
    )
    text = write_json(answer)
    if not any(map(len, parts)):
        return Encoded(text)
    return Encoded(b"".join((text, *parts)), BINARY, ((_HEADER, str(len(text))),))


def _datatype(name: str, array: Array) -> str:
    try:
        return raw_datatype(array)
    except TypeError as error:
        raise PredictFailedError(f"output {name!r}: {error}") from error


def _output(name: str, array: Array) -> _Output:
    try:
        datatype = datatype_of(array)
    except TypeError:
        datatype = _datatype(name, array)
    if datatype in BINARY_ONLY:
        raise InvalidInputError(
            f"output {name!r} is {datatype}, which JSON cannot carry; ask for it with the parameter 'binary_data'"
        )
    if datatype == BYTES:
        return _Output(name, array.shape, datatype, [_text(item, name) for item in array.ravel().tolist()])
    flat: list[Any] = array.ravel().tolist()
    return _Output(name, array.shape, datatype, flat)


def _text(item: Any, name: str) -> str:
    try:
        return item.decode() if isinstance(item, bytes) else as_text(item, name)
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"output {name!r} holds bytes that are not UTF-8, which JSON cannot carry;"
            " ask for it with the parameter 'binary_data'"
        ) from error
