"""hotset's own protocol."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import numpy as np
import pydantic
import pytest

from hotset.codecs.arrow import read_table, write_outputs
from hotset.codecs.native import NativeCodec
from hotset.codecs.npy import read_npy, read_npz, write_npy, write_npz
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import Encoded, InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta
from hotset.shared.arena import LARGE_BYTES

META = CallMeta("paris", 3)
ONE = Signature("sklearn", (TensorSpec("x", None, (-1, 2)),))
CODEC = NativeCodec()


def ask(body: bytes, outputs: dict[str, Any]) -> Any:
    request = CODEC.decode_tensors(body, META, ONE)
    encoded = CODEC.encode_tensors(InferResponse(outputs), request, META)
    assert encoded.content_type == "application/json"
    return json.loads(encoded.body)


def test_rows_in_rows_out() -> None:
    answer = ask(b'{"signature_name": "serving_default", "instances": [[1, 2]]}', {"y": np.array([0.5])})
    assert answer == {"predictions": [0.5]}


def test_columns_in_columns_out() -> None:
    assert ask(b'{"inputs": [[1, 2]]}', {"y": np.array([0.5])}) == {"outputs": [0.5]}
    both = {"y": np.array([1]), "z": np.array([2])}
    assert ask(b'{"inputs": {"x": [[1, 2]]}}', both) == {"outputs": {"y": [1], "z": [2]}}


def test_outputs_are_chosen_by_name() -> None:
    assert CODEC.decode_tensors(b'{"instances": [1], "outputs": ["p", "q"]}', META, ONE).outputs == ("p", "q")
    assert CODEC.decode_tensors(b'{"instances": [1], "outputs": null}', META, ONE).outputs == ()


def test_nan_goes_out_as_null() -> None:
    answer = ask(b'{"instances": [[1, 2]]}', {"y": np.array([np.nan, np.inf])})
    assert answer == {"predictions": [None, None]}


def test_null_comes_in_as_nan() -> None:
    array = CODEC.decode_tensors(b'{"instances": [[1, null]]}', META, ONE).inputs["x"]
    np.testing.assert_array_equal(array, [[1.0, np.nan]])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"[]", "the body: Expected `object`, got `array`"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"inputs": [1], "instances": [1]}', "found both 'inputs' and 'instances'"),
        (b'{"instances": {"x": 1}}', "the body: Expected `array.*`, got `object` - at `instances`"),
        (b'{"instances": [1], "outputs": "p"}', "at `outputs`"),
        (b'{"instances": ' + b"[" * 70 + b"]" * 70 + b"}", "nested more than 64 deep"),
        (b'{"instances": ' + b"[" * 9000 + b"]" * 9000 + b"}", "nested too deeply"),
        (b'{"instances": [NaN]}', "not valid JSON"),
        (b'{"instances": [1e999]}', "out of range"),
    ],
)
def test_refuses(body: bytes, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        CODEC.decode_tensors(body, META, ONE)


class Trip(pydantic.BaseModel):
    fare: float


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("result", "body", "content_type"),
    [
        ({"a": [1, None, True]}, b'{"a":[1,null,true]}', "application/json"),
        (None, b"null", "application/json"),
        (
            {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)},
            b'{"a":0.5,"b":3,"c":true}',
            "application/json",
        ),
        (np.array([[1, 2]]), b"[[1,2]]", "application/json"),
        ([np.array([1.5, np.nan])], b"[[1.5,null]]", "application/json"),
        (np.float64(2.5), b"2.5", "application/json"),
        ({np.int64(1): 2}, b'{"1":2}', "application/json"),
        (Trip(fare=2.5), b'{"fare":2.5}', "application/json"),
        ([Point(1)], b'[{"x":1}]', "application/json"),
        ({dt.date(2024, 1, 2)}, b'["2024-01-02"]', "application/json"),
        (float("nan"), b"null", "application/json"),
        ("café", "café".encode(), "text/plain; charset=utf-8"),
        (b"\x00\xff", b"\x00\xff", "application/octet-stream"),
        (bytearray(b"ab"), b"ab", "application/octet-stream"),
        (memoryview(b"ab"), b"ab", "application/octet-stream"),
    ],
)
def test_results_by_their_type(result: object, body: bytes, content_type: str) -> None:
    encoded = CODEC.encode_result(result, None, META)
    assert (encoded.body, encoded.content_type) == (body, content_type)


def looped() -> list:
    loop: list = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (object(), "cannot be written as JSON: a value of type object"),
        ([1j], "a value of type complex"),
        (np.array([1j]), "a value of type complex"),
        (looped(), "nested too deeply"),
        ("\ud800", "is not Unicode"),
        (["\ud800"], "cannot be written as JSON"),
        ({(1, 2): 3}, "cannot be written as JSON"),
        ([10**5000], "cannot be written as JSON"),
    ],
)
def test_results_that_no_protocol_carries(result: object, words: str) -> None:
    with pytest.raises(PredictFailedError, match=words):
        CODEC.encode_result(result, None, META)


def test_the_payload_goes_by_the_content_type() -> None:
    meta = CallMeta("paris", 3, "text/plain")
    assert CODEC.decode_payload(b"[1]", meta) == ("[1]", None)
    assert CODEC.decode_payload(b"[1]", META) == ([1], None)


@pytest.mark.parametrize("size", [0, 5, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 3])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_kind_go_out_and_only_large_ones_uncopied(kind: type, size: int) -> None:
    result = kind(bytes(size))
    body = CODEC.encode_result(result, None, META).body
    assert body == bytes(size)
    assert isinstance(body, memoryview) == (size >= LARGE_BYTES and kind is not bytes)


def test_large_arrays_of_numbers_as_views_go_out_as_their_bytes() -> None:
    array = np.arange(LARGE_BYTES, dtype="<f4").reshape(16, -1)
    for view in (array.data, array[::2].data, array.T.data, array.astype(">f4").data):
        body = CODEC.encode_result(view, None, META).body
        assert bytes(body) == view.tobytes()
        assert len(body) == view.nbytes


def test_bodies_as_views_are_read_as_bytes_are() -> None:
    cases = {
        "application/json": b'{"a": [1, 2.5]}',
        "text/plain; charset=utf-8": "café".encode(),
        "application/x-www-form-urlencoded": b"a=1&b=2",
        "": b"[1]",
    }
    for content_type, body in cases.items():
        meta = dataclasses.replace(META, content_type=content_type)
        assert CODEC.decode_payload(memoryview(body), meta) == CODEC.decode_payload(body, meta)


@pytest.mark.parametrize(
    "kind", ["application/x-npy", "application/x-npz", "application/vnd.apache.arrow.stream"]
)
def test_arrays_are_answered_in_the_form_of_the_request(kind: str) -> None:
    """The same inputs as in JSON give the same tensors, whatever they came as."""
    array = np.array([[1.0, 2.0], [3.0, 4.0]])
    signature = Signature("any", (TensorSpec("x", "FP64", (-1, 2)),))
    bodies = {
        "application/x-npy": write_npy(array, "x"),
        "application/x-npz": write_npz({"x": array}),
        "application/vnd.apache.arrow.stream": write_outputs({"km": array[:, 0], "hour": array[:, 1]}),
    }
    meta = CallMeta("m", 1, f"{kind}; charset=binary")
    request = NativeCodec().decode_tensors(bodies[kind], meta, signature)
    assert {name: it.tolist() for name, it in request.inputs.items()} == {"x": array.tolist()}
    for outputs in ({"predict": np.array([1.5, 2.5])}, {"a": np.array([1.5, 2.5]), "b": np.eye(2)}):
        answer = NativeCodec().encode_tensors(InferResponse(outputs), request, meta)
        one_file = kind == "application/x-npy" and len(outputs) == 1
        assert answer.content_type == (
            "application/x-npz" if kind == "application/x-npy" and not one_file else kind
        )
        back = {"predict": read_npy(answer.body, "it")} if one_file else _several(answer)
        assert {name: it.tolist() for name, it in back.items()} == {
            name: it.tolist() for name, it in outputs.items()
        }


def _several(answer: Encoded) -> dict[str, Any]:
    if answer.content_type == "application/x-npz":
        return read_npz(answer.body, "it")
    table = read_table(answer.body, "it")
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def test_one_array_is_not_enough_for_a_model_of_several_inputs() -> None:
    signature = Signature("any", (TensorSpec("a", None, (-1,)), TensorSpec("b", None, (-1,))))
    with pytest.raises(InvalidInputError, match="expected application/x-npz with the arrays a, b"):
        NativeCodec().decode_tensors(
            write_npy(np.zeros(2), "x"), CallMeta("m", 1, "application/x-npy"), signature
        )
