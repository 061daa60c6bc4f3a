from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.codecs.csvtable import CSV, read_csv, write_csv
from hotset.codecs.native import NativeCodec
from hotset.errors import InvalidInputError
from hotset.payload import InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta

ANY = Signature("sklearn")
FLOATS = Signature("xgboost", (TensorSpec("x", "FP32", (-1, 2)),))
SEVERAL = Signature("onnx", (TensorSpec("km", "INT64", (-1,)), TensorSpec("city", "BYTES", (-1, 1))))
META = CallMeta("paris", 1, "text/csv")

numbers = st.floats(allow_nan=False, allow_infinity=False)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=1, max_size=5)
)


@given(tables)
def test_a_table_is_read_as_it_was_written(rows: list[list[float]]) -> None:
    read = read_csv(write_csv({"y": np.array(rows)}), CSV, ANY, "input-0")
    np.testing.assert_array_equal(read["input-0"], np.array(rows))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1, max_size=5))
def test_texts_are_read_as_they_were_written(texts: list[str]) -> None:
    signature = Signature("onnx", (TensorSpec("x", "BYTES", (-1,)),))
    read = read_csv(write_csv({"y": np.array(texts, dtype=object)}), CSV, signature, "x")
    assert read["x"].tolist() == texts


@given(st.binary(max_size=60))
def test_whatever_comes_is_a_table_or_a_wrong_input(body: bytes) -> None:
    for signature in (ANY, FLOATS, SEVERAL):
        try:
            read_csv(body, CSV, signature, "input-0")
        except InvalidInputError:
            continue


def test_all_columns_are_the_only_input_or_each_is_one_of_several() -> None:
    read = read_csv(b"1,2.5\n3,4\n", CSV, FLOATS, "x")
    assert read["x"].dtype == np.float32
    assert read["x"].tolist() == [[1.0, 2.5], [3.0, 4.0]]
    several = read_csv(b'7,"a,b"\r\n9007199254740993,\xc3\xa4\r\n', CSV, SEVERAL, "")
    assert several["km"].tolist() == [7, 2**53 + 1]
    assert several["city"].tolist() == [["a,b"], ["ä"]]
    assert read_csv(b"km\n5\n", "text/csv; header=present", ANY, "x")["x"].tolist() == [[5.0]]


@pytest.mark.parametrize(
    ("body", "signature", "words"),
    [
        (b"1,2\n3,x\n", FLOATS, "row 2, column 2: expected a number (FP32), found: 'x'"),
        (b"1,2\n3\n", FLOATS, "row 2: expected 2 columns as in row 1, found: 1"),
        (b"1.5,paris\n", SEVERAL, "row 1, column 1: expected a whole number (INT64), found: '1.5'"),
        (b"99999999999999999999,paris\n", SEVERAL, "row 1, column 1"),
        (b"1\n", SEVERAL, "expected 2 columns (km, city), found: 1"),
        (b"\n\n", FLOATS, "at least one row"),
        (b"\xff,1\n", FLOATS, "no CSV in UTF-8"),
        (b'"1', FLOATS, "no CSV in UTF-8"),
        (b"true\n", Signature("onnx", (TensorSpec("x", "BOOL", (-1,)),)), "'x' is BOOL"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(body: bytes, signature: Signature, words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_csv(body, CSV, signature, "input-0")
    assert words in str(caught.value)


def test_outputs_stand_side_by_side() -> None:
    codec = NativeCodec()
    request = codec.decode_tensors(b"1,2\n3,4\n", META, FLOATS)
    outputs = {
        "label": np.array([b"a", b"b,c"], dtype=object),
        "scores": np.array([[0.25, 0.75], [1.0, 0.0]]),
    }
    answer = codec.encode_tensors(InferResponse(outputs), request, META)
    assert answer.content_type == "text/csv; charset=utf-8"
    assert list(csv.reader(io.StringIO(bytes(answer.body).decode()))) == [
        ["a", "0.25", "0.75"],
        ["b,c", "1.0", "0.0"],
    ]
    for wrong in ({"y": np.zeros((2, 2, 2))}, {"y": np.zeros(2), "z": np.zeros(3)}):
        with pytest.raises(InvalidInputError, match="which a CSV cannot hold; ask for JSON"):
            codec.encode_tensors(InferResponse(wrong), request, META)
