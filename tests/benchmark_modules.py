"""The modules of ``benchmarks``, which is no package, for the tests of what they read and count."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


class Modules:
    """The modules of ``benchmarks``, by name."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(name)


@contextmanager
def benchmark_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    """While it is open they can be imported; none of them stays."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield Modules()
    ours = {file.stem for file in BENCHMARKS.glob("*.py")}
    for name in ours & sys.modules.keys():
        del sys.modules[name]
