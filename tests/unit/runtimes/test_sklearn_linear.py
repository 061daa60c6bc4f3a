"""The short predict of linear models: what it says, for whom there is one, and what it leaves to scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import (
    ElasticNet,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    MultiTaskLasso,
    PoissonRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVR

from hotset.runtimes.sklearn_linear import LinearPredict, short_predict

RANDOM = np.random.default_rng(7)
ROWS = RANDOM.normal(size=(40, 3))
ONE = ROWS @ [1.0, -2.0, 3.0] + 0.5
TWO = np.stack([ONE, -ONE], axis=1)

SHORT = [
    LinearRegression().fit(ROWS, ONE),
    LinearRegression().fit(ROWS, TWO),
    LinearRegression(fit_intercept=False).fit(ROWS.astype(np.float32), ONE.astype(np.float32)),
    Lasso(0.01).fit(ROWS, ONE),
    ElasticNet(0.01).fit(ROWS, ONE),
    MultiTaskLasso(0.01).fit(ROWS, TWO),
    HuberRegressor().fit(ROWS, ONE),
    LinearSVR(max_iter=10_000).fit(ROWS, ONE),
]


@pytest.mark.parametrize("model", SHORT, ids=lambda it: type(it).__name__)
@settings(max_examples=60, deadline=None)
@given(
    data=hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.int8, np.bool_]),
        st.tuples(st.integers(0, 4), st.integers(2, 4)),
    )
)
def test_it_says_what_the_models_own_predict_says(model: Any, data: Any) -> None:
    """Whatever comes: equal to the last bit, or refused with the same words."""
    short = short_predict(model)
    assert short is not None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        outcomes = []
        for predict in (short, model.predict):
            try:
                outcomes.append(predict(data))
            except ValueError as error:
                outcomes.append(str(error))
    one, other = outcomes
    if isinstance(other, str):
        assert one == other
    else:
        assert one.dtype == other.dtype
        assert np.array_equal(one, other, equal_nan=True)


class Own(LinearRegression):
    """A user's class: nobody knows what it does."""


class Shifted(LinearRegression):
    def predict(self, X: Any) -> Any:
        return super().predict(X) + 1


def patched() -> Any:
    model = LinearRegression().fit(ROWS, ONE)
    model.predict = lambda _rows: np.zeros(1)
    return model


def sparse() -> Any:
    from scipy.sparse import csr_matrix

    model = Lasso(0.01).fit(ROWS, ONE)
    model.coef_ = csr_matrix(model.coef_)
    return model


def named() -> Any:
    model = LinearRegression().fit(ROWS, ONE)
    model.feature_names_in_ = np.array(["a", "b", "c"], dtype=object)
    return model


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression().fit(ROWS, ONE > 0),
        PoissonRegressor().fit(ROWS, np.abs(ONE)),
        RandomForestRegressor(3).fit(ROWS, ONE),
        make_pipeline(StandardScaler(), LinearRegression()).fit(ROWS, ONE),
        Own().fit(ROWS, ONE),
        Shifted().fit(ROWS, ONE),
        LinearRegression(),
        patched(),
        sparse(),
        named(),
    ],
    ids=lambda it: type(it).__name__,
)
def test_whoever_is_not_known_keeps_its_own(model: Any) -> None:
    assert short_predict(model) is None


def test_a_scikit_learn_that_says_something_else_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotset.runtimes.sklearn_linear._PROVEN", {})
    monkeypatch.setattr(LinearPredict, "__call__", lambda *_: np.zeros(5))
    assert short_predict(SHORT[0]) is None
