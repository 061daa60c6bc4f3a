"""The models that are measured, on disk: scikit-learn ``LinearRegression`` of ten features, each with answers of its own.

Called by ``run.py`` and its sections. The same numbers make the same models.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Final

import joblib
import numpy as np
from load import Request
from sklearn.linear_model import LinearRegression

FEATURES: Final = 10
ROW: Final = tuple(round(0.25 * number - 1.1, 2) for number in range(FEATURES))


def name_of(number: int) -> str:
    """Return the name of a model."""
    return f"city-{number:06}"


def request_for(number: int) -> Request:
    """Return a request for one row of a model."""
    return Request(f"/models/{name_of(number)}/predict", json.dumps({"instances": [list(ROW)]}))


def write_models(folder: Path, count: int, *, trained: int | None = None) -> None:
    """Write ``count`` models of one version below ``folder``; beyond the first ``trained`` the files are empty."""
    folder.mkdir(parents=True)
    for number in range(count):
        file = model_file(folder, number)
        file.parent.mkdir()
        if trained is None or number < trained:
            joblib.dump(_model(number), file)
        else:
            file.touch()


def model_file(folder: Path, number: int) -> Path:
    """Return where a model's file is."""
    return folder / name_of(number) / "model.joblib"


def zipf(count: int, *, exponent: float, seed: int) -> Iterator[int]:
    """Draw numbers below ``count``, without end; the more popular ones are scattered over all names."""
    draw = random.Random(seed)
    numbers = list(range(count))
    draw.shuffle(numbers)
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(count)))
    while True:
        yield draw.choices(numbers, cum_weights=weights)[0]


def _model(number: int) -> LinearRegression:
    model = LinearRegression()
    model.coef_ = np.linspace(-1.0, 1.0, FEATURES) + number
    model.intercept_ = float(number)
    model.n_features_in_ = FEATURES
    return model
