"""TensorFlow Serving's predict, classify and regress."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hotset.codecs.base import Codec
from hotset.codecs.registry import by_name
from hotset.codecs.tfserving import signature_names
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import InferRequest, InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta

META = CallMeta("paris", 3, content_type="text/plain")
ONE = Signature("sklearn", (TensorSpec("x", None, (-1, 2)),))
FLOATS = Signature("onnx", (TensorSpec("x", "FP32", (-1, 2)),))
TWO = Signature("onnx", (TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "BYTES", (-1,))))
CHOICE = Signature(
    "sklearn",
    (TensorSpec("x", None, (-1, 2)),),
    (TensorSpec("predict", None, (-1,)), TensorSpec("predict_proba", None, (-1, 2))),
)
PREDICT, CLASSIFY, REGRESS = (
    by_name(name) for name in ("tfserving", "tfserving.classify", "tfserving.regress")
)


def read(body: bytes, signature: Signature = ONE, codec: Codec = PREDICT) -> InferRequest:
    return codec.decode_tensors(body, META, signature)


def ask(
    body: bytes, outputs: dict[str, Any], signature: Signature = ONE, codec: Codec = PREDICT
) -> dict[str, Any]:
    encoded = codec.encode_tensors(InferResponse(outputs), read(body, signature, codec), META)
    assert encoded.content_type == "application/json"
    answer: dict[str, Any] = json.loads(encoded.body)
    return answer


def test_rows_in_rows_out_whatever_the_content_type() -> None:
    body = b'{"signature_name": "serving_default", "instances": [[1, 2]]}'
    assert ask(body, {"y": np.array([0.5])}) == {"predictions": [0.5]}


def test_several_outputs_are_an_object_for_each_row() -> None:
    both = {"y": np.array([1, 2]), "z": np.array([[3], [4]])}
    answer = ask(b'{"instances": [[1, 2], [3, 4]]}', both)
    assert answer == {"predictions": [{"y": 1, "z": [3]}, {"y": 2, "z": [4]}]}


def test_columns_in_columns_out() -> None:
    assert ask(b'{"inputs": [[1, 2]]}', {"y": np.array([0.5])}) == {"outputs": [0.5]}
    both = {"y": np.array([1]), "z": np.array(2)}
    assert ask(b'{"inputs": {"x": [[1, 2]]}}', both) == {"outputs": {"y": [1], "z": 2}}


def test_a_scalar_is_a_tensor_without_dimensions_in_a_column_and_a_row_in_rows() -> None:
    text = Signature("onnx", (TensorSpec("x", "BYTES", ()),))
    assert read(b'{"inputs": "hi"}', text).inputs["x"].shape == ()
    assert read(b'{"instances": ["hi", "ho"]}', text).inputs["x"].tolist() == ["hi", "ho"]
    assert read(b'{"inputs": {"b64": "aGk="}}', text).inputs["x"].item() == b"hi"


def test_base64_in_rows_and_named_inputs() -> None:
    request = read(b'{"instances": [{"a": 1.5, "b": {"b64": "aGk="}}, {"a": 2, "b": {"b64": "/w=="}}]}', TWO)
    assert request.inputs["b"].tolist() == [b"hi", b"\xff"]
    assert request.inputs["a"].dtype == np.float32


def test_outputs_named_bytes_go_out_as_base64() -> None:
    image = np.array([b"\xff\x00"], dtype=object)
    answer = ask(b'{"instances": [[1, 2]]}', {"image_bytes": image})
    assert answer == {"predictions": [{"b64": "/wA="}]}


@pytest.mark.parametrize("signature", [ONE, FLOATS])
def test_numbers_that_json_has_not_come_in_and_go_out_as_themselves(signature: Signature) -> None:
    body = b'{"instances": [[NaN, Infinity], [-Infinity, 1]]}'
    array = read(body, signature).inputs["x"]
    np.testing.assert_array_equal(array, [[np.nan, np.inf], [-np.inf, 1.0]])
    request = read(body, signature)
    encoded = PREDICT.encode_tensors(InferResponse({"y": array}), request, META)
    assert encoded.body == b'{"predictions":[[NaN,Infinity],[-Infinity,1.0]]}'


def test_text_that_reads_like_such_a_number_stays_text() -> None:
    names = np.array(["NaN", "null", "Infinity"], dtype=object)
    assert ask(b'{"instances": [[1, 2]]}', {"y": names}) == {"predictions": ["NaN", "null", "Infinity"]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON Parse error"),
        (b"{", "JSON Parse error"),
        (b"[]", "JSON Parse error"),
        (b"\xff", "JSON Parse error"),
        (b'{"a": NaN', "JSON Parse error"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"instances": [1], "inputs": [1]}', "only one of 'inputs' or 'instances' keys"),
        (b'{"instances": 3}', "Expecting 'instances' to be an list/array"),
        (b'{"instances": []}', "No values in 'instances' array"),
        (b'{"signature_name": 3, "instances": [1]}', "'signature_name' key must be a string value"),
        (
            b'{"signature_name": "other", "instances": [[1, 2]]}',
            'Serving signature name: "other" not found in signature def',
        ),
        (b'{"instances": [[1, 2], [3]]}', r"instances\[1\]"),
        (b'{"instances": [[1, "a"], {"x": 3}]}', "instances"),
        (b'{"instances": [{"b64": "?"}]}', "not base64"),
    ],
)
def test_what_does_not_fit_is_named(body: bytes, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read(body)


def test_a_signature_for_each_output() -> None:
    assert signature_names(CHOICE) == ("serving_default", "predict", "predict_proba")
    assert signature_names(ONE) == ("serving_default",)
    body = b'{"signature_name": "predict_proba", "instances": [[1, 2]]}'
    assert read(body, CHOICE).outputs == ("predict_proba",)
    assert read(b'{"instances": [[1, 2]]}', CHOICE).outputs == ()


def test_requests_of_one_form_can_be_predicted_together() -> None:
    short, long = read(b'{"instances": [[1, 2]]}'), read(b'{"instances": [[NaN, 2]]}')
    assert short.parameters == long.parameters
    assert short.parameters != read(b'{"inputs": [[1, 2]]}').parameters


# The user's code


@pytest.mark.parametrize(
    ("body", "result", "answer"),
    [
        (b'{"instances": [1]}', [2], {"predictions": [2]}),
        (b'{"instances": [1]}', {"predictions": [2], "more": 3}, {"predictions": [2], "more": 3}),
        (b'{"instances": [1]}', {"label": 2}, {"predictions": {"label": 2}}),
        (b'{"inputs": [1]}', np.array([2.5]), {"outputs": [2.5]}),
        (b'{"inputs": {"a": 1}}', {"outputs": 1}, {"outputs": 1}),
        (b'{"instances": ["a"]}', "text", {"predictions": "text"}),
        (b'{"instances": ["a"]}', b"\xff", {"predictions": {"b64": "/w=="}}),
        (b'{"instances": ["a"]}', None, {"predictions": None}),
    ],
)
def test_code_gets_the_object_as_it_was_sent(body: bytes, result: Any, answer: Any) -> None:
    payload, request = PREDICT.decode_payload(body, META)
    assert payload == json.loads(body)
    assert json.loads(PREDICT.encode_result(result, request, META).body) == answer


def test_code_for_examples() -> None:
    body = b'{"examples": [{"a": 1}], "context": {"c": 2}}'
    payload, request = CLASSIFY.decode_payload(body, META)
    assert payload == json.loads(body)
    assert json.loads(CLASSIFY.encode_result([[["a", 1.0]]], request, META).body) == {
        "results": [[["a", 1.0]]]
    }
    assert json.loads(REGRESS.encode_result({"results": [1]}, request, META).body) == {"results": [1]}


@pytest.mark.parametrize("codec", [PREDICT, CLASSIFY, REGRESS])
def test_code_is_not_asked_with_a_body_of_another_protocol(codec: Codec) -> None:
    with pytest.raises(InvalidInputError):
        codec.decode_payload(b'{"payload": 1}', META)


def test_a_result_that_json_cannot_carry_is_the_codes_fault() -> None:
    with pytest.raises(PredictFailedError):
        PREDICT.encode_result(object(), None, META)


# Examples


def test_features_become_inputs_with_a_row_for_each_example() -> None:
    body = b'{"context": {"c": "x"}, "examples": [{"a": 1, "b": [2, 3]}, {"a": [4], "b": [5, 6], "c": "y"}]}'
    request = read(body, Signature("any"), CLASSIFY)
    assert {name: array.tolist() for name, array in request.inputs.items()} == {
        "c": [["x"], ["y"]],
        "a": [[1], [4]],
        "b": [[2, 3], [5, 6]],
    }


def test_one_value_is_bare_where_the_model_declares_it_so() -> None:
    request = read(b'{"examples": [{"a": 1, "b": "x"}]}', TWO, REGRESS)
    assert [array.shape for array in request.inputs.values()] == [(1,), (1,)]


def test_a_table_of_numbers_as_the_only_feature() -> None:
    request = read(b'{"examples": [{"x": [1, 2]}, {"x": [3, 4]}]}', CHOICE, CLASSIFY)
    assert request.inputs["x"].tolist() == [[1, 2], [3, 4]]
    assert request.outputs == ("predict_proba",)
    assert read(b'{"examples": [{"x": [1, 2]}]}', CHOICE, REGRESS).outputs == ("predict",)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "key 'examples' is expected and was not found"),
        (b'{"examples": {}}', "Expecting 'examples' value to be an list/array"),
        (b'{"examples": []}', "'examples' value is an empty array"),
        (b'{"examples": [3]}', r"examples\[0\]: Example must be JSON object"),
        (b'{"examples": [{"a": null}]}', "Feature: a has element with unexpected JSON type"),
        (b'{"examples": [{"a": [[1]]}]}', "Feature: a has element with unexpected JSON type"),
        (b'{"examples": [{"a": {"b": 1}}]}', "Feature: a has element with unexpected JSON type"),
        (b'{"examples": [{"a": 1}, {"b": 1}]}', r"examples\[1\]: expected the keys of examples\[0\]"),
        (b'{"examples": [{"a": 1}], "context": 3}', "context: Example must be JSON object"),
        (b'{"examples": [{"a": 1}], "signature_name": "q"}', "not found in signature def"),
    ],
)
@pytest.mark.parametrize("codec", [CLASSIFY, REGRESS])
def test_what_is_wrong_with_examples_is_named(codec: Codec, body: bytes, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read(body, ONE, codec)


PROBABLE = np.array([[0.25, 0.75]])


@pytest.mark.parametrize(
    ("outputs", "results"),
    [
        ({"classes": np.array([["a", "b"]], dtype=object), "scores": PROBABLE}, [[["a", 0.25], ["b", 0.75]]]),
        ({"predict_proba": PROBABLE}, [[["", 0.25], ["", 0.75]]]),
        ({"label": np.array([1]), "whatever": PROBABLE}, [[["", 0.25], ["", 0.75]]]),
        ({"label": np.array([b"a"], dtype=object)}, [[["a", 0.0]]]),
        ({"classes": np.array([[3]]), "scores": np.array([[0.5]])}, [[["3", 0.5]]]),
        ({"scores": np.array([0.5, 0.25])}, [[["", 0.5]], [["", 0.25]]]),
    ],
)
def test_classification(outputs: dict[str, Any], results: Any) -> None:
    body = b'{"examples": [{"x": [1, 2]}]}'
    assert ask(body, outputs, ONE, CLASSIFY) == {"results": results}


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.array([0.5])},
        {"classes": np.array([["a", "b", "c"]], dtype=object), "scores": PROBABLE},
        {"scores": np.zeros((1, 1, 1))},
    ],
)
def test_what_is_no_classification_is_refused(outputs: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        ask(b'{"examples": [{"x": [1, 2]}]}', outputs, ONE, CLASSIFY)


def test_regression() -> None:
    body = b'{"examples": [{"x": [1, 2]}, {"x": [3, 4]}]}'
    two = {"outputs": np.array([[1], [2]]), "other": np.array(["a", "b"])}
    assert ask(body, two, ONE, REGRESS) == {"results": [1.0, 2.0]}
    assert ask(body, {"y": np.array([1.5, np.nan])}, ONE, REGRESS)["results"][0] == 1.5
    for wrong in ({"y": np.array(["a"])}, {"y": PROBABLE}, {"y": np.array([1]), "z": np.array([1])}):
        with pytest.raises(InvalidInputError, match="one number for each example"):
            ask(body, wrong, ONE, REGRESS)


NAMED = Signature(
    "tensorflow",
    (TensorSpec("x", "FP64", (-1, 2)),),
    (TensorSpec("y", "FP64", (-1,)), TensorSpec("z", "FP64", (-1,))),
    name="serving_default",
    others=(
        Signature("tensorflow", (TensorSpec("word", "BYTES", (-1,)),), (TensorSpec("y", None, (-1,)),), name="words"),
        Signature("tensorflow", (TensorSpec("inputs", "BYTES", (-1,)),), name="parse"),
    ),
)  # fmt: skip


def test_a_model_that_names_its_signatures_is_asked_through_them() -> None:
    assert signature_names(NAMED) == ("serving_default", "words", "parse")
    plain = read(b'{"instances": [[1, 2]]}', NAMED)
    default = read(b'{"signature_name": "serving_default", "instances": [[1, 2]]}', NAMED)
    assert default.parameters == plain.parameters
    words = read(b'{"signature_name": "words", "instances": ["oslo"]}', NAMED)
    assert words.inputs["word"].tolist() == ["oslo"]
    assert words.parameters["signature_name"] == "words"
    assert words.parameters != plain.parameters, "or they were predicted together"
    with pytest.raises(InvalidInputError, match='"y" not found in signature def'):
        read(b'{"signature_name": "y", "instances": [[1, 2]]}', NAMED)


def test_examples_for_a_named_signature() -> None:
    request = read(b'{"signature_name": "parse", "examples": [{"a": 1}]}', NAMED, CLASSIFY)
    assert isinstance(request.inputs["inputs"][0], bytes)
    assert request.parameters["signature_name"] == "parse"
