"""The models of the cold requests: one of each kind of file, many times. Called by ``cold.py``.

Each is a file of its own: what hotset has on disk it does not fetch again under another name, and links to one file would
all be the same to it.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
from models import ROW
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

FEATURES: Final = len(ROW)
NEIGHBOURS: Final = 1_300_000
"""Rows of ten features and a target: 110 MB."""
TREES: Final = 300
QUICK: Final = 4
"""So many times less in a quick run."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file."""

    name: str
    file: str
    bytes: int


def name_of(name: str, number: int) -> str:
    """Return the name of the model of that format and number."""
    return f"{name.replace(' ', '-').replace(',', '').lower()}-{number:02}"


def write(store: Path, count: int, scratch: Path, *, quick: bool) -> list[Format]:
    """Write ``count`` models of each format below ``store``."""
    smaller = QUICK if quick else 1
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(3000, FEATURES))
    linear = LinearRegression().fit(rows, rows.sum(axis=1))
    forest = RandomForestRegressor(TREES // smaller, random_state=1).fit(rows, rows.sum(axis=1))
    features = draw.normal(size=(NEIGHBOURS // smaller, FEATURES))
    neighbours = KNeighborsRegressor(algorithm="brute").fit(features, features.sum(axis=1))
    kinds: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "small joblib": ("model.joblib", lambda path: joblib.dump(linear, path)),
        "forest joblib": ("model.joblib", lambda path: joblib.dump(forest, path)),
        "forest joblib zlib": ("model.joblib", lambda path: joblib.dump(forest, path, compress=3)),
        "forest pickle": ("model.pkl", lambda path: path.write_bytes(pickle.dumps(forest, protocol=5))),
        "array joblib": ("model.joblib", lambda path: joblib.dump(neighbours, path)),
        "array joblib zlib": ("model.joblib", lambda path: joblib.dump(neighbours, path, compress=1)),
        "forest onnx": ("model.onnx", lambda path: path.write_bytes(_onnx(forest))),
    }
    scratch.mkdir(parents=True, exist_ok=True)
    formats = []
    for name, (file, save) in kinds.items():
        first = scratch / file
        save(first)
        formats.append(Format(name, file, first.stat().st_size))
        for number in range(count):
            target = store / name_of(name, number) / file
            target.parent.mkdir(parents=True)
            shutil.copyfile(first, target)
        first.unlink()
    os.sync()  # so that nobody who writes later waits for it
    return formats


def _onnx(model: Any) -> bytes:
    from skl2onnx import to_onnx

    exported: bytes = to_onnx(model, np.zeros((1, FEATURES), dtype=np.float32)).SerializeToString()
    return exported
