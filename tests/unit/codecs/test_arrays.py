"""JSON values to arrays and back."""

from __future__ import annotations

import numpy as np
import pytest

from hotset.codecs.arrays import as_text, to_array, to_lists
from hotset.errors import InvalidInputError, PredictFailedError


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        ([[1, 2], [3, 4]], None, np.array([[1, 2], [3, 4]], np.int64)),
        ([[1, 2.5]], None, np.array([[1, 2.5]], np.float64)),
        ([1, None], None, np.array([1, np.nan], np.float64)),
        ([2**63], None, np.array([2.0**63], np.float64)),
        ([True, False], None, np.array([True, False])),
        ([1, "a"], None, np.array([1, "a"], object)),
        ([], None, np.array([], np.float64)),
        ([[], []], "INT8", np.zeros((2, 0), np.int8)),
        (5, "INT64", np.array(5, np.int64)),
        ([[1, 2]], "FP32", np.array([[1, 2]], np.float32)),
        ([1, None], "FP32", np.array([1, np.nan], np.float32)),
        ([2**64 - 1], "UINT64", np.array([2**64 - 1], np.uint64)),
        ([-128, 127], "INT8", np.array([-128, 127], np.int8)),
        (["rome", {"b64": "b3Nsbw=="}], "BYTES", np.array(["rome", b"oslo"], object)),
        ({"b64": "b3Nsbw=="}, None, np.array(b"oslo", object)),
    ],
)
def test_reads(value, datatype, expected) -> None:
    array = to_array(value, datatype, "x")
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


def nest(depth: int) -> list:
    value: list = [1]
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "datatype", "message"),
    [
        ([[1, 2], [3]], None, "x[1]: expected a list of 2 as in x[0], found: a list of 1"),
        ([[[1], [2]], [[3], 4]], None, "x[1][1]: expected a list of 1 as in x[0][0], found: a single value"),
        ([1, [2]], "FP32", "x[1]: expected a single value as in x[0], found: a list of 1"),
        ([[1, 2], [3, "4"]], "FP32", "x[1][1]: expected FP32, found: text"),
        ([True], "FP32", "x[0]: expected FP32, found: a boolean"),
        ([1.0], "INT8", "x[0]: expected INT8, found: the number 1.0"),
        ([None], "INT8", "x[0]: expected INT8, found: null"),
        ([{"a": 1}], "FP32", "x[0]: expected FP32, found: an object"),
        ([1], "BYTES", "x[0]: expected BYTES, found: the number 1"),
        ([1], "BOOL", "x[0]: expected BOOL, found: the number 1"),
        ([300], "INT8", "x: a number is out of range for INT8"),
        ([-1], "UINT64", "x: a number is out of range for UINT64"),
        ([1e300], "FP32", "x: a number is out of range for FP32"),
        ([10**400], None, "x: a number is out of range for FP64"),
        ([{"a": 1}], None, "x: expected a value, found an object with the keys: a"),
        ([{"b64": "!"}], "BYTES", "x: not base64: Only base64 data is allowed"),
        (
            [{"b64": 3}],
            None,
            "x: not base64: argument should be a bytes-like object or ASCII string, not 'int'",
        ),
        (nest(65), None, "x: nested more than 64 deep"),
    ],
)
def test_refuses(value, datatype, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        to_array(value, datatype, "x")
    assert str(caught.value) == message


def test_the_deepest_nest_is_read() -> None:
    assert to_array(nest(64), "FP32", "x").ndim == 64


def test_one_long_text_among_many_short_ones_takes_no_more_room_than_itself() -> None:
    """NumPy's own guess would give each element the room of the longest: 40 GB here."""
    assert to_array(["a" * 1_000_000] + ["b"] * 10_000, None, "x").dtype == object


def test_writes() -> None:
    assert to_lists(np.array([[1.5, 2]]), "y") == [[1.5, 2.0]]
    assert to_lists(np.array([[b"a"], ["b"]], object), "y") == [["a"], ["b"]]
    assert to_lists(np.array(["a", "b"]), "y") == ["a", "b"]
    assert to_lists(np.array([b"a"]), "y") == ["a"]
    assert type(as_text(np.str_("a"), "y")) is str


@pytest.mark.parametrize(
    ("item", "words"), [(b"\xff", "not UTF-8"), (object(), "holds values of type object")]
)
def test_refuses_to_write(item, words: str) -> None:
    with pytest.raises(PredictFailedError, match=f"output 'y' .*{words}"):
        to_lists(np.array([item], object), "y")
