"""NumPy's files as bodies: read without unpickling, whatever the bytes are."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hotset.body_limits import LIMITS
from hotset.codecs.npy import MOST_ARRAYS, read_npy, read_npz, write_npy, write_npz
from hotset.errors import InvalidInputError, PredictFailedError

NUMBERS = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="="),
    arrays.floating_dtypes(endianness="=", sizes=(16, 32, 64)),
)
ARRAYS = arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=0, min_side=0))


def saved(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)  # type: ignore[arg-type]
    return file.getvalue()


@given(ARRAYS)
def test_what_is_written_is_read(array: np.ndarray) -> None:
    read = read_npy(write_npy(array, "x"), "the body")
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(read, array)


@given(ARRAYS)
def test_numpys_own_files_are_read_and_ours_by_numpy(array: np.ndarray) -> None:
    np.testing.assert_array_equal(read_npy(saved(np.asfortranarray(array)), "the body"), array)
    np.testing.assert_array_equal(np.load(io.BytesIO(write_npy(array, "x"))), array)


@given(st.dictionaries(st.text("abc-_0", min_size=1), ARRAYS, max_size=4))
def test_several_arrays_keep_their_names_and_their_order(several: dict[str, np.ndarray]) -> None:
    read = read_npz(write_npz(several), "the body")
    assert list(read) == list(several)
    for name, array in several.items():
        np.testing.assert_array_equal(read[name], array)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_input(data: bytes) -> None:
    for read in (read_npy, read_npz):
        with pytest.raises(InvalidInputError, match="the body"):
            read(data, "the body")


@given(ARRAYS, st.data())
def test_a_file_cut_short_is_refused(array: np.ndarray, data: st.DataObject) -> None:
    whole = saved(array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InvalidInputError):
        read_npy(whole[:cut], "the body")


def test_numbers_are_a_read_only_view_of_the_body() -> None:
    array = read_npy(memoryview(saved(np.arange(1000.0))), "the body")
    assert array.base is not None
    assert not array.flags.writeable


def test_other_byte_orders_and_text_become_what_tensors_are() -> None:
    assert read_npy(saved(np.array([1, 2], dtype=">i4")), "the body").dtype == np.int32
    text = read_npy(saved(np.array(["Zürich", ""])), "the body")
    assert (text.dtype, text.tolist()) == (np.dtype(object), ["Zürich", ""])
    assert read_npy(saved(np.array([b"a"])), "the body").tolist() == [b"a"]
    assert read_npy(write_npy(np.array(["a", "bcd"], dtype=object), "x"), "the body").tolist() == ["a", "bcd"]


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="it is a double here")
def test_no_number_is_wider_than_a_double() -> None:
    with pytest.raises(InvalidInputError, match="expected numbers, booleans or text, found the NumPy type: "):
        read_npy(saved(np.zeros(2, np.longdouble)), "the body")


def test_nothing_is_unpickled() -> None:
    with pytest.raises(
        InvalidInputError, match="expected numbers, booleans or text, found the NumPy type: object"
    ):
        read_npy(saved(np.array([{}], dtype=object), allow_pickle=True), "the body")
    with pytest.raises(
        PredictFailedError, match=r"output 'x' cannot be written as \.npy: it holds values of type dict"
    ):
        write_npy(np.array([{}], dtype=object), "output 'x'")
    with pytest.raises(PredictFailedError, match="datetime64"):
        write_npy(np.array(["2026-01-01"], dtype="datetime64[D]"), "output 'x'")


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((10**12,), "<f8", "expected 8000000000000 bytes of data"),
        ((10**12,), "<U0", "at least one character"),
        ((-1,), "<f8", "not a shape"),
        ((1,) * 65, "<f8", "not a shape"),
        ((1,), "<M8[s]", "datetime64"),
        ((1,), "<c16", "complex128"),
    ],
)
def test_a_header_that_promises_too_much_takes_no_memory(
    shape: tuple[int, ...], kind: str, words: str
) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    with pytest.raises(InvalidInputError, match=words):
        read_npy(file.getvalue() + bytes(8), "the body")


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    file, most = io.BytesIO(), LIMITS.unpacked_bytes
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as entry:
        zeros = bytes(1 << 20)
        for _ in range(most // len(zeros) + 1):
            entry.write(zeros)
    assert len(file.getvalue()) < most / 500
    with pytest.raises(InvalidInputError, match=rf"at most {most} bytes when unpacked \(max_body_size\)"):
        read_npz(file.getvalue(), "the body")


def test_an_archive_of_very_many_arrays_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(MOST_ARRAYS + 1):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(InvalidInputError, match=f"at most {MOST_ARRAYS} arrays"):
        read_npz(file.getvalue(), "the body")


def test_an_archive_that_is_damaged_or_packed_in_another_way_is_refused() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros(100))
    data = bytearray(file.getvalue())
    data[60] ^= 0xFF
    with pytest.raises(InvalidInputError, match=r"not a \.npz file"):
        read_npz(bytes(data), "the body")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", write_npy(np.zeros(3), "x"))
    with pytest.raises(InvalidInputError, match=r"as numpy\.savez packs them"):
        read_npz(file.getvalue(), "the body")


def test_a_compressed_archive_is_read() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, a=np.arange(3), b=np.eye(2))
    assert {name: array.tolist() for name, array in read_npz(file.getvalue(), "the body").items()} == {
        "a": [0, 1, 2],
        "b": [[1.0, 0.0], [0.0, 1.0]],
    }
