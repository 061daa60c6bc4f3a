"""The short way to XGBoost's predictions says what the long one says, and where it cannot, the long one is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgboost

from hotset.runtimes import xgboost_dense
from hotset.runtimes.xgboost_dense import DensePredict, dense_predict
from tree_models import ROWS, SUMS, THIRDS, xgb


@pytest.fixture
def booster() -> Any:
    return xgb("Classifier").fit(ROWS, THIRDS).get_booster()


@pytest.fixture
def short(booster: Any) -> DensePredict:
    found = dense_predict(xgboost, booster, (0, 0))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["f4", "f8", "i4", "i8", "f2", "u1", "?"])
@pytest.mark.parametrize("rows", [1, 2, 300])
def test_says_the_same_of_every_kind_of_number(short: DensePredict, kind: str, rows: int) -> None:
    data = ROWS if kind in {"f4", "f8"} else np.nan_to_num(np.abs(ROWS))
    data = np.ascontiguousarray(data[:rows].astype(kind))
    found = short(data)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, short.own(data))


@pytest.mark.parametrize("rows", [ROWS[::2], np.asfortranarray(ROWS), ROWS[:, ::-1], ROWS.astype(">f4")])
def test_says_the_same_of_every_layout(short: DensePredict, rows: np.ndarray) -> None:
    np.testing.assert_array_equal(short(rows), short.own(rows))


@pytest.mark.parametrize("range_", [(0, 0), (0, 3)])
def test_a_part_of_the_trees(range_: tuple[int, int]) -> None:
    booster = xgb().fit(ROWS, SUMS).get_booster()
    short = dense_predict(xgboost, booster, range_)
    assert short is not None
    np.testing.assert_array_equal(short(ROWS), booster.inplace_predict(ROWS, iteration_range=range_))


def test_an_answer_is_kept_while_others_are_given(short: DensePredict) -> None:
    """XGBoost has one place for each thread's answers, and writes the next one there."""
    first = short(ROWS[:5])
    kept = first.copy()
    short(ROWS[5:300])
    np.testing.assert_array_equal(first, kept)


def test_what_is_refused_is_said_by_xgboost_itself(short: DensePredict) -> None:
    with pytest.raises(ValueError, match="columns"):
        short(ROWS[:, :2].copy())


@pytest.mark.parametrize("says", [lambda rows: rows[:, 0], lambda rows: rows[:, :3].astype(np.float32)])
def test_it_is_not_taken_where_it_says_something_else(
    booster: Any, monkeypatch: pytest.MonkeyPatch, says: Any
) -> None:
    monkeypatch.setattr(xgboost_dense, "_proven", [])
    monkeypatch.setattr(DensePredict, "__call__", lambda _, rows: says(rows))
    assert dense_predict(xgboost, booster, (0, 0)) is None
    monkeypatch.undo()
    assert dense_predict(xgboost, booster, (0, 0)) is not None


def test_it_is_not_taken_where_there_is_none(booster: Any) -> None:
    assert dense_predict(object(), booster, (0, 0)) is None
    assert dense_predict(xgboost, object(), (0, 0)) is None
