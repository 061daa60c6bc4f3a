"""XGBoost: ``*.ubj``, ``model.json`` and ``*.xgb.json``, as ``save_model`` writes them.

A model that ``XGBClassifier`` wrote answers ``predict`` with classes and ``predict_proba`` with their probabilities, as that
class does; any other answers ``predict`` with what its objective makes of it. Where training stopped early, the best
iteration counts. Missing values are NaN; categories are given as their codes.

XGBoost's own classes for scikit-learn are not used: they take scikit-learn to be installed, and as long again to answer.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np

from hotset.payload import Array, Signature
from hotset.runtimes.columns import Columns
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.runtimes.patterns import choose_matching, matching
from hotset.runtimes.reason import load_failure, not_installed
from hotset.runtimes.tables import PREDICT, PREDICT_PROBA, Method, TableOptions, TableServable, told_by
from hotset.runtimes.xgboost_dense import dense_predict

_LINEAR: Final = "gblinear"


class XgboostRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "xgboost"
    extra = "xgboost"
    patterns = ("*.ubj", "model.json", "*.xgb.json")
    size_factor = 3.0
    devices = ("cpu",)

    def detect(self, files: Sequence[str]) -> bool:
        return bool(matching(files, self.patterns))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        del path, files
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> TableServable:
        threads = options.read(TableOptions).threads
        file = choose_matching(files, self.patterns)
        try:
            xgboost = importlib.import_module("xgboost")
        except ImportError as error:
            raise not_installed("XGBoost", self.extra) from error
        try:
            model = _Model(xgboost, path / file, threads=threads)
            columns = Columns(model.features, model.names)
            # The first prediction also sets the booster up, which two threads must not do at once.
            outputs = told_by(model.methods, np.zeros((1, model.features), np.float32))
        except Exception as error:
            raise load_failure(f"cannot load {file}:", error) from error
        return TableServable(Signature(self.name, columns.specs, outputs), columns.rows, model.methods)


class _Model:
    """One booster, and the answers that XGBoost's own classes give. Thread-safe.

    Trees may be asked from several threads at once, says XGBoost's documentation of ``inplace_predict``; linear boosters
    may not, and are asked through a matrix, under a lock.
    """

    def __init__(self, xgboost: Any, file: Path, *, threads: int) -> None:
        booster = xgboost.Booster(model_file=str(file))
        booster.set_param({"nthread": threads})
        learner = json.loads(booster.save_config())["learner"]
        self._booster = booster
        self._matrix = xgboost.DMatrix
        self._threads = threads
        self._is_linear = learner["gradient_booster"]["name"] == _LINEAR
        self._lock: AbstractContextManager[Any] = Lock() if self._is_linear else nullcontext()
        self._objective: str = learner["objective"]["name"]
        self._classes = int(learner["learner_model_param"]["num_class"])
        self._range = (0, 0 if self._is_linear else _best_iteration(booster) + 1)
        self._short = None if self._is_linear else dense_predict(xgboost, booster, self._range)
        self.features: int = booster.num_features()
        self.names: tuple[str, ...] = tuple(booster.feature_names or ())
        self._is_classifier = _is_classifier(booster)

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by the outputs they answer. Not kept here: a model in a circle is freed by the collector alone."""
        if self._is_classifier:
            return {PREDICT: self.classes, PREDICT_PROBA: self.probabilities}
        return {PREDICT: self.values}

    def values(self, rows: Array, kind: str = "value") -> Array:
        """Return what the objective makes of the sums, or with the kind ``margin`` the sums."""
        if self._short is not None and kind == "value":
            return self._short(rows)
        with self._lock:
            if self._is_linear:
                matrix = self._matrix(rows, nthread=self._threads, feature_names=self.names or None)
                values: Array = self._booster.predict(matrix, output_margin=kind == "margin")
            else:
                values = self._booster.inplace_predict(
                    rows, iteration_range=self._range, predict_type=kind, validate_features=False
                )
        return values

    def classes(self, rows: Array) -> Array:
        """Return the classes as ``XGBClassifier.predict`` does."""
        values = self.values(rows)
        if self._objective == "multi:softmax":
            return values.astype(np.int32)
        if values.ndim == 2 and self._classes > 2:
            best: Array = values.argmax(axis=1)
            return best
        return (values > 0.5).astype(np.int64)

    def probabilities(self, rows: Array) -> Array:
        """Return the probability of each class as ``XGBClassifier.predict_proba`` does."""
        if self._objective == "multi:softmax":
            return _softmax(self.values(rows, "margin"))
        values = self.values(rows)
        if values.ndim == 2 or self._classes > 1:
            return values
        return np.vstack((1.0 - values, values)).transpose()


def _softmax(margins: Array) -> Array:
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _best_iteration(booster: Any) -> int:
    """Return the best iteration where training stopped early; -1 for all."""
    best = booster.attr("best_iteration")
    return int(best) if best is not None else -1


def _is_classifier(booster: Any) -> bool:
    """``XGBClassifier`` notes in the file that it wrote it."""
    note = booster.attr("scikit_learn")
    return note is not None and json.loads(note).get("_estimator_type") == "classifier"
