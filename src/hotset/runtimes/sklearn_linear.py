"""The predictions of scikit-learn's linear models without what scikit-learn does around them for every call.

Such a model's ``predict`` is one product. Nine tenths of its 70 µs for a row are spent on finding out what the input is: a
data frame, sparse, of which library. A tensor that came through a codec is none of that, so its shape, type and values are
checked here, in a few microseconds, and whatever is not plain goes scikit-learn's own way, which says what is wrong with it.

Used by the scikit-learn runtime. Which classes it is for is read off the class and not guessed: its ``predict`` has to be
the one of ``LinearModel``, or of those that only add sparse input to it; and once for each class the two are compared bit by bit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import isfinite
from typing import Any, Final, TypeAlias

import numpy as np

from hotset.payload import Array

Predict: TypeAlias = Callable[[Any], Any]

_PLAIN: Final = frozenset({np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.int64)})
_PROVEN: Final[dict[type, bool]] = {}
_LINEAR: Final[dict[type, bool]] = {}
"""What was read off scikit-learn's own classes."""


class LinearPredict:
    """``predict`` of one linear model. Thread-safe; it changes nothing."""

    __slots__ = ("_features", "_intercept", "_predict", "_weights")

    def __init__(self, model: Any) -> None:
        coefficients = model.coef_
        self._predict: Predict = model.predict
        self._weights: Array = coefficients if coefficients.ndim == 1 else coefficients.T
        self._intercept = model.intercept_
        self._features = coefficients.shape[-1]

    def __call__(self, data: Any) -> Any:
        if (
            type(data) is np.ndarray
            and data.ndim == 2
            and data.dtype in _PLAIN
            and data.shape[0] > 0
            and data.shape[1] == self._features
        ):
            answer = data @ self._weights + self._intercept
            # A row that is not finite has no finite answer, and a finite one has: if not, nobody is worse off.
            if isfinite(answer.item()) if answer.size == 1 else np.isfinite(answer).all():
                return answer
        return self._predict(data)


def short_predict(model: Any) -> Predict | None:
    """Return a ``predict`` that says what the model's own says, or None if the model is not known to allow one."""
    kind = type(model)
    if not kind.__module__.startswith("sklearn."):
        return None
    is_linear = _LINEAR.get(kind)
    if is_linear is None:
        is_linear = _LINEAR[kind] = _is_linear(kind)
    if not is_linear or "predict" in vars(model) or hasattr(model, "feature_names_in_"):
        return None
    coefficients = getattr(model, "coef_", None)
    if (
        type(coefficients) is not np.ndarray
        or coefficients.dtype.kind != "f"
        or coefficients.ndim not in {1, 2}
    ):
        return None
    short = LinearPredict(model)
    proven = _PROVEN.get(kind)
    if proven is None:
        proven = _PROVEN[kind] = _agrees(short, model.predict, coefficients.shape[-1])
    return short if proven else None


def _is_linear(kind: type) -> bool:
    base = sys.modules.get("sklearn.linear_model._base")
    descent = sys.modules.get("sklearn.linear_model._coordinate_descent")
    linear = getattr(base, "LinearModel", None)
    if linear is None or not issubclass(kind, linear):
        return False
    own = [
        getattr(module, name, None)
        for module, name in ((base, "MultiOutputLinearModel"), (descent, "ElasticNet"))
    ]
    known = [linear, *(it for it in own if it is not None)]
    return all(
        any(getattr(kind, method) is getattr(it, method) for it in known)
        for method in ("predict", "_decision_function")
    )


def _agrees(short: Predict, own: Predict, features: int) -> bool:
    """Whether two say the same of some rows; a scikit-learn in which they do not is another than this was written for."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(5, features))
    try:
        return all(_same(short(data), own(data)) for data in (rows, rows[:1], rows.astype(np.float32)))
    except Exception:  # noqa: BLE001 - then it is not known to agree
        return False


def _same(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and np.array_equal(one, other))
