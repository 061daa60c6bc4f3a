"""LightGBM: ``model.txt`` and ``*.lgb.txt``, as ``Booster.save_model`` writes them.

``predict`` is the booster's own: values, or for a classifier the probability of the second class, or of each. The file does
not hold what the classes were called. ``predict_proba``, for classifiers, has a column for each class. Missing values
are NaN. Columns that were categories of pandas in training are given by name, as they were then, or in rows, as codes.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from hotset.payload import Array, Signature
from hotset.runtimes.columns import Columns
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.runtimes.patterns import choose_matching, matching
from hotset.runtimes.reason import load_failure, not_installed
from hotset.runtimes.tables import PREDICT, PREDICT_PROBA, Method, TableOptions, TableServable, told_by

_ALL_TREES: Final = -1
_CLASSIFIERS: Final = frozenset({"binary", "multiclass", "multiclassova"})

_log = logging.getLogger(__name__)


class LightgbmRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "lightgbm"
    extra = "lightgbm"
    patterns = ("model.txt", "*.lgb.txt")
    size_factor = 1.5
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
            lightgbm = importlib.import_module("lightgbm")
        except ImportError as error:
            raise not_installed("LightGBM", self.extra) from error
        except OSError as error:  # its library cannot be loaded: libgomp is not there
            raise load_failure("cannot import LightGBM:", error) from error
        try:
            # It prints what it raises, too.
            lightgbm.register_logger(_log)
            model = _Model(lightgbm.Booster(model_file=str(path / file)), _head(path / file), threads=threads)
            outputs = told_by(model.methods, np.zeros((1, model.columns.count)))
        except Exception as error:
            raise load_failure(f"cannot load {file}:", error) from error
        return TableServable(Signature(self.name, model.columns.specs, outputs), model.rows, model.methods)


class _Model:
    """One booster. Thread-safe: LightGBM's predictions share a lock, and all of them here use all trees.

    That they do matters: how many are used is noted in the booster, and another number would be another call's too.
    """

    def __init__(self, booster: Any, head: Mapping[str, str], *, threads: int) -> None:
        self._booster = booster
        self._threads = threads
        self.columns = Columns(booster.num_feature(), booster.feature_name())
        self._codes = _codes(booster, head, self.columns)
        self._is_classifier = head.get("objective", "").split(" ")[0] in _CLASSIFIERS

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by the outputs they answer. Not kept here: a model in a circle is freed by the collector alone."""
        methods: dict[str, Method] = {PREDICT: self.values}
        if self._is_classifier:
            methods[PREDICT_PROBA] = self.probabilities
        return methods

    def rows(self, inputs: Mapping[str, Array]) -> Array:
        """Return the inputs as rows of numbers, categories as codes."""
        if not self._codes or len(inputs) == 1:
            return self.columns.rows(inputs)
        given = self.columns.by_name(inputs)
        coded = {name: _coded(given[name], codes) for name, codes in self._codes.items()}
        return self.columns.rows(given | coded)

    def values(self, rows: Array) -> Array:
        """Return what ``Booster.predict`` does."""
        answer: Array = self._booster.predict(rows, num_iteration=_ALL_TREES, num_threads=self._threads)
        return answer

    def probabilities(self, rows: Array) -> Array:
        """Return the probability of each class."""
        values = self.values(rows)
        return values if values.ndim == 2 else np.vstack((1.0 - values, values)).transpose()


def _head(file: Path) -> dict[str, str]:
    """Return what stands before the first tree, one ``name=value`` a line."""
    found: dict[str, str] = {}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.rstrip("\n").partition("=")
            if name == "Tree":
                break
            found[name] = value
    return found


def _codes(booster: Any, head: Mapping[str, str], columns: Columns) -> dict[str, dict[Any, float]]:
    """Return for each column of categories what each is coded as, or nothing where the columns cannot be told.

    The file has the categories of each such column, in order, and of each column the interval of its numbers or,
    without brackets, its codes.
    """
    categories = booster.pandas_categorical or []
    infos = head.get("feature_infos", "").split(" ")
    if len(infos) != columns.count:
        return {}
    coded = [name for name, info in zip(columns.names, infos, strict=True) if info[0] not in "[n"]
    if len(coded) != len(categories):
        return {}
    return {
        name: {_plain(value): float(code) for code, value in enumerate(values)}
        for name, values in zip(coded, categories, strict=True)
    }


def _coded(column: Array, codes: Mapping[Any, float]) -> Array:
    """Return the codes of categories; NaN for one that training had not seen, as LightGBM has it."""
    return np.array([codes.get(_plain(value), np.nan) for value in column.tolist()])


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
