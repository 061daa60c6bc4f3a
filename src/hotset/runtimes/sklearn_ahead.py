"""Importing this imports all of scikit-learn that a pickled model may need, and rehearses a load and a prediction.

Done ahead of need, in a fork server or in the background of a child. The first load and the first prediction of a process
are some milliseconds slower than the second, as they look things up and keep them: what runtime a file is for, an
estimator's parameters, the plugins of scikit-learn's dependencies. What a fork server has looked up, its children share:
3 MB for each that would write it for itself. No threads start, and no file is touched.
"""

from __future__ import annotations

import importlib
import io
from contextlib import suppress
from typing import Final

import numpy as np

from hotset.payload import InferRequest
from hotset.runtimes import registry
from hotset.runtimes.inlined import UnsuitedError, read_inlined
from hotset.runtimes.sklearn_runtime import INPUT_NAME, servable_for

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


_FILE: Final = "model.joblib"


def _import_all() -> None:
    importlib.import_module("joblib.numpy_pickle")
    importlib.import_module("sklearn")
    for module in MODULES:
        with suppress(ImportError):  # a version of scikit-learn that has no such module
            importlib.import_module(f"sklearn.{module}")


def _rehearse() -> None:
    """Do with a model of no use what a first load does, and ask it."""
    model = importlib.import_module("sklearn.linear_model").LinearRegression()
    model.coef_, model.intercept_, model.n_features_in_ = np.zeros(1), 0.0, 1
    registry.detect([_FILE])
    with io.BytesIO() as file, suppress(UnsuitedError):  # another joblib than the short way is for
        importlib.import_module("joblib").dump(model, file)
        file.seek(0)
        model = read_inlined(file, lambda _: None).build()
    servable = servable_for(model, _FILE)
    servable.infer(InferRequest(inputs={INPUT_NAME: np.zeros((1, 1))}))
    servable.close()
    model.predict(np.zeros((1, 1)))


_import_all()
_rehearse()
