"""Inputs as rows: one tensor, or one for each column."""

from __future__ import annotations

import numpy as np
import pytest

from hotset.errors import InvalidInputError
from hotset.payload import Array
from hotset.runtimes.columns import Columns

NAMED = Columns(2, ["area", "rooms"])
UNNAMED = Columns(2)
ONE = Columns(1, ["area"])
ROWS = np.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize("columns", [NAMED, UNNAMED])
@pytest.mark.parametrize("kind", ["f4", "f8", "f2", "i8", "u1", "?"])
def test_one_tensor_of_any_name_and_kind_of_number_stays_as_it_is(columns: Columns, kind: str) -> None:
    rows = ROWS.astype(kind)
    assert columns.rows({"anything": rows}) is rows


def test_columns_in_any_order_become_rows() -> None:
    found = NAMED.rows({"rooms": np.array([[2], [4]]), "area": np.array([1.0, 3.0])})
    np.testing.assert_array_equal(found, ROWS)


def test_the_only_column_may_come_flat_or_as_rows() -> None:
    np.testing.assert_array_equal(ONE.rows({"area": np.array([1.0, 2.0])}), [[1.0], [2.0]])
    np.testing.assert_array_equal(ONE.rows({"area": np.array([[1.0], [2.0]])}), [[1.0], [2.0]])
    np.testing.assert_array_equal(ONE.rows({"other": np.array([[1.0], [2.0]])}), [[1.0], [2.0]])


@pytest.mark.parametrize(
    ("columns", "inputs", "words"),
    [
        (UNNAMED, {}, "expected one input tensor, found 0: none"),
        (UNNAMED, {"a": ROWS, "b": ROWS}, "expected one input tensor, found 2: a, b"),
        (UNNAMED, {"a": ROWS[0]}, r"input 'a': expected the shape \[-1, 2\], found: \[2\]"),
        (UNNAMED, {"a": ROWS[:, :1]}, "input 'a': expected 2 features, found: 1"),
        (UNNAMED, {"a": ROWS[:0]}, "input 'a': expected at least one row, found none"),
        (UNNAMED, {"a": ROWS.astype(str)}, "input 'a': expected numbers, found: BYTES"),
        (UNNAMED, {"a": ROWS.astype("M8[s]")}, "input 'a': expected numbers, found: datetime64"),
        (NAMED, {"area": ROWS[0]}, "missing: rooms; unknown: none"),
        (NAMED, {"area": ROWS[0], "room": ROWS[0]}, "missing: rooms; unknown: room"),
        (NAMED, {"area": ROWS[0], "rooms": ROWS}, r"input 'rooms': expected a column .* found: \[2, 2\]"),
        (NAMED, {"area": ROWS[0], "rooms": ROWS[0, :1]}, "differ in length: {'area': 2, 'rooms': 1}"),
        (NAMED, {"area": ROWS[0, :0], "rooms": ROWS[0, :0]}, "input 'area': expected at least one row"),
        (NAMED, {"area": ROWS[0], "rooms": ROWS[0].astype(object)}, "input 'rooms': expected numbers"),
    ],
)
def test_says_what_is_wrong(columns: Columns, inputs: dict[str, Array], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        columns.rows(inputs)
