"""scikit-learn without pickle: ``*.skops``. What such a file holds is made of types that are trusted, or it is not loaded.

Trusted is what skops itself takes for safe, and what ``options: {trusted: [...]}`` in ``model.yaml`` names. A loaded model
is served as scikit-learn's own are.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from hotset.errors import LoadFailedError
from hotset.runtimes.gcpause import collector_pause
from hotset.runtimes.modelfile import candidates, choose, listing
from hotset.runtimes.options import MODEL_YAML, NO_OPTIONS, RuntimeOptions
from hotset.runtimes.reason import load_failure, not_installed
from hotset.runtimes.sklearn_runtime import SklearnServable, servable_for

SUFFIXES: Final = (".skops",)


class SkopsOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The options of this runtime: the full names of further types that the file may hold."""

    trusted: tuple[str, ...] = ()


class SkopsRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "skops"
    extra = "skops"
    patterns = tuple(f"*{suffix}" for suffix in SUFFIXES)
    size_factor = 2.0
    devices = ("cpu",)

    def detect(self, files: Sequence[str]) -> bool:
        return bool(candidates(files, SUFFIXES))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        del path, files
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> SklearnServable:
        trusted = options.read(SkopsOptions).trusted
        file = choose(files, SUFFIXES)
        try:
            skops = importlib.import_module("skops.io")
        except ImportError as error:
            raise not_installed("skops", self.extra) from error
        try:
            with collector_pause:
                model = _loaded(skops, path / file, file, trusted)
        except LoadFailedError:
            raise
        except Exception as error:
            raise load_failure(f"cannot load {file}:", error) from error
        return servable_for(model, file)


def _loaded(skops: Any, path: Path, file: str, trusted: Sequence[str]) -> Any:
    unknown = [name for name in skops.get_untrusted_types(file=path) if name not in trusted]
    if unknown:
        raise LoadFailedError(
            f"{file} holds types that are not trusted: {listing(unknown, limit=20)}; expected those that skops takes "
            f"for safe, or that {MODEL_YAML} names in options.trusted"
        )
    return skops.load(path, trusted=list(trusted))
