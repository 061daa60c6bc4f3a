"""The Open Inference Protocol's binary tensor data extension, and its raw requests."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from hotset.codecs.oip import OipCodec
from hotset.codecs.oip_raw import raw_shape
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import DTYPES, Array, Encoded, InferRequest, InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta

CODEC = OipCodec()
HEADER = "inference-header-content-length"
PLAIN = CallMeta("paris", 3)


def meta_of(length: object) -> CallMeta:
    return CallMeta("paris", 3, headers=(("x-other", "1"), (HEADER, str(length))))


def decode(
    text: Any, *parts: bytes, length: object = None, signature: Signature | None = None
) -> InferRequest:
    head = text if isinstance(text, bytes) else json.dumps(text).encode()
    meta = meta_of(len(head) if length is None else length)
    return CODEC.decode_tensors(head + b"".join(parts), meta, signature or Signature("x"))


def tensor(name: str, array: Array, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": next(key for key, dtype in DTYPES.items() if dtype == array.dtype),
        "parameters": {"binary_data_size": array.nbytes},
        **more,
    }


ONE = np.arange(6, dtype=np.float32).reshape(2, 3)
TWO = np.array([True, False])


class TestRequest:
    def test_json_and_binary_inputs_stand_side_by_side(self) -> None:
        plain = {"name": "p", "shape": [1], "datatype": "BYTES", "data": ["é"]}
        request = decode(
            {"id": "7", "inputs": [tensor("a", ONE), plain, tensor("b", TWO)]}, ONE.tobytes(), TWO.tobytes()
        )
        assert request.id == "7"
        assert list(request.inputs) == ["a", "p", "b"]
        np.testing.assert_array_equal(request.inputs["a"], ONE)
        assert request.inputs["p"].tolist() == ["é"]
        assert request.inputs["b"].tolist() == [True, False]

    @pytest.mark.parametrize("datatype", ["FP16", "BF16"])
    def test_types_that_json_has_not(self, datatype: str) -> None:
        values = np.array([0.5, -2.0], np.float16 if datatype == "FP16" else ml_dtypes.bfloat16)
        it = {"name": "x", "shape": [2], "datatype": datatype, "parameters": {"binary_data_size": 4}}
        assert decode({"inputs": [it]}, values.tobytes()).inputs["x"].tolist() == [0.5, -2.0]

    def test_elements_of_bytes(self) -> None:
        it = {"name": "x", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 9}}
        request = decode({"inputs": [it]}, b"\0\0\0\0", b"\1\0\0\0\xff")
        assert request.inputs["x"].tolist() == [[b""], [b"\xff"]]

    def test_a_view_of_a_large_body_is_not_copied(self) -> None:
        array = np.arange(1 << 16, dtype=np.float64)
        head = json.dumps({"inputs": [tensor("x", array)]}).encode()
        head += b" " * (-len(head) % 8)
        whole = np.frombuffer(head + array.tobytes(), np.uint8)
        request = CODEC.decode_tensors(whole.data, meta_of(len(head)), Signature("x"))
        assert np.shares_memory(request.inputs["x"], whole)

    def test_only_json_behind_the_header(self) -> None:
        assert decode({"inputs": []}).inputs == {}

    @pytest.mark.parametrize(
        ("size", "sent", "words"),
        [
            (23, 23, r"input 'x': FP32 of the shape \[2, 3\] has 24 bytes, found: 23"),
            (25, 25, r"input 'x': FP32 of the shape \[2, 3\] has 24 bytes, found: 25"),
            (24, 23, "input 'x': 'binary_data_size' is 24, but .* the body has 23 bytes"),
            (24, 25, "the body has 1 bytes behind the data of its last binary input"),
            (-1, 24, "input 'x': 'binary_data_size' is -1"),
            (2**70, 24, "binary_data_size|int"),
            ("24", 24, r"Expected `int \| null`, got `str` - at `inputs\[0\].parameters.binary_data_size`"),
            (24.5, 24, r"inputs\[0\].parameters.binary_data_size"),
        ],
    )
    def test_sizes_that_do_not_fit(self, size: Any, sent: int, words: str) -> None:
        it = {"name": "x", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": size}}
        with pytest.raises(InvalidInputError, match=words):
            decode({"inputs": [it]}, bytes(sent))

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"data": [1]}, "found both 'data' and 'binary_data_size'"),
            (
                {"parameters": {"shared_memory_region": "r"}},
                "input 'x': this server does not have the shared memory",
            ),
            ({"parameters": {}}, "input 'x': expected 'data', or the parameter 'binary_data_size'"),
            ({"parameters": 3}, r"at `inputs\[0\].parameters`"),
            ({"datatype": "FLOAT"}, "input 'x': expected a datatype of BOOL"),
            ({"shape": [-1]}, "sizes of 0 or more"),
        ],
    )
    def test_inputs_that_do_not_fit(self, more: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidInputError, match=words):
            decode({"inputs": [tensor("x", ONE, **more)]}, ONE.tobytes())

    def test_binary_data_needs_its_header(self) -> None:
        body = json.dumps({"inputs": [tensor("x", ONE)]}).encode()
        with pytest.raises(InvalidInputError, match="needs the header Inference-Header-Content-Length"):
            CODEC.decode_tensors(body, PLAIN, Signature("x"))

    @pytest.mark.parametrize("length", ["-1", "", "1.5", "x", "٣", "9" * 5000, "+3"])
    def test_a_header_that_is_no_number(self, length: str) -> None:
        with pytest.raises(
            InvalidInputError, match="expected Inference-Header-Content-Length to be a number"
        ):
            decode({"inputs": []}, length=length)

    def test_a_header_past_the_end(self) -> None:
        with pytest.raises(InvalidInputError, match="says that the JSON has 99 bytes, but the body has: 14"):
            decode({"inputs": []}, length=99)

    def test_a_header_that_cuts_the_json(self) -> None:
        with pytest.raises(InvalidInputError, match="not valid JSON"):
            decode({"inputs": []}, length=5)


class TestRaw:
    @pytest.mark.parametrize(
        ("spec", "array"),
        [
            (TensorSpec("x", "FP32", (2, 3)), ONE),
            (TensorSpec("x", "FP32", (-1, 3)), ONE),
            (TensorSpec("x", "FP32", (-1, -1)), ONE.reshape(1, 6)),
            (TensorSpec("x", None, (-1, 3)), ONE.astype(np.float64)),
            (TensorSpec("x", "BOOL", (2,)), TWO),
            (TensorSpec("x", "INT64", ()), np.array(7)),
        ],
    )
    def test_the_body_is_the_only_input(self, spec: TensorSpec, array: Array) -> None:
        request = decode(array.tobytes(), length=0, signature=Signature("x", (spec,)))
        found = request.inputs["x"]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)

    @pytest.mark.parametrize("shape", [(1,), (-1,), (-1, 1), ()])
    def test_text_is_one_element(self, shape: tuple[int, ...]) -> None:
        request = decode(b"rome", length=0, signature=Signature("x", (TensorSpec("x", "BYTES", shape),)))
        assert request.inputs["x"].ravel().tolist() == [b"rome"]

    @pytest.mark.parametrize(
        ("specs", "words"),
        [
            ((), "needs a model that declares one input; this one declares: none"),
            ((TensorSpec("a", "FP32", (1,)), TensorSpec("b", "FP32", (1,))), "declares: a, b"),
            (
                (TensorSpec("x", "FP32", (-1, 4)),),
                r"input 'x': \[-1, 4\] takes a multiple of 16 bytes, found: 24",
            ),
            ((TensorSpec("x", "FP32", (7,)),), r"FP32 of the shape \[7\] has 28 bytes, found: 24"),
            ((TensorSpec("x", "FP32", (-1, -1, -1)),), "cannot tell the sizes"),
            ((TensorSpec("x", "FP32", (-1, 0)),), "takes a multiple of 0 bytes"),
            ((TensorSpec("x", "BYTES", (2,)),), "one element of BYTES"),
        ],
    )
    def test_what_does_not_fit(self, specs: tuple[TensorSpec, ...], words: str) -> None:
        with pytest.raises(InvalidInputError, match=words):
            decode(ONE.tobytes(), length=0, signature=Signature("x", specs))

    def test_code_that_declares_nothing(self) -> None:
        with pytest.raises(InvalidInputError, match="needs a model that declares one input"):
            CODEC.decode_payload(b"abcd", meta_of(0))

    def test_the_answer_is_binary(self) -> None:
        request = decode(
            ONE.tobytes(), length=0, signature=Signature("x", (TensorSpec("x", "FP32", (2, 3)),))
        )
        answer = CODEC.encode_tensors(InferResponse({"y": TWO}), request, PLAIN)
        assert bytes(answer.body).endswith(TWO.tobytes())

    def test_one_that_varies_is_what_is_left(self) -> None:
        assert raw_shape([2, -1, 3], 48, 2, "x") == (2, 4, 3)
        assert raw_shape([-1, 3, -1], 24, 2, "x") == (1, 3, 4)


def split(answer: Encoded) -> tuple[Any, bytes]:
    """Return the JSON of an answer and what is behind it."""
    body = bytes(answer.body)
    headers = dict(answer.headers)
    if not headers:
        assert answer.content_type == "application/json"
        return json.loads(body), b""
    assert answer.content_type == "application/octet-stream"
    length = int(headers["Inference-Header-Content-Length"])
    return json.loads(body[:length]), body[length:]


def asking(**more: Any) -> InferRequest:
    return CODEC.decode_tensors(json.dumps({"inputs": [], **more}).encode(), PLAIN, Signature("x"))


class TestAnswer:
    OUTPUTS = {"a": ONE, "b": np.array(["é"], object), "c": TWO}

    def test_all_outputs_in_order(self) -> None:
        request = asking(id="7", parameters={"binary_data_output": True, "k": 1})
        assert dict(request.parameters) == {"k": 1}
        text, data = split(CODEC.encode_tensors(InferResponse(self.OUTPUTS), request, PLAIN))
        assert text == {
            "model_name": "paris",
            "model_version": "3",
            "id": "7",
            "outputs": [
                {"name": "a", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}},
                {"name": "b", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}},
                {"name": "c", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}},
            ],
        }
        assert data == ONE.tobytes() + b"\2\0\0\0\xc3\xa9" + b"\1\0"

    @pytest.mark.parametrize(
        ("parameters", "wishes", "binary"),
        [
            ({}, {}, set()),
            ({"binary_data_output": False}, {}, set()),
            ({}, {"a": True}, {"a"}),
            ({}, {"a": False}, set()),
            ({"binary_data_output": True}, {"a": False}, {"b", "c"}),
            ({"binary_data_output": True}, {}, {"a", "b", "c"}),
        ],
    )
    def test_each_output_in_the_form_that_was_asked_for(
        self, parameters: dict[str, Any], wishes: dict[str, bool], binary: set[str]
    ) -> None:
        wanted = [{"name": name, "parameters": {"binary_data": wish}} for name, wish in wishes.items()]
        request = asking(parameters=parameters, outputs=wanted)
        assert request.outputs == tuple(wishes)
        text, data = split(CODEC.encode_tensors(InferResponse(self.OUTPUTS), request, PLAIN))
        assert {it["name"] for it in text["outputs"] if "data" not in it} == binary
        assert len(data) == sum({"a": 24, "b": 6, "c": 2}[name] for name in binary)

    def test_without_one_binary_byte_there_is_no_header(self) -> None:
        request = asking(parameters={"binary_data_output": True})
        text, data = split(CODEC.encode_tensors(InferResponse({"y": np.zeros((0, 3))}), request, PLAIN))
        assert text["outputs"][0]["parameters"] == {"binary_data_size": 0}
        assert data == b""

    @pytest.mark.parametrize(
        ("array", "datatype"),
        [(np.array([0.5], np.float16), "FP16"), (np.array([0.5], ml_dtypes.bfloat16), "BF16")],
    )
    def test_types_that_json_has_not(self, array: Array, datatype: str) -> None:
        request = asking(parameters={"binary_data_output": True})
        text, data = split(CODEC.encode_result({"y": array}, request, PLAIN))
        assert text["outputs"][0]["datatype"] == datatype
        assert data == array.tobytes()

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"parameters": {"binary_data_output": 1}}, "expected true or false for the parameter"),
            (
                {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
                r"outputs\[0\].parameters.binary_data",
            ),
            ({"outputs": [{"name": "y", "parameters": {"classification": 2}}]}, "classification extension"),
            (
                {"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
                "output 'y': this server does not have the shared memory",
            ),
        ],
    )
    def test_wishes_that_cannot_be_met(self, more: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidInputError, match=words):
            asking(**more)

    @pytest.mark.parametrize("array", [np.zeros(1, complex), np.array([object()], object)])
    def test_outputs_that_cannot_be_written(self, array: Array) -> None:
        request = asking(parameters={"binary_data_output": True})
        with pytest.raises(PredictFailedError, match="output 'y'"):
            CODEC.encode_tensors(InferResponse({"y": array}), request, PLAIN)
