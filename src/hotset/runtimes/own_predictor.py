"""A version that brings its own ``predictor.py``: its ``Predictor`` class, imported for it alone.

Called by the workers, through the registry. The class is that of the setting ``predictor`` (see ``predictor.py``), made once
for each load of the version, with ``options`` of ``model.yaml`` as its ``config``. Where that setting is given, it is asked
for every model, and this runtime for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from hotset.errors import ConfigError, LoadFailedError
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.runtimes.own_code import OwnModules
from hotset.runtimes.predictor import PredictorServable, predictor_of

FILE: Final = "predictor.py"


class OwnPredictorRuntime:
    """The adapter. Stateless and thread-safe; one version's code is loaded at a time in each process."""

    name = "predictor"
    extra = ""
    patterns = (FILE,)
    size_factor = 2.0
    devices = ("cpu",)

    def detect(self, files: Sequence[str]) -> bool:
        return FILE in files

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        """It runs code from the store, whatever that code does then."""
        del path, files
        return True

    def load(
        self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS
    ) -> PredictorServable:
        path = path.resolve()
        modules = OwnModules(path)
        try:
            with modules.lent():
                return _loaded(path, files, options.values, modules)
        except BaseException:
            modules.close()
            raise


def _loaded(
    path: Path, files: Sequence[str], config: Mapping[str, Any], modules: OwnModules
) -> PredictorServable:
    try:
        imported = partial(modules.import_module, "predictor")
        runtime = predictor_of(path / FILE, imported, config=config, on_close=modules.close)
    except ConfigError as error:
        raise LoadFailedError(str(error).replace(f"{path}/", "")) from error
    return runtime.load(path, files)
