"""Messages of ``ModelInfer`` to tensors and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hotset.codecs.grpc_contents import FIELDS
from hotset.codecs.oip import OipCodec
from hotset.codecs.oip_grpc import OipGrpcCodec
from hotset.codecs.oip_request import BinaryRequest
from hotset.codecs.registry import by_name
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.messages.pool import message_class
from hotset.payload import DTYPES, Array, InferRequest, InferResponse, Signature
from hotset.runtimes.base import CallMeta

CODEC = OipGrpcCodec()
META = CallMeta("paris", 3)
SIGNATURE = Signature("sklearn")
Request = message_class("ModelInferRequest")
Response = message_class("ModelInferResponse")


def tensors(datatype: str) -> st.SearchStrategy[Array]:
    shapes = npst.array_shapes(min_dims=0, min_side=0, max_side=4)
    if datatype == "BYTES":
        return npst.arrays(object, shapes, elements=st.binary(max_size=8))
    return npst.arrays(DTYPES[datatype], shapes)


datatypes = st.sampled_from(sorted(DTYPES))
named = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    datatypes.flatmap(tensors),
    min_size=1,
    max_size=3,
)


def same(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


def as_request(answer: bytes) -> bytes:
    """An answer's tensors, as a client would send them."""
    response = Response.FromString(answer)
    request = Request(model_name="paris", id=response.id)
    for output in response.outputs:
        request.inputs.add().MergeFromString(output.SerializeToString())
    request.raw_input_contents.extend(response.raw_output_contents)
    return request.SerializeToString()


def read(body: bytes) -> InferRequest:
    return CODEC.decode_tensors(body, META, SIGNATURE)


def written(outputs: dict[str, Array], request: InferRequest) -> bytes:
    return bytes(CODEC.encode_tensors(InferResponse(outputs), request, META).body)


@given(named, st.booleans(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
def test_what_it_writes_it_reads(outputs: dict[str, Array], numbers: bool, own_id: str) -> None:
    """In both forms, but for what only raw bytes can carry."""
    first = Request(id=own_id)
    if numbers:
        first.inputs.add(name="x", datatype="FP64", shape=[0])
    answer = written(outputs, read(first.SerializeToString()))

    again = read(as_request(answer))

    kinds = {output.datatype for output in Response.FromString(answer).outputs}
    assert bool(Response.FromString(answer).raw_output_contents) != (numbers and kinds <= FIELDS.keys())
    assert again.inputs.keys() == outputs.keys()
    assert again.id == (own_id or None)
    for name, array in outputs.items():
        assert same(again.inputs[name], array)


@given(st.binary(max_size=60))
def test_whatever_the_bytes(body: bytes) -> None:
    try:
        request = read(body)
    except InvalidInputError:
        return
    assert isinstance(request, InferRequest)


def test_an_answer_says_who_it_is_from() -> None:
    request = read(Request(id="7").SerializeToString())
    encoded = CODEC.encode_tensors(InferResponse({"y": np.array([1.0])}), request, META)
    answer = Response.FromString(encoded.body)
    assert (answer.model_name, answer.model_version, answer.id) == ("paris", "3", "7")
    assert encoded.content_type == "application/grpc"


def test_raw_tensors_are_views_of_what_came() -> None:
    """A large tensor is not copied where it lies as NumPy wants it."""
    for pad in range(8):
        request = Request(id="x" * (pad + 1))
        request.inputs.add(name="x", datatype="FP64", shape=[1000])
        request.raw_input_contents.append(bytes(8000))
        body = memoryview(request.SerializeToString())
        if np.shares_memory(read(body).inputs["x"], np.frombuffer(body, np.uint8)):
            return
    raise AssertionError("always copied")


def test_outputs_and_parameters() -> None:
    request = Request()
    request.outputs.add(name="a")
    request.outputs.add(name="b")
    request.parameters["priority"].uint64_param = 3
    request.parameters["sequence"].bool_param = True
    request.parameters["empty"].SetInParent()
    found = read(request.SerializeToString())
    assert found.outputs == ("a", "b")
    assert found.parameters == {"priority": 3, "sequence": True}


@pytest.mark.parametrize(
    ("where", "name", "message"),
    [
        ("inputs", "shared_memory_region", "input 'x': this server does not have the shared memory"),
        ("outputs", "shared_memory_region", "output 'x': this server does not have the shared memory"),
        ("outputs", "classification", "output 'x': this server does not have the classification"),
    ],
)
def test_extensions_that_there_are_not(where: str, name: str, message: str) -> None:
    request = Request()
    tensor = getattr(request, where).add(name="x")
    tensor.parameters[name].int64_param = 1
    with pytest.raises(InvalidInputError, match=message):
        read(request.SerializeToString())


def test_the_users_code_gets_arrays_by_name_and_gives_what_it_likes() -> None:
    request = Request()
    request.inputs.add(name="x", datatype="INT8", shape=[2]).contents.int_contents.extend([1, -1])
    request.outputs.add(name="y")
    payload, source = CODEC.decode_payload(request.SerializeToString(), META)
    assert payload["x"].tolist() == [1, -1]

    answer = Response.FromString(CODEC.encode_result({"y": [1.5], "z": 2}, source, META).body)

    assert [output.name for output in answer.outputs] == ["y"]
    assert list(answer.outputs[0].contents.fp64_contents) == [1.5]
    with pytest.raises(InvalidInputError, match="no output 'y'"):
        CODEC.encode_result({"z": 2}, source, META)


@pytest.mark.parametrize("numbers", [True, False])
@pytest.mark.parametrize(
    ("result", "message"),
    [(np.array([1j]), "no Open Inference type"), (np.array([object()]), "values of type object")],
)
def test_what_cannot_be_carried(numbers: bool, result: Any, message: str) -> None:
    request = Request()
    if numbers:
        request.inputs.add(name="x", datatype="FP64", shape=[0])
    with pytest.raises(PredictFailedError, match=message):
        written({"y": result}, read(request.SerializeToString()))


@given(named)
def test_the_other_door_gives_the_same_bytes(outputs: dict[str, Array]) -> None:
    """REST's binary extension and raw contents carry one model's answer bit by bit alike."""
    rest = OipCodec().encode_tensors(InferResponse(outputs), BinaryRequest({}, all_binary=True), META)
    head = int(dict(rest.headers).get("Inference-Header-Content-Length", len(rest.body)))
    answer = Response.FromString(written(outputs, InferRequest({})))
    assert bytes(rest.body[head:]) == b"".join(answer.raw_output_contents)
    shown = json.loads(bytes(rest.body[:head]))["outputs"]
    assert [(it["name"], it["datatype"], it["shape"]) for it in shown] == [
        (it.name, it.datatype, list(it.shape)) for it in answer.outputs
    ]


def test_it_is_found_by_its_name() -> None:
    assert by_name("oip-grpc") is by_name("oip-grpc")
    assert by_name("oip-grpc").name == "oip-grpc"
