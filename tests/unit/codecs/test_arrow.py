"""Arrow streams as bodies."""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.codecs.arrow import is_table, read_inputs, read_table, write_outputs, write_table
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
