"""Arrow streams as bodies."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.body_limits import LIMITS, configure
from hotset.codecs.arrow import is_table, read_inputs, read_table, write_outputs, write_table
from hotset.codecs.arrow_sizes import unpacked_bytes
from hotset.errors import InvalidInputError, PredictFailedError, UnsupportedError
from hotset.payload import Signature, TensorSpec

NOTHING = Signature("any")
ONE = Signature("any", (TensorSpec("x", "FP64", (-1, -1)),))
TWO = Signature("any", (TensorSpec("a", None, (-1,)), TensorSpec("b", None, (-1, 2))))


def stream(**columns: object) -> bytes:
    return write_table(pa.table(columns))


def test_columns_are_the_features_of_the_only_input() -> None:
    body = stream(km=[1.0, 2.0], hour=pa.array([3, 4]))
    for signature, name in ((NOTHING, "input-0"), (ONE, "x")):
        ((given_name, array),) = read_inputs(body, signature, "input-0").items()
        assert (given_name, array.tolist()) == (name, [[1.0, 3.0], [2.0, 4.0]])


def test_columns_named_as_the_inputs_are_the_inputs() -> None:
    inputs = read_inputs(stream(b=[[1, 2], [3, 4]], a=["x", "y"]), TWO, "input-0")
    assert {name: array.tolist() for name, array in inputs.items()} == {
        "b": [[1, 2], [3, 4]],
        "a": ["x", "y"],
    }
    assert read_inputs(stream(x=[[1.0], [2.0]]), ONE, "input-0")["x"].tolist() == [[1.0], [2.0]]


def test_missing_numbers_are_not_numbers_and_other_missing_values_are_refused() -> None:
    array = read_inputs(stream(x=[1.5, None]), ONE, "input-0")["x"]
    assert np.isnan(array[1])
    for values in ([1, None], ["a", None], [[1.0], None]):
        with pytest.raises(
            InvalidInputError, match=r"column 'x': expected a (value|list) in each row, found null"
        ):
            read_inputs(stream(x=values), ONE, "input-0")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": [[1.0], [1.0, 2.0]]}, "expected lists of one length"),
        ({"x": [{"a": 1}]}, "expected numbers, booleans or text, found: struct"),
        ({}, "expected a column at least"),
        ({"p": [[[1.0]]]}, "found deeper ones"),
    ],
)
def test_what_is_no_tensor_is_refused(columns: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read_inputs(stream(**columns), ONE, "input-0")


def test_two_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    with pytest.raises(InvalidInputError, match="two columns have the same name"):
        read_inputs(write_table(table), ONE, "input-0")


def test_categories_and_chunks_are_read() -> None:
    chunked = pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()])
    assert read_inputs(stream(a=chunked), NOTHING, "input-0")["input-0"].tolist() == [["a"], ["b"]]


@given(st.binary(max_size=200), st.integers(0, 10**6))
def test_any_bytes_are_refused(data: bytes, at: int) -> None:
    with pytest.raises(InvalidInputError, match="the body is not an Arrow IPC stream"):
        read_table(data, "the body")
    whole = stream(x=[1.0, 2.0], y=["a", "b"])
    with contextlib.suppress(InvalidInputError):
        # A stream may end without a mark, between two batches; HTTP sees to it that the body is whole.
        assert read_table(whole[: at % (len(whole) - 8)], "the body").num_rows == 0


@given(st.data())
def test_damaged_streams_never_do_harm(data: st.DataObject) -> None:
    whole = bytearray(stream(x=[1.0, 2.0], y=["a", "b"], z=[[1], [2]]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidInputError):
        read_inputs(bytes(whole), NOTHING, "input-0")


def test_outputs_are_columns_and_come_back_as_they_were() -> None:
    outputs = {
        "predict": np.array([1.5, 2.5]),
        "predict_proba": np.arange(12.0).reshape(2, 3, 2),
        "label": np.array(["a", "b"], dtype=object),
        "raw": np.array([b"\xff", b""], dtype=object),
        "yes": np.array([True, False]),
    }
    signature = Signature("any", tuple(TensorSpec(name, None, (-1,)) for name in outputs))
    back = read_inputs(write_outputs(outputs), signature, "input-0")
    for name, array in outputs.items():
        assert back[name].tolist() == array.tolist()


def test_outputs_that_are_no_table_are_refused() -> None:
    with pytest.raises(PredictFailedError, match="not the same number of rows"):
        write_outputs({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(PredictFailedError, match="output 'a' cannot be written as Arrow"):
        write_outputs({"a": np.zeros(2, dtype=complex)})


def test_tables_are_known_and_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"x": [1]})
    assert is_table(table)
    assert is_table(table.to_batches()[0])
    assert not is_table([1])
    body = stream(x=[1])
    for module in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedError, match=r"pip install 'hotset\[arrow\]'"):
        read_table(body, "the body")


def packed_stream(table: pa.Table, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def sizes(body: bytes) -> int:
    messages = pa.ipc.MessageReader.open_stream(body)
    total = 0
    with contextlib.suppress(StopIteration):
        while True:
            total += unpacked_bytes(messages.read_next_message())
    return total


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_batches_that_are_compressed_are_read(codec: str) -> None:
    table = pa.table({"a": [1.0, 2.0] * 500, "b": pa.array(["x", "y"] * 500).dictionary_encode()})
    body = packed_stream(table, codec)
    assert read_table(body, "x").equals(table)
    assert len(body) < sizes(write_table(table)) <= len(write_table(table))
    padding = 64 * 8  # what is not compressed is padded
    assert sizes(body) <= sizes(write_table(table)) <= sizes(body) + padding


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_bomb_is_refused_before_it_is_unpacked(codec: str, bounded: int) -> None:
    bomb = packed_stream(pa.table({"a": pa.array(np.zeros(bounded // 8 + 8))}), codec)
    assert len(bomb) < bounded / 100
    before = pa.total_allocated_bytes()
    with pytest.raises(InvalidInputError, match=rf"at most {bounded} bytes when unpacked \(max_body_size\)"):
        read_table(bomb, "the body")
    assert pa.total_allocated_bytes() == before
    assert read_table(packed_stream(pa.table({"a": np.zeros(bounded // 16)}), codec), "x").num_columns == 1


def test_a_bomb_in_a_dictionary_is_refused(bounded: int) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0]), pa.array(["x" * (bounded + 1)]))
    with pytest.raises(InvalidInputError, match="when unpacked"):
        read_table(packed_stream(pa.table({"a": column}), "zstd"), "the body")


def test_a_length_that_lies_takes_no_memory(bounded: int) -> None:
    """What stands in front of a buffer is what is allocated, whatever is in it."""
    body = bytearray(packed_stream(pa.table({"a": np.arange(1000.0)}), "zstd"))
    at = body.index((8000).to_bytes(8, "little"), len(body) // 8)
    for said, words in (
        (bounded + 1, "when unpacked"),
        (-5, "a length of -5"),
        (7, "not an Arrow IPC stream"),
    ):
        body[at : at + 8] = said.to_bytes(8, "little", signed=True)
        with pytest.raises(InvalidInputError, match=words):
            read_table(bytes(body), "the body")


def test_a_long_text_that_is_named_often_is_there_once() -> None:
    text, times = "x" * 1_000_000, 100_000
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, dtype=np.int8)), pa.array([text]))
    inputs = read_inputs(stream(a=column, b=pa.array(np.zeros(times))), TWO, "x")
    assert inputs["a"].shape == (times,)
    assert inputs["a"][0] is inputs["a"][-1]


def test_dictionaries_of_numbers_may_have_gaps() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), pa.array([0.5, 1.5]))
    array = read_inputs(stream(x=column), ONE, "x")["x"].ravel()
    assert (array[0], np.isnan(array[1]), array[2]) == (1.5, True, 0.5)
    column = pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), pa.array(["rome"]))
    with pytest.raises(InvalidInputError, match="column 'a': expected a value in each row, found null"):
        read_inputs(stream(a=column, b=[1, 2]), TWO, "x")


@pytest.fixture
def bounded() -> Iterator[int]:
    """What a body may unpack to, less than usual."""
    depth, elements, unpacked = LIMITS.json_depth, LIMITS.elements, LIMITS.unpacked_bytes
    configure(json_depth=depth, elements=elements, unpacked_bytes=1 << 20)
    yield 1 << 20
    configure(json_depth=depth, elements=elements, unpacked_bytes=unpacked)
