"""What an MLmodel says, without MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hotset.errors import LoadFailedError
from hotset.runtimes.mlmodel_file import brings_code, directory_of, read_mlmodel


def flavors(loader: str, **others: Any) -> dict[str, Any]:
    pyfunc = {"loader_module": loader} | {name: it for name, it in others.items() if name == "code"}
    return {
        "flavors": {"python_function": pyfunc} | {name: it for name, it in others.items() if name != "code"}
    }


@pytest.mark.parametrize(
    ("files", "directory"),
    [
        (["MLmodel", "model.pkl"], "."),
        (["model/MLmodel", "model/artifacts/inner/MLmodel", "README.md"], "model"),
    ],
)
def test_the_highest_is_the_model(files: list[str], directory: str) -> None:
    assert directory_of(files) == directory


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["model.pkl"], "no model file; expected MLmodel, found: model.pkl"),
        (["a/MLmodel", "b/MLmodel"], "several MLflow models side by side: a/MLmodel, b/MLmodel"),
    ],
)
def test_none_or_several(files: list[str], words: str) -> None:
    with pytest.raises(LoadFailedError, match=words):
        directory_of(files)


@pytest.mark.parametrize(
    ("mlmodel", "expected"),
    [
        (flavors("mlflow.xgboost"), False),
        (flavors("mlflow.xgboost", xgboost={"model_class": "xgboost.sklearn.XGBRegressor"}), False),
        (flavors("mlflow.xgboost", xgboost={"model_class": "subprocess.Popen"}), True),
        (flavors("mlflow.xgboost", code="code"), True),
        (flavors("mlflow.lightgbm"), False),
        (flavors("mlflow.lightgbm", lightgbm={"model_class": "lightgbm.basic.Booster"}), False),
        (flavors("mlflow.lightgbm", lightgbm={"model_class": "lightgbm.sklearn.LGBMRegressor"}), True),
        (flavors("mlflow.catboost"), False),
        (flavors("mlflow.onnx"), False),
        (flavors("mlflow.sklearn"), True),
        (flavors("mlflow.pyfunc.model"), True),
        (flavors("mlflow.pyfunc.loaders.code_model"), True),
        (flavors("mlflow.pytorch"), True),
        (flavors("somebody.elses"), True),
    ],
)
def test_only_flavors_that_read_plain_data_bring_no_code(mlmodel: dict[str, Any], expected: bool) -> None:
    assert brings_code(mlmodel) is expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "MLmodel: found no YAML"),
        ("\x00", "MLmodel: found no YAML"),
        ("just text", "flavors: expected python_function with a loader_module, found: none"),
        ("flavors: [a]", "found: none"),
        ("flavors: {sklearn: {}, keras: {}}", "found: sklearn, keras"),
        ("flavors: {python_function: {loader_module: 7}}", "found: python_function"),
        ("!!python/object/apply:os.system ['true']", "MLmodel: found no YAML"),
    ],
)
def test_what_is_no_mlmodel(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "MLmodel").write_text(content)
    with pytest.raises(LoadFailedError, match=words):
        read_mlmodel(tmp_path)


def test_reads(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(yaml.safe_dump(flavors("mlflow.sklearn")))
    assert read_mlmodel(tmp_path) == flavors("mlflow.sklearn")
