"""The table of runtimes. Importing it imports no framework: each adapter does that on its first load.

Called by the workers, which load, and by the gateway, which estimates. A new framework is one adapter (what it must
declare is in ``base.Runtime``) and one line in ``RUNTIMES``. The ``Predictor`` of the setting of that name is not here: it
is never chosen by a version's files. The one that a version brings along is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from hotset.errors import ConfigError, LoadFailedError
from hotset.runtimes import (
    catboost_runtime,
    keras_runtime,
    lightgbm_runtime,
    litert_runtime,
    mlflow_runtime,
    onnx_runtime,
    own_predictor,
    sklearn_runtime,
    skops_runtime,
    tensorflow_runtime,
    torch_export_runtime,
    torchscript_runtime,
    xgboost_runtime,
)
from hotset.runtimes.base import Runtime
from hotset.runtimes.modelfile import listing
from hotset.runtimes.options import MODEL_YAML

RUNTIMES: Final[tuple[Runtime, ...]] = (
    sklearn_runtime.SklearnRuntime(),
    onnx_runtime.OnnxRuntime(),
    xgboost_runtime.XgboostRuntime(),
    lightgbm_runtime.LightgbmRuntime(),
    catboost_runtime.CatboostRuntime(),
    mlflow_runtime.MlflowRuntime(),
    tensorflow_runtime.TensorFlowRuntime(),
    keras_runtime.KerasRuntime(),
    litert_runtime.LiteRtRuntime(),
    torch_export_runtime.TorchExportRuntime(),
    torchscript_runtime.TorchScriptRuntime(),
    skops_runtime.SkopsRuntime(),
    own_predictor.OwnPredictorRuntime(),
)

_COVERING: Final = ("predictor", "mlflow")
"""Runtimes whose files say what the others are for: where one of these fits, no other is asked. The first one wins."""


def names() -> tuple[str, ...]:
    """Return the names of all runtimes."""
    return tuple(runtime.name for runtime in RUNTIMES)


def suffixes() -> tuple[str, ...]:
    """Return how the names of files end that a runtime loads; not those of formats that are known by whole names."""
    return tuple(
        pattern[1:] for runtime in RUNTIMES for pattern in runtime.patterns if pattern.startswith("*.")
    )


def by_name(name: str) -> Runtime:
    """Return the runtime of that name.

    Raises:
        ConfigError: there is none; the message names those there are.
    """
    for runtime in RUNTIMES:
        if runtime.name == name:
            return runtime
    raise ConfigError(f"no runtime {name!r}; expected one of: {', '.join(names())}")


def detect(files: Sequence[str]) -> Runtime:
    """Return the one runtime that a version with these files is for.

    Raises:
        LoadFailedError: none or several; the message lists the files and the formats known.
    """
    return _detected(tuple(files))


@lru_cache(maxsize=1024)
def _detected(files: tuple[str, ...]) -> Runtime:
    """Asked once for each set of names: thousands of models have the same, and each load asks."""
    found = [runtime for runtime in RUNTIMES if runtime.detect(files)]
    by_name = {runtime.name: runtime for runtime in found}
    covering = [by_name[name] for name in _COVERING if name in by_name]
    if covering or len(found) == 1:
        return (covering or found)[0]
    if found:
        raise LoadFailedError(
            f"the files are of several formats ({', '.join(runtime.name for runtime in found)}): {listing(files)}; "
            f"keep one of them, or name its runtime in {MODEL_YAML}"
        )
    known = "; ".join(f"{runtime.name}: {' '.join(runtime.patterns)}" for runtime in RUNTIMES)
    raise LoadFailedError(f"no known model format ({known}), found: {listing(files)}")
