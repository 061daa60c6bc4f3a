"""Other ways to write a model's file down that may load faster. Called by ``hotset check``, which measures each.

A remedy is tried on a copy, in the process that asks, and told to people as a command that does the same.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotset.runtimes.onnx_runtime import framework
from hotset.runtimes.reason import load_failure
from hotset.runtimes.unpickling import unpickle


@dataclass(frozen=True, slots=True)
class Remedy:
    """``write`` makes of the first file the second, whose name ends in ``suffix``, and ``code`` is that in Python."""

    title: str
    suffix: str
    code: str
    write: Callable[[Path, Path], None]

    def apply(self, source: Path, target: Path) -> None:
        """Write ``target``.

        Raises:
            LoadFailedError: it cannot be written that way.
        """
        try:
            self.write(source, target)
        except Exception as error:
            raise load_failure(f"cannot be written as {self.title}:", error) from error

    def command(self, source: Path) -> str:
        """Return the command that writes the better file beside the one at ``source``."""
        target = source.with_name(f"{source.stem}-fast{self.suffix}")
        code = self.code.format(source=str(source), target=str(target))
        return f'python -c "{code}"'


def _write_joblib(source: Path, target: Path) -> None:
    importlib.import_module("joblib").dump(unpickle(source), target)


def _write_pickle(source: Path, target: Path) -> None:
    with target.open("wb") as file:
        pickle.dump(unpickle(source), file, protocol=5)


def _write_optimized(source: Path, target: Path) -> None:
    onnxruntime = framework()
    options = onnxruntime.SessionOptions()
    # Not the highest level: what that writes down is for this processor alone.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


UNCOMPRESSED: Final = Remedy(
    "joblib, not compressed: large arrays are mapped",
    ".joblib",
    "import joblib; joblib.dump(joblib.load('{source}'), '{target}')",
    _write_joblib,
)
PICKLE: Final = Remedy(
    "pickle, protocol 5: objects are read in C",
    ".pkl",
    "import joblib, pathlib, pickle; "
    "pathlib.Path('{target}').write_bytes(pickle.dumps(joblib.load('{source}'), protocol=5))",
    _write_pickle,
)
OPTIMIZED: Final = Remedy(
    "ONNX, optimized ahead",
    ".onnx",
    "import onnxruntime as ort; o = ort.SessionOptions(); "
    "o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED; "
    "o.optimized_model_filepath = '{target}'; "
    "ort.InferenceSession('{source}', o, providers=['CPUExecutionProvider'])",
    _write_optimized,
)

_BY_RUNTIME: Final = {"sklearn": (UNCOMPRESSED, PICKLE), "onnxruntime": (OPTIMIZED,)}


def remedies_for(runtime: str) -> tuple[Remedy, ...]:
    """Return what may be tried on a file that this runtime loads."""
    return _BY_RUNTIME.get(runtime, ())
