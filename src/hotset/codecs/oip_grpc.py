"""The Open Inference Protocol v2 over gRPC, ``oip-grpc``: the messages of ``ModelInfer``, encoded.

Tensors come as raw bytes, which are taken as views of the message, or as the numbers of a message; never some so and some so.
The answer has the form of the request, but for outputs that only raw bytes can carry. Imported on the first request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from hotset.codecs.grpc_contents import FIELDS, read_contents, write_contents
from hotset.codecs.rawtensors import raw_datatype, read_tensor, write_tensor
from hotset.codecs.results import as_response
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.messages.fields import MalformedError, framed, spans, tag_of
from hotset.messages.parameters import PARAMETER, plain_values
from hotset.messages.pool import decoded, message_class
from hotset.payload import Array, Encoded, InferRequest, InferResponse, Signature
from hotset.runtimes.base import CallMeta

CONTENT_TYPE: Final = "application/grpc"

_ID: Final = tag_of(3)
_INPUT: Final = tag_of(5)
_OUTPUT: Final = tag_of(6)
_RAW: Final = tag_of(7)
_RAW_OUTPUT: Final = 6

_Input: Final = message_class("ModelInferRequest.InferInputTensor")
_Output: Final = message_class("ModelInferRequest.InferRequestedOutputTensor")
_Response: Final = message_class("ModelInferResponse")


@dataclass(slots=True)
class GrpcRequest(InferRequest):
    """A request whose inputs came as numbers, so that its outputs go out so."""

    explicit: bool = False


class OipGrpcCodec:
    """Stateless and thread-safe."""

    name = "oip-grpc"

    def decode_tensors(self, body: bytes | memoryview, meta: CallMeta, signature: Signature) -> InferRequest:
        del meta, signature
        return _read(body)

    def encode_tensors(self, response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded:
        return written(response, request, meta)

    def decode_payload(self, body: bytes | memoryview, meta: CallMeta) -> tuple[Any, InferRequest | None]:
        del meta
        request = _read(body)
        return dict(request.inputs), request

    def encode_result(self, result: Any, request: InferRequest | None, meta: CallMeta) -> Encoded:
        request = request or InferRequest({})
        return written(as_response(result, request), request, meta)


def _read(body: bytes | memoryview) -> InferRequest:
    raw: list[memoryview] = []
    tensors: list[Any] = []
    outputs: list[str] = []
    parameters: list[memoryview] = []
    own_id: memoryview | None = None
    view = memoryview(body)
    try:
        for tag, start, end in spans(body):
            if tag == _INPUT:
                tensors.append(decoded(_Input, bytes(view[start:end])))
            elif tag == _RAW:
                raw.append(view[start:end])
            elif tag == _OUTPUT:
                outputs.append(_output_name(decoded(_Output, bytes(view[start:end]))))
            elif tag == _ID:
                own_id = view[start:end]
            elif tag == PARAMETER:
                parameters.append(view[start:end])
        request_id = str(own_id, "utf-8") if own_id else None
        given = plain_values(parameters) if parameters else {}
    except (MalformedError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"not a ModelInferRequest: {error}") from error
    explicit = not raw and bool(tensors)
    inputs = _explicit_inputs(tensors) if explicit else _raw_inputs(tensors, raw)
    if len(inputs) < len(tensors):
        names = [tensor.name for tensor in tensors]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError(f"input {twice!r} is given twice")
    return GrpcRequest(inputs, tuple(outputs), request_id, given, explicit)


def _raw_inputs(tensors: list[Any], raw: list[memoryview]) -> dict[str, Array]:
    if len(raw) != len(tensors):
        raise InvalidInputError(
            f"raw_input_contents: expected one for each of the {len(tensors)} inputs, found: {len(raw)}"
        )
    inputs: dict[str, Array] = {}
    for tensor, data in zip(tensors, raw, strict=True):
        where = _where(tensor)
        if tensor.HasField("contents"):
            raise InvalidInputError(
                f"{where}: found contents beside raw_input_contents; expected all inputs in one of them"
            )
        inputs[tensor.name] = read_tensor(data, tensor.datatype, tuple(tensor.shape), where)
    return inputs


def _explicit_inputs(tensors: list[Any]) -> dict[str, Array]:
    return {
        tensor.name: read_contents(tensor.contents, tensor.datatype, tuple(tensor.shape), _where(tensor))
        for tensor in tensors
    }


def _where(tensor: Any) -> str:
    """Return how messages name an input; refuse one whose data is elsewhere."""
    where = f"input {tensor.name!r}"
    if "shared_memory_region" in tensor.parameters:
        raise _no_shared_memory(where)
    return where


def _output_name(output: Any) -> str:
    name: str = output.name
    if "shared_memory_region" in output.parameters:
        raise _no_shared_memory(f"output {name!r}")
    if "classification" in output.parameters:
        raise InvalidInputError(f"output {name!r}: this server does not have the classification extension")
    return name


def _no_shared_memory(where: str) -> InvalidInputError:
    return InvalidInputError(
        f"{where}: this server does not have the shared memory extensions; send data in the message"
    )


def written(response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded:
    """Return a ``ModelInferResponse``, encoded."""
    datatypes = {name: _datatype(name, array) for name, array in response.outputs.items()}
    answer = _Response(model_name=meta.model_name, model_version=str(meta.model_version), id=request.id)
    for name, array in response.outputs.items():
        answer.outputs.add(name=name, datatype=datatypes[name], shape=array.shape)
    explicit = isinstance(request, GrpcRequest) and request.explicit
    if explicit and all(datatype in FIELDS for datatype in datatypes.values()):
        for output, array in zip(answer.outputs, response.outputs.values(), strict=True):
            write_contents(output.contents, array, output.datatype, f"output {output.name!r}")
        return Encoded(answer.SerializeToString(), CONTENT_TYPE)
    parts: list[bytes | memoryview] = [answer.SerializeToString()]
    for name, array in response.outputs.items():
        data = write_tensor(array, datatypes[name], f"output {name!r}")
        parts += (framed(_RAW_OUTPUT, len(data)), data)
    return Encoded(b"".join(parts), CONTENT_TYPE)


def _datatype(name: str, array: Array) -> str:
    try:
        return raw_datatype(array)
    except TypeError as error:
        raise PredictFailedError(f"output {name!r}: {error}") from error
