"""XGBoost's predictions of plain arrays without what its Python package does around them for every call.

``Booster.inplace_predict`` finds out what its input is (a data frame of which library, sparse, on a device) and describes it; for
a few rows that takes longer than the trees. An array that came through a codec is none of that, so it goes to XGBoost's C
function at once, which is documented and as old as ``inplace_predict``. Used by the XGBoost runtime, where once for each process the
two are compared bit by bit.
"""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from hotset.payload import Array

_PLAIN: Final[Mapping[np.dtype[Any], str]] = {
    np.dtype(kind): np.dtype(kind).str for kind in (np.float32, np.float64, np.int32, np.int64)
}
_proven: Final[list[bool]] = []
"""Whether the two agree, once that is known."""


class DensePredict:
    """Predictions of one booster of trees. Thread-safe, as ``inplace_predict`` is; XGBoost keeps an answer for each thread."""

    __slots__ = ("_booster", "_config", "_function", "_range")

    def __init__(self, booster: Any, function: Any, iteration_range: tuple[int, int]) -> None:
        self._booster = booster
        self._function = function
        self._range = iteration_range
        self._config = json.dumps(
            {
                "type": 0,
                "training": False,
                "iteration_begin": iteration_range[0],
                "iteration_end": iteration_range[1],
                "missing": math.nan,
                "strict_shape": False,
                "cache_id": 0,
            }
        ).encode()

    def __call__(self, rows: Array) -> Array:
        """Return what ``inplace_predict`` does."""
        kind = _PLAIN.get(rows.dtype)
        if kind is None or not rows.flags.c_contiguous or rows.ndim != 2:
            return self.own(rows)
        interface = (
            f'{{"data": [{rows.__array_interface__["data"][0]}, true], "shape": [{rows.shape[0]}, {rows.shape[1]}], '
            f'"typestr": "{kind}", "version": 3}}'
        )
        shape = ctypes.POINTER(ctypes.c_uint64)()
        dimensions = ctypes.c_uint64()
        result = ctypes.POINTER(ctypes.c_float)()
        failed = self._function(
            self._booster.handle,
            interface.encode(),
            self._config,
            None,
            ctypes.byref(shape),
            ctypes.byref(dimensions),
            ctypes.byref(result),
        )
        if failed:
            return self.own(rows)  # and it says why
        sizes = shape[: dimensions.value]
        return np.frombuffer(ctypes.string_at(result, 4 * math.prod(sizes)), np.float32).reshape(sizes)

    def own(self, rows: Array) -> Array:
        """Return what ``inplace_predict`` says."""
        answer: Array = self._booster.inplace_predict(
            rows, iteration_range=self._range, validate_features=False
        )
        return answer


def dense_predict(xgboost: Any, booster: Any, iteration_range: tuple[int, int]) -> DensePredict | None:
    """Return the short way for a booster of trees, or None where this XGBoost has none, or says something else there."""
    library = getattr(getattr(xgboost, "core", None), "_LIB", None)
    function = getattr(library, "XGBoosterPredictFromDense", None)
    if function is None or not hasattr(booster, "handle"):
        return None
    short = DensePredict(booster, function, iteration_range)
    if not _proven:
        _proven.append(_agrees(short, booster.num_features()))
    return short if _proven[0] else None


def _agrees(short: DensePredict, features: int) -> bool:
    rows = np.random.default_rng(0).normal(size=(5, features))
    rows[3] = math.nan
    kinds = (rows, rows.astype(np.float32), np.nan_to_num(rows).astype(np.int64), rows[:1])
    return all(_same(short(data), short.own(data)) for data in kinds)


def _same(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)
