"""Tensors as raw bytes, by datatype."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hotset.codecs.rawtensors import RAW_DATATYPES, raw_datatype, read_tensor, write_tensor
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import DTYPES, Array

NUMBERS = sorted(DTYPES.keys() - {"BYTES"})


def arrays(datatype: str) -> st.SearchStrategy[Any]:
    shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    if datatype == "BYTES":
        return npst.arrays(object, shapes, elements=st.binary(max_size=9), fill=st.nothing())
    return npst.arrays(DTYPES[datatype], shapes)


@settings(max_examples=300)
@given(datatype=st.sampled_from(sorted(DTYPES)), shift=st.integers(0, 8), data=st.data())
def test_what_is_written_is_read(datatype: str, shift: int, data: st.DataObject) -> None:
    array: Array = data.draw(arrays(datatype))
    written = bytes(write_tensor(array, datatype, "output 'y'"))
    moved = memoryview(b"\xff" * shift + written)[shift:]
    found = read_tensor(moved, datatype, array.shape, "input 'x'")
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.flags.aligned
    assert not found.flags.writeable
    assert (found.tolist() if datatype == "BYTES" else found.tobytes()) == (
        array.tolist() if datatype == "BYTES" else array.tobytes()
    )


@pytest.mark.parametrize("datatype", NUMBERS)
def test_an_array_in_order_is_neither_copied_to_be_written_nor_to_be_read(datatype: str) -> None:
    array = np.ones((64, 2), DTYPES[datatype])
    written = np.frombuffer(write_tensor(array, datatype, "y"), np.uint8)
    assert np.shares_memory(written, array)
    found = read_tensor(written.data, datatype, (64, 2), "x")
    assert np.shares_memory(found, array) or datatype == "BOOL"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2],
        np.arange(6, dtype=np.int32).reshape(2, 3).T,
        np.array(5, np.int32),
    ],
)
def test_any_order_in_memory_is_written_row_by_row_and_little_endian(array: Array) -> None:
    written = bytes(write_tensor(array, "INT32", "y"))
    assert written == b"".join(int(item).to_bytes(4, "little") for item in array.ravel())


class TestBfloat16:
    """Against ml_dtypes, which is not what reads and writes it."""

    def test_every_value_is_read(self) -> None:
        halves = np.arange(2**16, dtype=np.uint16)
        found = read_tensor(halves.tobytes(), "BF16", (2**16,), "x")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, halves.view(ml_dtypes.bfloat16).astype(np.float32))

    def test_every_value_is_written(self) -> None:
        wide = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16)
        assert raw_datatype(wide) == "BF16"
        assert bytes(write_tensor(wide, "BF16", "y")) == wide.tobytes()
        back = read_tensor(write_tensor(wide.astype(np.float32), "BF16", "y"), "BF16", (2**16,), "x")
        np.testing.assert_array_equal(back, wide.astype(np.float32))

    @given(npst.arrays(np.float32, 20))
    def test_what_it_has_no_room_for_is_rounded(self, wide: Array) -> None:
        with np.errstate(all="ignore"):
            expected = wide.astype(ml_dtypes.bfloat16).astype(np.float32)
        found = read_tensor(write_tensor(wide, "BF16", "y"), "BF16", (20,), "x")
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("datatype", [*NUMBERS, "BF16"])
@pytest.mark.parametrize("excess", [-1, 1])
def test_too_few_and_too_many_bytes(datatype: str, excess: int) -> None:
    data = bytes(read_size(datatype) * 6 + excess)
    with pytest.raises(
        InvalidInputError, match=rf"input 'x': {datatype} of the shape \[2, 3\] has \d+ bytes"
    ):
        read_tensor(data, datatype, [2, 3], "input 'x'")


def read_size(datatype: str) -> int:
    return 2 if datatype == "BF16" else DTYPES[datatype].itemsize


@pytest.mark.parametrize(
    ("data", "count", "words"),
    [
        (b"\x01\0\0\0", 1, "element 0 of 1 goes past the end of its 4 bytes"),
        (b"\xff\xff\xff\xffa", 1, "element 0 of 1 goes past the end"),
        (b"\x01\0\0\0a\0", 1, "1 elements of BYTES have 5 bytes, found: 6"),
        (b"\x04\0\0\0aaaa", 2, "element 1 of 2 goes past the end"),
        (b"\x03\0\0\0aaaaaa", 2, "element 1 of 2 goes past the end"),
        (b"", 1, "take 4 bytes or more, found: 0"),
        (b"a", 0, "0 elements of BYTES have 0 bytes, found: 1"),
        (b"\0\0\0\0", 2**62, "take 18446744073709551616 bytes or more, found: 4"),
    ],
)
def test_elements_that_are_cut_short(data: bytes, count: int, words: str) -> None:
    with pytest.raises(InvalidInputError, match=f"input 'x': .*{words}"):
        read_tensor(data, "BYTES", [count], "input 'x'")


@given(data=st.binary(max_size=40), count=st.integers(0, 4))
def test_any_bytes_are_elements_or_invalid_input(data: bytes, count: int) -> None:
    try:
        found = read_tensor(data, "BYTES", [count], "x")
    except InvalidInputError:
        return
    assert bytes(write_tensor(found, "BYTES", "y")) == data


@pytest.mark.parametrize(
    ("datatype", "shape", "words"),
    [
        ("FP32", [-1], "sizes of 0 or more in the shape"),
        ("FP32", [1] * 65, "at most 64 dimensions"),
        ("FP32", [2**62, 4], "has 73786976294838206464 bytes, found: 0"),
        ("FP32", [0, 2**70], "does not fit"),
        ("FLOAT", [1], "expected a datatype of BOOL, .*, BF16, found: 'FLOAT'"),
    ],
)
def test_what_is_no_tensor(datatype: str, shape: list[int], words: str) -> None:
    with pytest.raises(InvalidInputError, match=f"input 'x': .*{words}"):
        read_tensor(b"", datatype, shape, "input 'x'")


def test_whatever_is_not_zero_is_true() -> None:
    assert read_tensor(b"\0\1\2\xff", "BOOL", [4], "x").tolist() == [False, True, True, True]


@pytest.mark.parametrize("item", [1, None, "\udc80"])
def test_objects_that_cannot_be_written(item: object) -> None:
    with pytest.raises(PredictFailedError, match="output 'y' holds "):
        write_tensor(np.array([item], object), "BYTES", "output 'y'")


def test_text_and_fixed_width_strings_are_written_as_utf8() -> None:
    assert bytes(write_tensor(np.array(["é", "b"]), "BYTES", "y")) == b"\2\0\0\0\xc3\xa9\1\0\0\0b"
    assert bytes(write_tensor(np.array([b"a"], "S3"), "BYTES", "y")) == b"\1\0\0\0a"


def test_the_types() -> None:
    assert set(RAW_DATATYPES) == {*DTYPES, "BF16"}
    assert raw_datatype(np.zeros(1, np.float16)) == "FP16"
    with pytest.raises(TypeError):
        raw_datatype(np.zeros(1, complex))
