"""Models of the kinds that weigh differently: forests, linear models, graphs of ONNX, pickles of very many small objects, rings.

Each is written once for each of several sizes; what is asked of all of them is the same: one row of ``WIDTH`` numbers.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

WIDTH: Final = 8
MB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """A model in a store: its name and its kind."""

    name: str
    kind: str


def write_mixed(root: Path, count: int, *, seed: int = 7, scale: float = 1.0) -> list[Made]:
    """Write ``count`` models of all kinds in turn; return them. They have a few kilobytes to ten megabytes, times ``scale``."""
    random = np.random.default_rng(seed)
    kinds = list(_KINDS.items())
    made = []
    for number in range(count):
        kind, write = kinds[number % len(kinds)]
        name = f"{kind}{number}"
        directory = root / name / "1"
        directory.mkdir(parents=True)
        write(directory, random, scale)
        made.append(Made(name, kind))
    return made


def _forest(directory: Path, random: np.random.Generator, scale: float) -> None:
    rows = int(random.integers(200, 3_000) * scale)
    x = random.normal(size=(rows, WIDTH))
    model = RandomForestRegressor(n_estimators=int(random.integers(10, 40)), n_jobs=1, random_state=1)
    _pickle(directory, model.fit(x, x.sum(axis=1) + random.normal(size=rows)))


def _linear(directory: Path, random: np.random.Generator, scale: float) -> None:
    outputs = max(1, int(random.choice([1, 1, 1, 50_000, 100_000]) * scale))
    model = LinearRegression()
    model.coef_ = random.normal(size=(outputs, WIDTH))
    model.intercept_ = np.zeros(outputs)
    model.n_features_in_ = WIDTH
    _pickle(directory, model)


def _graph(directory: Path, random: np.random.Generator, scale: float) -> None:
    hidden = int(random.integers(1_000, 200_000) * scale)
    first = random.normal(size=(WIDTH, hidden)).astype(np.float32)
    second = random.normal(size=(hidden, 1)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "second"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        initializer=[numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, directory / "model.onnx")


def _objects(directory: Path, random: np.random.Generator, scale: float) -> None:
    """Words, numbers, tuples and dictionaries, as vocabularies and tables of features are made of."""
    model: Any = DummyRegressor().fit(np.zeros((1, WIDTH)), [1.0])
    count = int(random.integers(1_000, 30_000) * scale)
    model.vocabulary_ = {f"word {number} of the vocabulary": number for number in range(count)}
    model.table_ = [
        {"id": row, "name": f"row {row}", "at": (row / 3, row * 1000)} for row in range(count // 4)
    ]
    _pickle(directory, model)


def _ring(directory: Path, random: np.random.Generator, scale: float) -> None:
    """An array that only the cyclic collector frees."""
    model: Any = DummyRegressor().fit(np.zeros((1, WIDTH)), [1.0])
    model.itself_ = model
    model.rows_ = random.normal(size=int(random.integers(200_000, 1_000_000) * scale))
    _pickle(directory, model)


def _pickle(directory: Path, model: object) -> None:
    (directory / "model.pkl").write_bytes(pickle.dumps(model, protocol=5))


_KINDS: Final[dict[str, Callable[[Path, np.random.Generator, float], None]]] = {
    "forest": _forest,
    "linear": _linear,
    "graph": _graph,
    "objects": _objects,
    "ring": _ring,
}


def turns(made: list[Made], count: int, *, seed: int = 3) -> Iterator[Made]:
    """Yield ``count`` of them, in an order that is the same each time and not that of their names."""
    random = np.random.default_rng(seed)
    for number in random.integers(0, len(made), size=count):
        yield made[int(number)]
