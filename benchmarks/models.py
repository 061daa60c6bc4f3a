"""The models that are measured, on disk: scikit-learn ``LinearRegression`` of ten features, each with answers of its own.

Called by ``run.py`` and its sections. The same numbers make the same models.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Final

import joblib
import numpy as np
from load import Request
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

FEATURES: Final = 10
TREES: Final = 20
FOREST_ROWS: Final = 500
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


def write_version(folder: Path, number: int, version: int) -> None:
    """Publish a version of a model in one step; each version answers otherwise."""
    staged = folder.with_name(f"{folder.name}-staged") / f"{name_of(number)}-{version}"
    staged.mkdir(parents=True)
    joblib.dump(_model(number + version), staged / "model.joblib")
    target = folder / name_of(number) / str(version)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged.rename(target)


def forest_request(number: int) -> Request:
    """Return a request for one row of a forest."""
    return Request(f"/models/{_forest_name(number)}/predict", json.dumps({"instances": [list(ROW)]}))


def write_forests(folder: Path, count: int) -> None:
    """Write ``count`` random forests beside other models: many small objects, which take long to unpickle."""
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(FOREST_ROWS, FEATURES))
    forest = RandomForestRegressor(TREES, random_state=1).fit(rows, rows.sum(axis=1))
    whole = BytesIO()
    joblib.dump(forest, whole)
    for number in range(count):
        file = folder / _forest_name(number) / "model.joblib"
        file.parent.mkdir()
        file.write_bytes(whole.getvalue())


def _forest_name(number: int) -> str:
    return f"forest-{number:04}"


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
