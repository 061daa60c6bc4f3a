"""The kit that hotset's own workers use: the user's predictor if there is one, else the registries' runtimes.

The only file of the workers that knows the registries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hotset.codecs import registry as codecs
from hotset.errors import ConfigError, LoadFailedError
from hotset.runtimes import registry as runtimes
from hotset.runtimes.base import Runtime
from hotset.runtimes.predictor import read_predictor
from hotset.workers.base import LoadSpec
from hotset.workers.kit import Kit


class DetectedRuntimes:
    """The runtime that the spec names, else the one that the files are for. Thread-safe."""

    def runtime_for(self, spec: LoadSpec, files: Sequence[str]) -> Runtime:
        if spec.runtime is None:
            return runtimes.detect(files)
        try:
            return runtimes.by_name(spec.runtime)
        except ConfigError as error:
            raise LoadFailedError(str(error)) from error


class OneRuntime:
    """The same runtime for every model. Thread-safe as far as that runtime is."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def runtime_for(self, spec: LoadSpec, files: Sequence[str]) -> Runtime:
        del spec, files
        return self._runtime


def standard_kit(predictor: str | None, config: Mapping[str, Any]) -> Kit:
    """Return the kit for a worker; imports the user's predictor and makes its class.

    Raises:
        ConfigError: the predictor does not fit.
    """
    if predictor is None:
        return Kit(DetectedRuntimes(), codecs.by_name)
    return Kit(OneRuntime(read_predictor(Path(predictor), config=config)), codecs.by_name)
