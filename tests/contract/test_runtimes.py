"""What every runtime promises, whatever the framework. One model: the sum of four numbers, plus a constant."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression

from hotset.errors import InvalidInputError, LoadFailedError
from hotset.payload import InferRequest
from hotset.runtimes.base import CallMeta, Runtime
from hotset.runtimes.onnx_runtime import OnnxRuntime
from hotset.runtimes.predictor import PredictorRuntime
from hotset.runtimes.sklearn_runtime import SklearnRuntime

ROWS = np.random.default_rng(3).normal(size=(64, 4)).astype(np.float32)
META = CallMeta("paris", 1)


def fitted(constant: float) -> LinearRegression:
    return LinearRegression().fit(ROWS, ROWS.sum(axis=1) + constant)


class SumPredictor:
    """A user's predictor that reads the same pickles."""

    def load_model(self, disk_path: str) -> LinearRegression:
        return joblib.load(Path(disk_path) / "model.joblib")

    def predict(self, model: LinearRegression, payload: Any) -> Any:
        if np.ndim(payload) != 2:
            raise InvalidInputError("expected rows")
        return model.predict(payload)


@dataclass(frozen=True)
class Case:
    runtime: Runtime
    file: str
    save: Callable[[LinearRegression, Path], Any]
    ask: Callable[[Any, np.ndarray], np.ndarray]
    platform: str


def save_onnx(model: LinearRegression, path: Path) -> None:
    path.write_bytes(to_onnx(model, ROWS[:1]).SerializeToString())


def ask_tensors(servable: Any, rows: np.ndarray) -> np.ndarray:
    name = servable.signature.inputs[0].name
    return next(iter(servable.infer(InferRequest({name: rows})).outputs.values())).reshape(-1)


def ask_payload(servable: Any, rows: np.ndarray) -> np.ndarray:
    return np.asarray(servable.predict(rows, META))


CASES = {
    "sklearn": Case(SklearnRuntime(), "model.joblib", joblib.dump, ask_tensors, "sklearn"),
    "onnx": Case(OnnxRuntime(), "model.onnx", save_onnx, ask_tensors, "onnxruntime"),
    "predictor": Case(PredictorRuntime(SumPredictor()), "model.joblib", joblib.dump, ask_payload, "python"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def load(case: Case, path: Path, constant: float = 0.0) -> Any:
    path.mkdir(exist_ok=True)
    case.save(fitted(constant), path / case.file)
    return case.runtime.load(path, [case.file])


def test_detects_its_files(case: Case) -> None:
    assert case.runtime.detect([case.file])
    assert case.runtime.size_factor >= 1
    assert case.runtime.name


def test_answers_as_the_framework_does(case: Case, tmp_path: Path) -> None:
    servable = load(case, tmp_path)
    np.testing.assert_allclose(case.ask(servable, ROWS), fitted(0.0).predict(ROWS), rtol=1e-4, atol=1e-4)


def test_declares_its_platform(case: Case, tmp_path: Path) -> None:
    assert load(case, tmp_path).signature.platform == case.platform


def test_refuses_a_wrong_input_and_goes_on(case: Case, tmp_path: Path) -> None:
    servable = load(case, tmp_path)
    with pytest.raises(InvalidInputError):
        case.ask(servable, ROWS[0])
    assert case.ask(servable, ROWS[:1]).shape == (1,)


def test_a_corrupt_file_fails_the_load(case: Case, tmp_path: Path) -> None:
    (tmp_path / case.file).write_bytes(b"\x00garbage")
    with pytest.raises(LoadFailedError):
        case.runtime.load(tmp_path, [case.file])


def test_two_models_stay_apart(case: Case, tmp_path: Path) -> None:
    first, second = load(case, tmp_path / "a"), load(case, tmp_path / "b", 100.0)
    first.close()
    np.testing.assert_allclose(case.ask(second, ROWS), fitted(100.0).predict(ROWS), rtol=1e-4)


def test_is_asked_from_two_threads_at_once(case: Case, tmp_path: Path) -> None:
    servable = load(case, tmp_path)
    expected = fitted(0.0).predict(ROWS)

    def ask_for(row: int) -> float:
        return float(case.ask(servable, ROWS[row : row + 1])[0])

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask_for, list(range(64)) * 4))
    np.testing.assert_allclose(answers, np.tile(expected, 4), rtol=1e-3, atol=1e-4)


def test_loads_in_two_threads_at_once(case: Case, tmp_path: Path) -> None:
    load(case, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        servables = list(pool.map(lambda _: case.runtime.load(tmp_path, [case.file]), range(8)))
    assert gc.isenabled()
    for servable in servables:
        assert case.ask(servable, ROWS[:1]).shape == (1,)


def test_close_lets_everything_go(case: Case, tmp_path: Path) -> None:
    servable = load(case, tmp_path)
    case.ask(servable, ROWS)
    held = [weakref.ref(item) for item in framework_objects(servable)]
    assert held
    servable.close()
    gc.collect()
    assert [item() for item in held] == [None] * len(held)


def framework_objects(servable: Any) -> list[Any]:
    """The framework's own objects that a servable holds."""
    methods = getattr(servable, "_methods", {})
    own = [getattr(method, "_predict", method) for method in methods.values()]  # behind a short predict
    found = [method.__self__ for method in own]
    found += [getattr(servable, name) for name in ("_session", "_model") if hasattr(servable, name)]
    return [item for item in found if item is not None]
