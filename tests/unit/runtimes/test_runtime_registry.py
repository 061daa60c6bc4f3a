"""Which runtime a version's files are for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hotset.errors import ConfigError, LoadFailedError
from hotset.runtimes import registry


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["model.joblib"], "sklearn"),
        (["model.pkl"], "sklearn"),
        (["deep/er/Model.PICKLE", "README.md"], "sklearn"),
        (["model.onnx", "weights.bin"], "onnxruntime"),
    ],
)
def test_detects(files: list[str], name: str) -> None:
    assert registry.detect(files).name == name


def test_none_fits() -> None:
    with pytest.raises(LoadFailedError) as caught:
        registry.detect(["a.txt", "b/c.bin", ".hidden.pkl"])
    message = str(caught.value)
    assert "a.txt, b/c.bin" in message
    assert "*.joblib" in message
    assert "*.onnx" in message


def test_no_files() -> None:
    with pytest.raises(LoadFailedError, match="found: no files"):
        registry.detect([])


def test_a_long_listing_is_cut() -> None:
    with pytest.raises(LoadFailedError, match="and 90 more"):
        registry.detect([f"{number}.txt" for number in range(100)])


def test_several_fit() -> None:
    with pytest.raises(
        LoadFailedError, match=r"several formats \(sklearn, onnxruntime\): model.onnx, model.pkl"
    ):
        registry.detect(["model.onnx", "model.pkl"])


def test_by_name() -> None:
    for name in registry.names():
        assert registry.by_name(name).name == name
    with pytest.raises(ConfigError, match="no runtime 'torch'; expected one of: sklearn, onnxruntime"):
        registry.by_name("torch")


@pytest.mark.parametrize(
    "modules",
    [
        "hotset.runtimes.registry, hotset.runtimes.predictor, hotset.codecs.registry",
        "hotset.cli, hotset.server",
    ],
)
def test_imports_no_framework(modules: str) -> None:
    frameworks = (
        "sklearn joblib onnxruntime pandas scipy xgboost lightgbm catboost mlflow skops "
        "tensorflow keras ai_edge_litert torch"
    )
    code = f"import sys, {modules}\nprint([name for name in {frameworks.split()} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
