"""TensorFlow Serving's rows and columns."""

from __future__ import annotations

import numpy as np
import pytest

from hotset.codecs.rows import read_columns, read_rows, write_columns, write_rows
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import Signature, TensorSpec

ONE = Signature("onnxruntime", (TensorSpec("x", "FP32", (-1, 2)),))
TWO = Signature("onnxruntime", (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("city", "BYTES", (-1,))))
NONE = Signature("python")


def plain(inputs):
    return {name: (array.dtype.name, array.tolist()) for name, array in inputs.items()}


@pytest.mark.parametrize("signature", [ONE, Signature("x", (TensorSpec("x", None, (-1, -1)),))])
def test_bare_rows_are_the_one_input(signature: Signature) -> None:
    assert read_rows([[1.5, 2.5], [3.0, 4.0]], signature)["x"].tolist() == [[1.5, 2.5], [3.0, 4.0]]


def test_rows_by_name() -> None:
    rows = [{"x": [1, 2], "city": "rome"}, {"city": "oslo", "x": [3, 4]}]
    assert plain(read_rows(rows, TWO)) == {
        "x": ("float32", [[1.0, 2.0], [3.0, 4.0]]),
        "city": ("object", ["rome", "oslo"]),
    }


def test_one_input_may_be_named() -> None:
    assert plain(read_rows([{"x": [1, 2]}], ONE)) == {"x": ("float32", [[1.0, 2.0]])}


def test_names_that_are_not_declared_are_left_to_the_model() -> None:
    assert plain(read_rows([{"age": 3}, {"age": 4}], ONE)) == {"age": ("int64", [3, 4])}


def test_base64_rows_are_values() -> None:
    signature = Signature("x", (TensorSpec("image", "BYTES", (-1,)),))
    assert read_rows([{"b64": "aGk="}], signature)["image"].tolist() == [b"hi"]


def test_no_rows() -> None:
    assert read_rows([], ONE)["x"].shape == (0,)


def test_undeclared_inputs_have_a_name() -> None:
    assert list(read_rows([1], NONE)) == ["input-0"]


def test_columns() -> None:
    assert plain(read_columns([[1, 2]], ONE)) == {"x": ("float32", [[1.0, 2.0]])}
    assert plain(read_columns({"x": [[1, 2]], "city": ["rome"]}, TWO)) == {
        "x": ("float32", [[1.0, 2.0]]),
        "city": ("object", ["rome"]),
    }


@pytest.mark.parametrize(
    ("read", "value", "signature", "words"),
    [
        (
            read_rows,
            [[1, 2]],
            TWO,
            "instances: the model has several inputs, so name them in objects: x, city",
        ),
        (read_columns, [[1, 2]], TWO, "inputs: the model has several inputs"),
        (
            read_rows,
            [{"x": 1}, {"y": 1}],
            ONE,
            r"instances\[1\]: expected the keys of instances\[0\] \(x\), found: y",
        ),
        (read_rows, [{"x": 1}, 5], ONE, r"instances\[1\]: expected the keys .*, found: int"),
        (read_rows, [{"x": "a"}], ONE, r"instances\[\*\].x\[0\]: expected FP32, found: text"),
        (read_columns, {"x": [["a"]]}, ONE, r"inputs.x\[0\]\[0\]: expected FP32, found: text"),
        (read_rows, [[1, 2], [3]], ONE, r"instances\[1\]: expected a list of 2"),
    ],
)
def test_refuses(read, value, signature: Signature, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read(value, signature)


def test_one_output_is_bare() -> None:
    outputs = {"y": np.array([[1.0], [2.0]])}
    assert write_rows(outputs) == [[1.0], [2.0]]
    assert write_columns(outputs) == [[1.0], [2.0]]


def test_several_outputs_are_named() -> None:
    outputs = {"y": np.array([1, 2]), "p": np.array([[0.5, 0.5], [1.0, 0.0]])}
    assert write_rows(outputs) == [{"y": 1, "p": [0.5, 0.5]}, {"y": 2, "p": [1.0, 0.0]}]
    assert write_columns(outputs) == {"y": [1, 2], "p": [[0.5, 0.5], [1.0, 0.0]]}


def test_outputs_named_bytes_are_base64() -> None:
    outputs = {"image_bytes": np.array([[b"hi"]], object), "label": np.array([b"cat"], object)}
    assert write_rows(outputs) == [{"image_bytes": [{"b64": "aGk="}], "label": "cat"}]


@pytest.mark.parametrize(
    "outputs",
    [{"y": np.array(1.0)}, {"y": np.zeros(2), "z": np.zeros(3)}, {"y": np.zeros(2), "z": np.array(1)}],
)
def test_outputs_that_are_not_rows(outputs) -> None:
    with pytest.raises(PredictFailedError, match="ask with 'inputs' in place of 'instances'"):
        write_rows(outputs)
