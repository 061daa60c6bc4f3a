"""What a host loads with: the runtimes and the codecs, and how both are named to another process.

A kit is built where the models will live, so it crosses to a child by name, ``module:function``, and not by value.
``standard.py`` has the one that hotset uses; embedders and tests bring their own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from hotset.codecs.base import Codec
from hotset.errors import ConfigError
from hotset.runtimes.base import Runtime
from hotset.workers.base import LoadSpec

STANDARD_KIT: Final = "hotset.workers.standard:standard_kit"


class RuntimeSource(Protocol):
    """Chooses the runtime of a model. Thread-safe."""

    def runtime_for(self, spec: LoadSpec, files: Sequence[str]) -> Runtime:
        """Return the runtime for a version with these files.

        Raises:
            HotsetError: none fits, or the one that was named is not known.
        """
        ...


@dataclass(frozen=True, slots=True)
class Kit:
    """``codecs`` gives the codec of a name."""

    runtimes: RuntimeSource
    codecs: Callable[[str], Codec]


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
