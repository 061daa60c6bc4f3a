"""The Open Inference Protocol with JSON data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hotset.codecs.oip import OipCodec
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import InferRequest, InferResponse, Signature
from hotset.runtimes.base import CallMeta

META = CallMeta("paris", 3)
CODEC = OipCodec()


def body_of(data: Any, shape: Any, datatype: str = "FP32", **more: Any) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": data}], **more}
    ).encode()


def decode(body: bytes, meta: CallMeta = META) -> InferRequest:
    return CODEC.decode_tensors(body, meta, Signature("x"))


@pytest.mark.parametrize(
    ("data", "shape", "datatype", "expected"),
    [
        ([1, 2, 3, 4], [2, 2], "FP32", np.array([[1, 2], [3, 4]], np.float32)),
        ([[1, 2], [3, 4]], [2, 2], "FP64", np.array([[1, 2], [3, 4]], np.float64)),
        ([[[1], [2]]], [1, 2, 1], "UINT8", np.array([[[1], [2]]], np.uint8)),
        ([1.5, None], [2], "FP64", np.array([1.5, np.nan])),
        ([None], [1], "FP32", np.array([np.nan], np.float32)),
        ([True, False], [2], "BOOL", np.array([True, False])),
        ([2**64 - 1], [1], "UINT64", np.array([2**64 - 1], np.uint64)),
        ([-(2**63)], [1], "INT64", np.array([-(2**63)])),
        (["a", "é"], [2, 1], "BYTES", np.array([["a"], ["é"]], object)),
        ([["a"], ["b"]], [2, 1], "BYTES", np.array([["a"], ["b"]], object)),
        ([], [0, 5], "INT32", np.zeros((0, 5), np.int32)),
        ([[], []], [2, 0], "INT32", np.zeros((2, 0), np.int32)),
        ([7], [], "INT16", np.array(7, np.int16)),
    ],
)
def test_reads(data, shape, datatype, expected) -> None:
    array = decode(body_of(data, shape, datatype)).inputs["x"]
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("data", "shape", "datatype", "words"),
    [
        ([1, 2, 3], [2, 2], "FP32", r"input 'x': the shape \[2, 2\] has 4 elements, but the data has: 3"),
        ([1], [10**9, 10**9], "FP32", "has 1000000000000000000 elements"),
        ([1], [-1], "FP32", "sizes of 0 or more in the shape"),
        ([1], [2**70], "FP32", "the data has: 1"),
        ([], [0, 2**70], "FP32", "does not fit FP32"),
        ([1], [1] * 65, "FP32", "at most 64 dimensions, found: 65"),
        ([[1, 2, 3], [4, 5, 6]], [3, 2], "FP32", r"nested as \[2, 3\], but the shape is: \[3, 2\]"),
        ([[1], [2, 3]], [3, 1], "FP32", "input 'x': the data does not fit FP32"),
        ([["a"], ["b", "c"]], [3, 1], "BYTES", "input 'x': "),
        ([[1, 2]], [2], "FP32", r"input 'x': .*got `array` - at `data\[0\]`"),
        ([1, 300], [2], "INT8", r"input 'x': Expected `int` <= 127 - at `data\[1\]`"),
        ([-1], [1], "UINT64", "Expected `int` >= 0"),
        ([2**64], [1], "UINT64", "does not fit UINT64"),
        ([2**63], [1], "INT64", "does not fit INT64"),
        ([1.0], [1], "INT8", "Expected `int`, got `float`"),
        ([1e39], [1], "FP32", "Expected `float` <= 3.4"),
        ([True], [1], "FP32", "got `bool`"),
        (["1"], [1], "FP32", "got `str`"),
        ([1], [1], "BOOL", "Expected `bool`, got `int`"),
        ([None], [1], "INT8", "got `null`"),
        ([1], [1], "BYTES", "Expected `str`, got `int`"),
        ([1], [1], "FP16", "FP16 cannot be sent as JSON; send it as binary data, or send FP32"),
        ([1], [1], "BF16", "BF16 cannot be sent as JSON"),
        ([1], [1], "FLOAT", "expected a datatype of BOOL, .*, found: 'FLOAT'"),
        (1, [1], "FP32", "Expected `array`, got `int` - at `data`|Expected `array`, got `int`"),
        ([1], "1", "FP32", r"at `inputs\[0\].shape`"),
    ],
)
def test_refuses_data(data, shape, datatype, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        decode(body_of(data, shape, datatype))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs": [{}]}', r"missing required field `name` - at `inputs\[0\]`"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}', "input 'x': expected 'data', or"),
        (b'{"id": 3, "inputs": []}', "at `id`"),
        (body_of([1], [1], outputs=[{}]), r"at `outputs\[0\]`"),
        (
            b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": '
            + b"[" * 9000
            + b"]" * 9000
            + b"}]}",
            "nested too deeply",
        ),
    ],
)
def test_refuses_bodies(body: bytes, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        decode(body)


def test_refuses_a_name_given_twice() -> None:
    one = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
    with pytest.raises(InvalidInputError, match="input 'x' is given twice"):
        decode(json.dumps({"inputs": [one, one]}).encode())


def test_the_rest_of_a_request() -> None:
    request = decode(
        body_of([1], [1], id="a", parameters={"k": 1}, outputs=[{"name": "y", "z": 0}], extra=[])
    )
    assert (request.id, dict(request.parameters), request.outputs) == ("a", {"k": 1}, ("y",))
    bare = decode(body_of([1], [1], id=None, parameters=None, outputs=[]))
    assert (bare.id, dict(bare.parameters), bare.outputs) == (None, {}, ())


def encode(outputs: dict[str, Any], id: str | None = None) -> Any:
    encoded = CODEC.encode_tensors(InferResponse(outputs), InferRequest({}, id=id), META)
    assert encoded.content_type == "application/json"
    return json.loads(encoded.body)


def test_writes() -> None:
    outputs = {"y": np.array([[1.5], [np.nan]], np.float32), "city": np.array([["rome"]])}
    assert encode(outputs, id="a") == {
        "model_name": "paris",
        "model_version": "3",
        "id": "a",
        "outputs": [
            {"name": "y", "shape": [2, 1], "datatype": "FP32", "data": [1.5, None]},
            {"name": "city", "shape": [1, 1], "datatype": "BYTES", "data": ["rome"]},
        ],
    }
    assert "id" not in encode({})


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(1, complex), "output 'y': no Open Inference type for the NumPy type: complex128"),
        (np.array(["2024-01-01"], "M8[D]"), "no Open Inference type"),
        (np.array([object()], object), "holds values of type object"),
    ],
)
def test_refuses_to_write(array: np.ndarray, words: str) -> None:
    with pytest.raises(PredictFailedError, match=words):
        encode({"y": array})


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(1, np.float16), "is FP16, which JSON"),
        (np.array([b"\xff"], object), "holds bytes that are not UTF-8, which JSON"),
    ],
)
def test_what_json_cannot_carry_has_to_be_asked_for_as_binary_data(array: np.ndarray, words: str) -> None:
    with pytest.raises(
        InvalidInputError,
        match=f"output 'y' {words} cannot carry; ask for it with the parameter 'binary_data'",
    ):
        encode({"y": array})


class TestUserCode:
    def test_gets_a_scalar_and_may_give_one(self) -> None:
        """A number is an array of one; an array without sizes stays one."""
        payload, request = CODEC.decode_payload(body_of([1.5], []), META)
        assert payload["x"].shape == ()
        for result, shape in ((payload["x"], []), (1.5, [1]), (np.float64(1.5), [1])):
            (output,) = json.loads(CODEC.encode_result({"y": result}, request, META).body)["outputs"]
            assert (output["shape"], output["data"]) == (shape, [1.5])

    def test_gets_arrays_by_name(self) -> None:
        payload, request = CODEC.decode_payload(body_of([1, 2], [2], id="a"), META)
        assert payload["x"].tolist() == [1.0, 2.0]
        assert request is not None
        assert request.id == "a"

    @pytest.mark.parametrize(
        ("result", "outputs"),
        [
            (
                {"y": [1, 2], "z": np.array([[0.5]])},
                [("y", "INT64", [2], [1, 2]), ("z", "FP64", [1, 1], [0.5])],
            ),
            ([1.5, 2.5], [("output-0", "FP64", [2], [1.5, 2.5])]),
            (7, [("output-0", "INT64", [1], [7])]),
            ("rome", [("output-0", "BYTES", [1], ["rome"])]),
            (b"rome\0", [("output-0", "BYTES", [1], ["rome\0"])]),
            (["a", "b"], [("output-0", "BYTES", [2], ["a", "b"])]),
            (InferResponse({"y": np.array([True])}), [("y", "BOOL", [1], [True])]),
        ],
    )
    def test_gives_arrays(self, result: Any, outputs: list[Any]) -> None:
        answer = json.loads(CODEC.encode_result(result, InferRequest({}, id="a"), META).body)
        assert answer["id"] == "a"
        assert [
            (out["name"], out["datatype"], out["shape"], out["data"]) for out in answer["outputs"]
        ] == outputs

    def test_the_outputs_asked_for(self) -> None:
        answer = CODEC.encode_result({"y": 1, "z": 2}, InferRequest({}, ("z",)), META)
        assert [output["name"] for output in json.loads(answer.body)["outputs"]] == ["z"]
        with pytest.raises(InvalidInputError, match="no output 'w'; this model has: y"):
            CODEC.encode_result({"y": 1}, InferRequest({}, ("w",)), META)

    @pytest.mark.parametrize(
        "result", [None, object(), [[1], [2, 3]], {"y": None}, [1, None], [{"a": 1}], {"y": 1j}]
    )
    def test_what_is_not_an_array(self, result: Any) -> None:
        with pytest.raises(PredictFailedError, match="output '"):
            CODEC.encode_result(result, InferRequest({}), META)
