"""hotset's own protocol."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import numpy as np
import pydantic
import pytest

from hotset.codecs.native import NativeCodec
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta

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
