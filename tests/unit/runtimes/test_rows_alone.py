from __future__ import annotations

import pytest
from sklearn.decomposition import NMF
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from hotset.runtimes.sklearn_runtime import treats_rows_alone


class Own(LinearRegression):
    """An estimator of the user's."""


@pytest.mark.parametrize(
    "model",
    [LinearRegression(), RandomForestRegressor(), make_pipeline(StandardScaler(), LinearRegression()), SVC()],
)
def test_scikit_learns_own_are(model):
    assert treats_rows_alone(model)


@pytest.mark.parametrize(
    "model",
    [
        Own(),
        object(),
        NMF(),
        FunctionTransformer(),
        SVC(kernel=lambda a, b: a @ b.T),
        make_pipeline(FunctionTransformer(), LinearRegression()),
        make_pipeline(StandardScaler(), Own()),
    ],
)
def test_what_calls_the_users_functions_or_solves_for_all_rows_is_not(model):
    assert not treats_rows_alone(model)
