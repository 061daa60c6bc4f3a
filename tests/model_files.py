"""Cheap models whose answers all differ: scikit-learn regressors, and JSON files for a ``Predictor`` file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
from sklearn.linear_model import LinearRegression

SIMPLE_PREDICTOR = '''
"""Answers the number in value.json, so that every model's answer differs."""
import json
import pathlib


class Predictor:
    def load_model(self, disk_path):
        return json.loads((pathlib.Path(disk_path) / "value.json").read_text())

    def predict(self, model):
        return model
'''

SLOW_PREDICTOR = '''
"""As the simple one; sleep.json and burn.json say how long load and predict take, asleep or at work."""
import json
import pathlib
import time


def spend(path, key):
    seconds = json.loads(path.read_text()).get(key, 0) if path.exists() else 0
    return seconds


class Predictor:
    def load_model(self, disk_path):
        model = json.loads((pathlib.Path(disk_path) / "value.json").read_text())
        time.sleep(model.get("load_sleep_s", 0))
        burn(model.get("load_burn_s", 0))
        return model

    def predict(self, model):
        time.sleep(model.get("predict_sleep_s", 0))
        return model["value"]


def burn(seconds):
    """What unpickling is: pure Python that makes many small objects and keeps them."""
    end = time.monotonic() + seconds
    kept = []
    while time.monotonic() < end:
        kept = [{"number": number, "text": str(number)} for number in range(20_000)]
    return kept
'''


def regressor(value: float) -> bytes:
    """A pickled ``LinearRegression`` of one feature that always answers ``value``."""
    model = LinearRegression()
    model.coef_ = np.zeros(1)
    model.intercept_ = float(value)
    model.n_features_in_ = 1
    return pickle.dumps(model)


def write_regressor(root: Path, name: str, version: int | str, value: float) -> None:
    directory = root / name / str(version)
    directory.mkdir(parents=True)
    (directory / "model.pkl").write_bytes(regressor(value))


def write_value(root: Path, name: str, version: int | str, value: object) -> Path:
    """Write what ``SIMPLE_PREDICTOR`` loads; return its directory."""
    directory = root / name / str(version)
    directory.mkdir(parents=True)
    (directory / "value.json").write_text(json.dumps(value))
    return directory


def write_predictor(directory: Path, source: str = SIMPLE_PREDICTOR) -> Path:
    path = directory / "predictor.py"
    path.write_text(source)
    return path
