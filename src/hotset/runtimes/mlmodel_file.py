"""What an ``MLmodel`` file says, read without MLflow and without running anything: where it is, and whether it brings code.

Called by the MLflow runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from hotset.errors import LoadFailedError
from hotset.runtimes.modelfile import listing

NAME: Final = "MLmodel"
PYFUNC: Final = "python_function"

_XGBOOST: Final = "xgboost."
_BOOSTER: Final = "lightgbm.basic.Booster"


def directory_of(files: Sequence[str]) -> str:
    """Return the directory of the model, relative to the version's: that of the ``MLmodel`` that lies highest.

    A model may have others within, as its artifacts.

    Raises:
        LoadFailedError: there is none, or there are several side by side.
    """
    found = [PurePosixPath(file) for file in files if PurePosixPath(file).name == NAME]
    if not found:
        raise LoadFailedError(f"no model file; expected {NAME}, found: {listing(files)}")
    least = min(len(path.parts) for path in found)
    highest = [path for path in found if len(path.parts) == least]
    if len(highest) > 1:
        names = [str(path) for path in highest]
        raise LoadFailedError(f"several MLflow models side by side: {listing(names)}; expected one {NAME}")
    return str(highest[0].parent)


def read_mlmodel(directory: Path) -> Mapping[str, Any]:
    """Return what stands in the directory's ``MLmodel``.

    Raises:
        LoadFailedError: it is no YAML, or has no ``python_function`` flavor.
    """
    try:
        content = yaml.safe_load((directory / NAME).read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LoadFailedError(f"{NAME}: found no YAML: {' '.join(str(error).split())}") from error
    flavors = content.get("flavors") if isinstance(content, dict) else None
    pyfunc = flavors.get(PYFUNC) if isinstance(flavors, dict) else None
    if not isinstance(pyfunc, dict) or not isinstance(pyfunc.get("loader_module"), str):
        found = ", ".join(map(str, flavors)) if isinstance(flavors, dict) else "none"
        raise LoadFailedError(f"{NAME}: flavors: expected {PYFUNC} with a loader_module, found: {found}")
    return dict(content)


def brings_code(mlmodel: Mapping[str, Any]) -> bool:
    """Whether loading the model may run code from its files: yes, unless its flavor is known to read plain data.

    Those are XGBoost and LightGBM's boosters, CatBoost and ONNX. The others unpickle, import, or may do either.
    """
    flavors = mlmodel["flavors"]
    pyfunc = flavors[PYFUNC]
    if pyfunc.get("code"):
        return True
    match pyfunc["loader_module"]:
        case "mlflow.xgboost":
            # MLflow makes one of whatever class is named there.
            return not str(_flavor(flavors, "xgboost").get("model_class", _XGBOOST)).startswith(_XGBOOST)
        case "mlflow.lightgbm":
            return bool(_flavor(flavors, "lightgbm").get("model_class", _BOOSTER) != _BOOSTER)
        case "mlflow.catboost" | "mlflow.onnx":
            return False
    return True


def _flavor(flavors: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    flavor = flavors.get(name)
    return flavor if isinstance(flavor, dict) else {}
