"""Answers in parts as messages of ``ModelStreamInfer``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotset.codecs.base import StreamingCodec
from hotset.codecs.oip_grpc import OipGrpcCodec
from hotset.codecs.registry import by_name
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.messages.joined import Unpacker
from hotset.messages.pool import message_class
from hotset.payload import InferResponse
from hotset.runtimes.base import CallMeta

META = CallMeta("paris", 3)
Request = message_class("ModelInferRequest")
Response = message_class("ModelInferResponse")


def asked(*outputs: str, explicit: bool = False) -> bytes:
    request = Request(model_name="paris", id="seven")
    tensor = request.inputs.add(name="x", datatype="INT32", shape=[1])
    if explicit:
        tensor.contents.int_contents.append(1)
    else:
        request.raw_input_contents.append(bytes(4))
    for output in outputs:
        request.outputs.add(name=output)
    encoded: bytes = request.SerializeToString()
    return encoded


def written(part: Any, body: bytes) -> Any:
    codec = by_name("oip-grpc-stream")
    assert isinstance(codec, StreamingCodec)
    _, request = codec.decode_payload(body, META)
    writer = codec.part_writer(part, "text/csv", META, request)
    (message,) = Unpacker().feed(writer.write(part))
    return Response.FromString(message)


def test_a_part_is_a_whole_answer() -> None:
    answer = written({"y": np.array([1.5, 2.5]), "z": ["a"]}, asked())
    assert (answer.model_name, answer.model_version, answer.id) == ("paris", "3", "seven")
    assert [(it.name, it.datatype, list(it.shape)) for it in answer.outputs] == [
        ("y", "FP64", [2]), ("z", "BYTES", [1]),
    ]  # fmt: skip
    assert answer.raw_output_contents[0] == np.array([1.5, 2.5]).tobytes()


def test_text_is_an_output_of_its_own() -> None:
    answer = written("token", asked())
    assert [(it.name, it.datatype) for it in answer.outputs] == [("output-0", "BYTES")]
    assert answer.raw_output_contents[0] == b"\x05\x00\x00\x00token"


def test_it_has_the_form_and_the_outputs_of_the_request() -> None:
    answer = written({"y": [1.5], "z": [2]}, asked("y", explicit=True))
    assert [list(it.contents.fp64_contents) for it in answer.outputs] == [[1.5]]
    with pytest.raises(InvalidInputError, match="no output 'w'"):
        written({"y": [1.5]}, asked("w"))


def test_what_cannot_be_a_tensor_breaks_the_answer_off() -> None:
    with pytest.raises(PredictFailedError, match="output 'y'"):
        written({"y": [1j]}, asked())


def test_whole_answers_are_as_without_streams_and_none_is_empty() -> None:
    stream, plain = by_name("oip-grpc-stream"), by_name("oip-grpc")
    assert isinstance(plain, OipGrpcCodec)
    assert not isinstance(plain, StreamingCodec)
    _, request = plain.decode_payload(asked(), META)
    assert request is not None
    response = InferResponse({"y": np.ones(2)})
    assert stream.encode_tensors(response, request, META) == plain.encode_tensors(response, request, META)
    assert plain.encode_tensors(InferResponse({}), request, META).body
    assert isinstance(stream, StreamingCodec)
    assert stream.empty(None, META).body == b""
