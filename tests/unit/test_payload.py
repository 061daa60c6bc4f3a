"""Tensors and their names: NumPy's types and those of the Open Inference Protocol."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hotset.payload import DTYPES, Encoded, InferRequest, InferResponse, Signature, TensorSpec, datatype_of


@pytest.mark.parametrize("name", DTYPES)
def test_a_type_goes_there_and_back(name: str):
    assert datatype_of(np.zeros(2, dtype=DTYPES[name])) == name


@pytest.mark.parametrize("name", [name for name in DTYPES if DTYPES[name].itemsize > 1 and name != "BYTES"])
@pytest.mark.parametrize("order", ["<", ">", "="])
def test_the_byte_order_does_not_matter(name: str, order: str):
    dtype = DTYPES[name].newbyteorder(order)  # type: ignore[arg-type]
    assert datatype_of(np.zeros(2, dtype=dtype)) == name


@pytest.mark.parametrize(
    "array",
    [
        np.array(["Paris", "Rome"]),
        np.array([b"Paris", b"R"]),
        np.array(["Paris", b"Rome"], dtype=object),
        np.array([], dtype="U0"),
    ],
)
def test_text_bytes_and_objects_are_bytes(array: np.ndarray):
    assert datatype_of(array) == "BYTES"


@pytest.mark.parametrize("dtype", [np.intc, np.longlong, np.ulonglong, np.uintp, np.byte, np.ubyte, np.half])
def test_the_names_of_c_are_types_by_their_size(dtype: type):
    array = np.zeros(1, dtype=dtype)
    assert DTYPES[datatype_of(array)] == array.dtype


@pytest.mark.parametrize(
    "dtype", ["complex64", "complex128", "datetime64[s]", "timedelta64[s]", "V4", [("a", "i4")], "longdouble"]
)
def test_a_type_without_a_name_is_refused(dtype: object):
    array = np.zeros(1, dtype=dtype)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no Open Inference type for the NumPy type"):
        datatype_of(array)


def test_an_empty_or_scalar_array_has_a_type_too():
    assert datatype_of(np.zeros((0, 3), dtype=np.float32)) == "FP32"
    assert datatype_of(np.float64(1.0).reshape(())) == "FP64"


def test_a_request_asks_for_the_default_outputs_unless_it_names_some():
    request = InferRequest({"input": np.zeros(1)})
    assert (request.outputs, request.id, request.parameters) == ((), None, {})
    assert InferRequest({}).parameters is not request.parameters


def test_outputs_keep_their_order():
    response = InferResponse({"z": np.zeros(1), "a": np.zeros(1)})
    assert list(response.outputs) == ["z", "a"]


@pytest.mark.parametrize("record", [TensorSpec("x", None, (-1,)), Signature("sklearn"), Encoded(b"{}")])
def test_what_is_declared_is_frozen(record: object):
    name = dataclasses.fields(record)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, None)


def test_an_encoded_answer_is_json_unless_it_says_otherwise():
    assert Encoded(b"{}").content_type == "application/json"
    assert Encoded(b"{}").headers == ()
