from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotset.runtimes.ahead import Imports, imports_for_files, imports_for_predictor, imports_for_runtime
from hotset.runtimes.registry import RUNTIMES
from hotset.workers.spawn import child_environment

SKLEARN = "hotset.runtimes.sklearn_ahead"
ONNX = "hotset.runtimes.onnx_ahead"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], Imports()),
        (["notes.txt", "weights.bin"], Imports()),
        (["a/1/model.joblib"], Imports(shared=(SKLEARN,))),
        (["a/1/model.PKL"], Imports(shared=(SKLEARN,))),
        (["a/1/model.onnx"], Imports(shared=(ONNX,))),
        (["a/b.ubj"], Imports(shared=("xgboost",))),
        (["a/Model.json", "a/city.xgb.json"], Imports(shared=("xgboost",))),
        (["a/1/model.txt"], Imports(shared=("lightgbm",))),
        (["a/1/MLmodel"], Imports(shared=("hotset.runtimes.mlflow_ahead",))),
        (["a/1/model.cbm", "config.json", "readme.txt"], Imports(shared=("catboost",))),
        (["a/1/saved_model.pb", "a/1/assets/words"], Imports(shared=("hotset.runtimes.tensorflow_ahead",))),
        (["a/1/model.keras"], Imports(shared=("hotset.runtimes.keras_ahead",))),
        (["a/1/model.tflite"], Imports(shared=("ai_edge_litert.interpreter",))),
        (["a/1/model.pt2", "b/1/model.pt"], Imports(shared=("hotset.runtimes.torch_ahead",))),
        (["a/model.onnx", "b/model.pkl", "c/model.pickle"], Imports(shared=(ONNX, SKLEARN))),
    ],
)
def test_files_tell_by_their_names(files: list[str], expected: Imports) -> None:
    assert imports_for_files(files) == expected


def test_files_are_read_no_further_than_needed() -> None:
    def files() -> Iterator[str]:
        known = [adapter for adapter in RUNTIMES if imports_for_runtime(adapter.name) != Imports()]
        yield from (adapter.patterns[0].replace("*", "model") for adapter in known)
        raise AssertionError("read on")

    found = imports_for_files(files())
    assert {SKLEARN, ONNX, "xgboost", "lightgbm", "catboost"} <= {*found.shared}


@pytest.mark.parametrize(
    "runtime",
    [
        "sklearn",
        "onnxruntime",
        "xgboost",
        "lightgbm",
        "catboost",
        "mlflow",
        "litert",
        "torch_export",
        "tensorflow",
        "keras",
    ],
)
def test_what_is_imported_before_a_fork_starts_no_threads(runtime: str) -> None:
    """With pyarrow installed, too, which pandas imports, and which would start one."""
    (module,) = imports_for_runtime(runtime).shared
    code = f"import {module}, os; print(len(os.listdir('/proc/self/task')))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, timeout=120,
        env=child_environment(os.environ),
    )  # fmt: skip
    assert done.stdout.split() == ["1"]


def test_a_runtime_has_its_imports_or_none() -> None:
    assert imports_for_runtime("sklearn") == Imports(shared=(SKLEARN,))
    assert imports_for_runtime("onnxruntime") == Imports(shared=(ONNX,))
    assert imports_for_runtime("predictor") == Imports()


@pytest.mark.parametrize(
    ("source", "shared"),
    [
        ("import numpy as np", ()),
        ("import sklearn.linear_model", (SKLEARN,)),
        (
            "from sklearn.pipeline import make_pipeline\nimport joblib, pandas as pd",
            (SKLEARN, "joblib", "pandas"),
        ),
        (
            "import xgboost as xgb, lightgbm\nfrom catboost import CatBoost",
            ("xgboost", "lightgbm", "catboost"),
        ),
        ("import tensorflow, torch, onnxruntime", ()),
        ("from . import sklearn", ()),
        ("def load_model():\n    import sklearn", ()),
        ("this is no Python", ()),
        ("\0", ()),
    ],
)
def test_a_predictor_tells_by_its_imports(tmp_path: Path, source: str, shared: tuple[str, ...]) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(source)
    assert imports_for_predictor(path) == Imports(shared=shared)


def test_a_predictor_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    assert imports_for_predictor(tmp_path / "none.py") == Imports()
