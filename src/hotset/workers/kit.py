"""What a host loads with: the runtimes and the codecs, and how both are named to another process.

A kit is built where the models will live, so it crosses to a child by name, ``module:function``, and not by value.
``standard.py`` has the one that hotset uses; embedders and tests bring their own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from hotset.codecs.base import Codec
from hotset.errors import ConfigError
from hotset.runtimes.base import PayloadServable, Runtime, Servable
from hotset.runtimes.declaring import declare
from hotset.runtimes.modelyaml import NO_FILE, ModelOptions
from hotset.workers.asking import Asking
from hotset.workers.base import HANDLER, LoadSpec
from hotset.workers.batching import check_batching

STANDARD_KIT: Final = "hotset.workers.standard:standard_kit"
CODELESS_KIT: Final = "hotset.workers.standard:codeless_kit"
"""The one that runs no code from a version's files: with ``allow_pickle: false``."""

HANDLER_SPEC: Final = LoadSpec(HANDLER, "handler", 0, "")
"""What a handler is held under: it is loaded with the kit, and never unloaded."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a version is loaded: its runtime, the files that are the runtime's, and what ``model.yaml`` says."""

    runtime: Runtime
    files: Sequence[str]
    options: ModelOptions = NO_FILE

    def load(self, path: Path) -> Servable:
        """Load, with what is declared in force.

        Raises:
            LoadFailedError: the files, the framework or the declaration do not fit.
        """
        servable = self.runtime.load(path, self.files, self.options.runtime_options)
        if self.options is NO_FILE:
            return servable
        try:
            declared = declare(servable, self.options)
            check_batching(declared, self.options)
        except BaseException:
            servable.close()
            raise
        return declared


class RuntimeSource(Protocol):
    """Chooses how a model is loaded. Thread-safe."""

    def choice_for(self, spec: LoadSpec, files: Sequence[str]) -> Choice:
        """Return how to load a version with these files.

        Raises:
            HotsetError: no runtime fits, or the one that was named is not known, or it is not allowed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Kit:
    """``codecs`` gives the codec of a name.

    ``handler`` is what answers under the handle ``HANDLER`` and asks for models by itself, through ``asking``.
    """

    runtimes: RuntimeSource
    codecs: Callable[[str], Codec]
    handler: PayloadServable | None = None
    asking: Asking | None = None


KitBuilder: TypeAlias = Callable[[str | None, Mapping[str, Any]], Kit]
"""Builds a kit from the path of the user's predictor file (or None) and the settings for it."""


def kit_builder(name: str) -> KitBuilder:
    """Return the function that ``module:function`` names.

    Raises:
        ConfigError: there is no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        builder: KitBuilder = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"expected module:function that builds a worker's kit, found {name!r}: {error}"
        ) from error
    return builder
