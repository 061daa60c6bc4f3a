"""CatBoost: ``*.cbm``, as ``save_model`` writes them.

A model with classes answers ``predict`` with them and ``predict_proba`` with their probabilities; any other answers ``predict``
with values, as ``CatBoostRegressor`` does. Missing numbers are NaN. Columns of categories or text are text or whole
numbers: one tensor for each column by name, or one tensor of BYTES with all of them, in which numbers are text, too.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from hotset.errors import HotsetError, InvalidInputError, LoadFailedError
from hotset.payload import Array, Signature, TensorSpec, datatype_of
from hotset.runtimes.columns import Columns
from hotset.runtimes.modelfile import candidates, choose
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.runtimes.reason import load_failure, not_installed
from hotset.runtimes.tables import PREDICT, PREDICT_PROBA, Method, TableOptions, TableServable, told_by

SUFFIXES: Final = (".cbm",)
_TEXT: Final = "SUO"
_WHOLE: Final = "iub"


class CatboostRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "catboost"
    extra = "catboost"
    patterns = tuple(f"*{suffix}" for suffix in SUFFIXES)
    size_factor = 2.0
    devices = ("cpu",)

    def detect(self, files: Sequence[str]) -> bool:
        return bool(candidates(files, SUFFIXES))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        del path, files
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> TableServable:
        threads = options.read(TableOptions).threads
        file = choose(files, SUFFIXES)
        try:
            catboost = importlib.import_module("catboost")
        except ImportError as error:
            raise not_installed("CatBoost", self.extra) from error
        try:
            model = _Model(_loaded(catboost, path / file), file, threads=threads)
            outputs = told_by(model.methods, model.any_row())
        except HotsetError:
            raise
        except Exception as error:
            raise load_failure(f"cannot load {file}:", error) from error
        signature = Signature(self.name, model.specs, outputs)
        return TableServable(signature, model.rows, model.methods, refusals=(catboost.CatBoostError,))


def _loaded(catboost: Any, file: Path) -> Any:
    """Return the model as the class whose ``predict`` is meant: the file says whether there are classes."""
    model = catboost.CatBoost().load_model(str(file), format="cbm")
    if len(model.classes_):
        return catboost.to_classifier(model)
    try:
        return catboost.to_regressor(model)
    except catboost.CatBoostError:  # a ranker's loss, say: its values are as they are
        return model


class _Model:
    """One model. Thread-safe: CatBoost's documentation says so of all that only reads a model."""

    def __init__(self, model: Any, file: str, *, threads: int) -> None:
        if model.get_embedding_feature_indices():
            raise LoadFailedError(f"{file} takes embeddings, which hotset cannot give it")
        self._model = model
        self._threads = threads
        names = [str(name) for name in model.feature_names_]
        words = {*model.get_cat_feature_indices(), *model.get_text_feature_indices()}
        self._words: frozenset[str] = frozenset(names[index] for index in words)
        self.columns = Columns(len(names), names)

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by the outputs they answer. Not kept here: a model in a circle is freed by the collector alone."""
        methods: dict[str, Method] = {PREDICT: self.predict}
        if hasattr(self._model, PREDICT_PROBA):
            methods[PREDICT_PROBA] = self.probabilities
        return methods

    def predict(self, rows: Array) -> Any:
        return self._model.predict(rows, thread_count=self._threads)

    def probabilities(self, rows: Array) -> Any:
        return self._model.predict_proba(rows, thread_count=self._threads)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The inputs: one tensor of rows of numbers, or one tensor for each column where some are words."""
        if not self._words:
            return self.columns.specs
        return tuple(
            TensorSpec(name, "BYTES" if name in self._words else "FP64", (-1,)) for name in self.columns.names
        )

    def any_row(self) -> Array:
        """Return a row of zeros."""
        row = np.zeros((1, self.columns.count), np.float32)
        return _as_text(row.astype(np.int8)) if self._words else row

    def rows(self, inputs: Mapping[str, Array]) -> Array:
        """Return the inputs as rows of numbers, or of objects where there are columns of words."""
        if not self._words:
            return self.columns.rows(inputs)
        if len(inputs) == 1:
            name, array = next(iter(inputs.items()))
            if array.ndim == 2 or self.columns.count > 1:
                return self._words_among(name, self.columns.checked(name, array))
        columns = self.columns.by_name(inputs)
        rows = np.empty((len(next(iter(columns.values()))), self.columns.count), dtype=object)
        for index, (name, column) in enumerate(columns.items()):
            rows[:, index] = (
                self._words_of(name, column) if name in self._words else _numbers_of(name, column)
            )
        return rows

    def _words_among(self, name: str, array: Array) -> Array:
        if array.dtype.kind in _TEXT:
            return _as_text(array)
        if array.dtype.kind in _WHOLE:
            return array.astype(object)
        raise InvalidInputError(
            f"input {name!r}: expected BYTES, or a tensor for each column by name, as some columns are categories or "
            f"text ({', '.join(sorted(self._words))}); found: {datatype_of(array)}"
        )

    def _words_of(self, name: str, column: Array) -> Array:
        if column.dtype.kind in _TEXT:
            return _as_text(column)
        if column.dtype.kind in _WHOLE:
            return column
        raise InvalidInputError(
            f"input {name!r}: expected text or whole numbers, for categories, found: {datatype_of(column)}"
        )


def _numbers_of(name: str, column: Array) -> Array:
    if column.dtype.kind in _TEXT:
        raise InvalidInputError(f"input {name!r}: expected numbers, found: {datatype_of(column)}")
    return column


def _as_text(array: Array) -> Array:
    """Return each element as ``str``, in an array of objects."""
    text = np.empty(array.size, dtype=object)
    text[:] = [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.flat
    ]
    return text.reshape(array.shape)
