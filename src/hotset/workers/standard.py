"""The kits that hotset's own workers use: the user's predictor if there is one, else the registries' runtimes.

The only file of the workers that knows the registries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hotset.codecs import registry as codecs
from hotset.errors import ConfigError, HotsetError, LoadFailedError
from hotset.runtimes import registry as runtimes
from hotset.runtimes.base import Runtime, keeping_devices
from hotset.runtimes.modelyaml import NO_FILE, ModelOptions, read_model_yaml, wrong
from hotset.runtimes.options import MODEL_YAML
from hotset.runtimes.predictor import read_predictor
from hotset.workers.base import LoadSpec
from hotset.workers.intact import Files
from hotset.workers.kit import Choice, Kit


class DetectedRuntimes:
    """The runtime that the spec names, else ``model.yaml``, else the one that the files are for. Thread-safe."""

    def __init__(self, *, runs_code: bool = True) -> None:
        """Without ``runs_code`` nothing is loaded that would unpickle or import something of the version's."""
        self._runs_code = runs_code

    def choice_for(self, spec: LoadSpec, files: Sequence[str]) -> Choice:
        path = Path(spec.path)
        options = NO_FILE
        if MODEL_YAML in files:
            files = [file for file in files if file != MODEL_YAML]
            options = read_model_yaml(path, files)
        runtime = _runtime(spec, files, options)
        _check_device(runtime, options)
        if not self._runs_code and runtime.needs_pickle(path, files):
            raise LoadFailedError(
                f"the runtime {runtime.name} runs code that is in the version's files, to load them: "
                "a pickle's, or the model's own. The setting allow_pickle is false; expected a format without code"
            )
        return Choice(runtime, files, options)


def _runtime(spec: LoadSpec, files: Sequence[str], options: ModelOptions) -> Runtime:
    if spec.runtime is not None:
        try:
            return runtimes.by_name(spec.runtime)
        except ConfigError as error:
            raise LoadFailedError(str(error)) from error
    if options.runtime is None:
        return runtimes.detect(files)
    try:
        return runtimes.by_name(options.runtime)
    except ConfigError as error:
        expected = f"one of: {', '.join(runtimes.names())}"
        raise wrong("runtime", repr(options.runtime), expected) from error


def _check_device(runtime: Runtime, options: ModelOptions) -> None:
    device = options.runtime_options.device
    if device.kind not in runtime.devices:
        expected = f"one that the runtime {runtime.name} can use: {', '.join(runtime.devices)}"
        raise wrong("device", device, expected)


def keeps_memory(path: str, files: Files) -> bool:
    """Whether a version keeps memory until its process ends: its framework does, on the device that it is to use.

    What is wrong with it is the load's to tell.
    """
    names = [file.path for file in files if file.path != MODEL_YAML]
    try:
        options = read_model_yaml(Path(path), names) if len(names) < len(files) else NO_FILE
        runtime = _runtime(LoadSpec(0, "", 0, path), names, options)
    except (HotsetError, OSError):
        return False
    return options.runtime_options.device.kind in keeping_devices(runtime)


class OneRuntime:
    """The same runtime for every model, whose files are all its own. Thread-safe as far as that runtime is."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def choice_for(self, spec: LoadSpec, files: Sequence[str]) -> Choice:
        del spec
        return Choice(self._runtime, files)


def standard_kit(predictor: str | None, config: Mapping[str, Any]) -> Kit:
    """Return the kit for a worker; imports the user's predictor and makes its class.

    Raises:
        ConfigError: the predictor does not fit.
    """
    if predictor is None:
        return Kit(DetectedRuntimes(), codecs.by_name)
    return Kit(OneRuntime(read_predictor(Path(predictor), config=config)), codecs.by_name)


def codeless_kit(predictor: str | None, config: Mapping[str, Any]) -> Kit:
    """As ``standard_kit``, but no model's own code is run. A predictor is code of the server's, and is run.

    Raises:
        ConfigError: the predictor does not fit.
    """
    if predictor is None:
        return Kit(DetectedRuntimes(runs_code=False), codecs.by_name)
    return standard_kit(predictor, config)
