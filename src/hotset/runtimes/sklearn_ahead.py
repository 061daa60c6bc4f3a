"""Importing this imports all of scikit-learn that a pickled model may need, and has it make a first prediction.

Done ahead of need, in a fork server or in the background of a child. The first prediction of a process is some
milliseconds slower than the second, as scikit-learn looks around for plugins of its dependencies then. No threads start.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Final

import numpy as np

MODULES: Final = (
    "pipeline",
    "compose",
    "preprocessing",
    "impute",
    "linear_model",
    "ensemble",
    "tree",
    "svm",
    "neighbors",
    "naive_bayes",
    "neural_network",
    "cluster",
    "decomposition",
    "feature_extraction.text",
    "feature_selection",
    "discriminant_analysis",
    "gaussian_process",
    "calibration",
    "isotonic",
    "kernel_approximation",
    "mixture",
    "multiclass",
    "multioutput",
    "random_projection",
)


def _import_all() -> None:
    importlib.import_module("joblib.numpy_pickle")
    importlib.import_module("sklearn")
    for module in MODULES:
        with suppress(ImportError):  # a version of scikit-learn that has no such module
            importlib.import_module(f"sklearn.{module}")


def _predict_once() -> None:
    model = importlib.import_module("sklearn.linear_model").LinearRegression()
    model.coef_, model.intercept_, model.n_features_in_ = np.zeros(1), 0.0, 1
    model.predict(np.zeros((1, 1)))


_import_all()
_predict_once()
