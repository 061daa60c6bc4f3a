"""Which modules to import before a model asks for them: from the files that the store offers, or the user's own code.

Pure, but for reading the user's file. Called by the composition root, as soon as it knows of any files; the modules
themselves are imported by the fork server and the children.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from hotset.runtimes import (
    catboost_runtime,
    keras_runtime,
    lightgbm_runtime,
    litert_runtime,
    mlflow_runtime,
    onnx_runtime,
    sklearn_runtime,
    tensorflow_runtime,
    torch_export_runtime,
    torchscript_runtime,
    xgboost_runtime,
)
from hotset.runtimes.base import Runtime


@dataclass(frozen=True, slots=True)
class Imports:
    """Modules, in order. ``shared`` ones may be imported before a fork; ``own`` ones each process imports for itself."""

    shared: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


_SKLEARN: Final = Imports(shared=("hotset.runtimes.sklearn_ahead",))
_ONNX: Final = Imports(shared=("hotset.runtimes.onnx_ahead",))
_TORCH: Final = Imports(shared=("hotset.runtimes.torch_ahead",))

_BY_ADAPTER: Final[Sequence[tuple[Runtime, Imports]]] = (
    (sklearn_runtime.SklearnRuntime(), _SKLEARN),
    (onnx_runtime.OnnxRuntime(), _ONNX),
    (xgboost_runtime.XgboostRuntime(), Imports(shared=("xgboost",))),
    (lightgbm_runtime.LightgbmRuntime(), Imports(shared=("lightgbm",))),
    (catboost_runtime.CatboostRuntime(), Imports(shared=("catboost",))),
    (mlflow_runtime.MlflowRuntime(), Imports(shared=("hotset.runtimes.mlflow_ahead",))),
    (tensorflow_runtime.TensorFlowRuntime(), Imports(shared=("hotset.runtimes.tensorflow_ahead",))),
    (keras_runtime.KerasRuntime(), Imports(shared=("hotset.runtimes.keras_ahead",))),
    (litert_runtime.LiteRtRuntime(), Imports(shared=("ai_edge_litert.interpreter",))),
    (torch_export_runtime.TorchExportRuntime(), _TORCH),
    (torchscript_runtime.TorchScriptRuntime(), _TORCH),
)

_BY_RUNTIME: Final = {adapter.name: imports for adapter, imports in _BY_ADAPTER}


def _by_suffix() -> Mapping[str, Sequence[tuple[str, Imports]]]:
    """Return the patterns that a file with a suffix may fit: most files need no more than a look at theirs."""
    found: dict[str, list[tuple[str, Imports]]] = {}
    for adapter, imports in _BY_ADAPTER:
        for pattern in adapter.patterns:
            found.setdefault(PurePosixPath(pattern).suffix, []).append((pattern.lower(), imports))
    return found


_BY_SUFFIX: Final = _by_suffix()

_BY_PACKAGE: Final = {
    "sklearn": _SKLEARN,
    "joblib": Imports(shared=("joblib",)),
    "pandas": Imports(shared=("pandas",)),
    "scipy": Imports(shared=("scipy",)),
    "xgboost": Imports(shared=("xgboost",)),
    "lightgbm": Imports(shared=("lightgbm",)),
    "catboost": Imports(shared=("catboost",)),
}
"""What the user's file would import in each child anyway, and what is known to survive a fork. Frameworks that start
threads or open devices are not here."""


def imports_for_files(files: Iterable[str]) -> Imports:
    """Return what versions with these files will need; ``files`` is read no further than until all is known."""
    found: dict[Imports, None] = {}
    known = len(set(_BY_RUNTIME.values()))
    for file in files:
        path = PurePosixPath(file)
        for pattern, imports in _BY_SUFFIX.get(path.suffix.lower(), ()):
            if fnmatchcase(path.name.lower(), pattern):
                found[imports] = None
        if len(found) == known:
            break
    return _joined(found)


def imports_for_runtime(name: str) -> Imports:
    """Return what the runtime of that name needs."""
    return _BY_RUNTIME.get(name, Imports())


def imports_for_predictor(path: Path) -> Imports:
    """Return what the user's file imports first of all that can be imported before a fork. Runs none of it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return Imports()  # whoever imports it will say what is wrong with it
    found = (_BY_PACKAGE.get(package) for package in _packages(tree))
    return _joined(imports for imports in found if imports is not None)


def _packages(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _joined(found: Iterable[Imports]) -> Imports:
    parts = list(found)
    return Imports(
        tuple(dict.fromkeys(module for part in parts for module in part.shared)),
        tuple(dict.fromkeys(module for part in parts for module in part.own)),
    )
