"""MLflow: a directory with an ``MLmodel``, whatever its flavor, through its ``python_function``, with its signature.

MLflow's own ``load_model`` is not called: it puts a model's code before all else on ``sys.path``, for good. What it does
besides is little, and documented: the loader module's ``_load_pyfunc`` is given the model's files, and what that returns is
wrapped. Code that a model brings along is seen by that model alone (``own_code.py``).

The flavor's own framework has to be installed, too; MLflow names what it was in the model's ``requirements.txt``.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from hotset.errors import HotsetError, InvalidInputError, LoadFailedError, PredictFailedError
from hotset.payload import InferRequest, InferResponse, Signature
from hotset.runtimes.exhaustion import is_out_of_memory
from hotset.runtimes.gcpause import collector_pause
from hotset.runtimes.mlflow_schema import Inputs, Outputs
from hotset.runtimes.mlmodel_file import NAME, PYFUNC, brings_code, directory_of, read_mlmodel
from hotset.runtimes.options import NO_OPTIONS, NoneOfItsOwn, RuntimeOptions
from hotset.runtimes.own_code import OwnModules
from hotset.runtimes.patterns import matching
from hotset.runtimes.reason import load_failure, not_installed, reason_of

_CODE_MODULE: Final = "code_model_"
"""How MLflow calls the module that it makes of a model that was saved as code."""

_loading_code: Final = threading.Lock()
"""A model that is saved as code hands itself to MLflow through a variable of the process: one at a time."""


class MlflowRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "mlflow"
    extra = "mlflow"
    patterns = (NAME,)
    size_factor = 2.0
    devices = ("cpu",)

    def detect(self, files: Sequence[str]) -> bool:
        return bool(matching(files, (NAME.lower(),)))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        return brings_code(read_mlmodel(path / directory_of(files)))

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> MlflowServable:
        options.read(NoneOfItsOwn)
        directory = path / directory_of(files)
        mlmodel = read_mlmodel(directory)
        try:
            framework()
        except ImportError as error:
            raise not_installed("MLflow", self.extra) from error
        own = _own_modules(directory, mlmodel)
        try:
            model = _loaded(directory, mlmodel["flavors"][PYFUNC], own)
            return MlflowServable(model, own)
        except Exception as error:
            if own is not None:
                own.close()
            if isinstance(error, HotsetError):
                raise
            raise _failure(directory, error) from error


def framework() -> Any:
    """Import MLflow's ``pyfunc`` and return it. It tells nobody of it.

    Raises:
        ImportError: MLflow or pandas is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read by the import itself
    return importlib.import_module("mlflow.pyfunc")


def _failure(directory: Path, error: Exception) -> LoadFailedError:
    what = f"cannot load {NAME}:"
    if isinstance(error, ModuleNotFoundError) and (directory / "requirements.txt").is_file():
        what = f"cannot load {NAME} (install what its requirements.txt lists):"
    return load_failure(what, error)


def _own_modules(directory: Path, mlmodel: Mapping[str, Any]) -> OwnModules | None:
    code = mlmodel["flavors"][PYFUNC].get("code")
    return OwnModules(directory / str(code)) if code else None


def _loaded(directory: Path, pyfunc: Mapping[str, Any], own: OwnModules | None) -> Any:
    """Return MLflow's ``PyFuncModel``, made as its ``load_model`` does, but for the code."""
    meta = importlib.import_module("mlflow.models").Model.load(str(directory))
    data = directory / str(pyfunc["data"]) if "data" in pyfunc else directory
    arguments = [pyfunc["config"]] if pyfunc.get("config") else []
    is_code = own is not None or "model_code_path" in pyfunc
    with (
        _code_forgotten() if is_code else nullcontext(),
        own.lent() if own else nullcontext(),
        collector_pause,
    ):
        loader = importlib.import_module(pyfunc["loader_module"])
        impl = loader._load_pyfunc(str(data), *arguments)  # noqa: SLF001 - so documented
    _let_go()
    return framework().PyFuncModel(
        model_meta=meta, model_impl=impl, predict_fn=pyfunc.get("predict_fn", "predict")
    )


@contextmanager
def _code_forgotten() -> Iterator[None]:
    """Load one model that is saved as code; MLflow and the import system would keep it for good, and do not."""
    models: Any = importlib.import_module("mlflow.models.model")
    with _loading_code:
        try:
            yield
        finally:
            if hasattr(models, "__mlflow_model__"):
                models.__mlflow_model__ = None
            for name in [name for name in list(sys.modules) if name.startswith(_CODE_MODULE)]:
                sys.modules.pop(name)


def _let_go() -> None:
    """Have MLflow forget the classes of models that it has looked at: they may hold all of a model."""
    looked_at = sys.modules.get("mlflow.pyfunc.utils.data_validation")
    function: Any = getattr(looked_at, "_get_func_info_if_type_hint_supported", None)
    if hasattr(function, "cache_clear"):
        function.cache_clear()


class MlflowServable:
    """One model. Thread-safe as far as its flavor's predictions are; frameworks' are, and the user's own code knows.

    Legal order: any calls of ``infer``, then ``close`` once.
    """

    def __init__(self, model: Any, own: OwnModules | None) -> None:
        """``own`` is the code that the model brings along; closed with it."""
        signature = model.metadata.signature
        self._model = model
        self._own = own
        self._inputs = Inputs(signature.inputs if signature is not None else None)
        self._outputs = Outputs(signature.outputs if signature is not None else None)
        params = getattr(signature, "params", None)
        self._params = frozenset(spec.name for spec in params.params) if params is not None else frozenset()
        self._refusal: type[Exception] = importlib.import_module("mlflow.exceptions").MlflowException
        self._signature = Signature(MlflowRuntime.name, self._inputs.specs, self._outputs.specs)

    @property
    def signature(self) -> Signature:
        return self._signature

    def infer(self, request: InferRequest) -> InferResponse:
        _check_outputs(request.outputs, [spec.name for spec in self._outputs.specs])
        data = self._inputs.data(request.inputs)
        params = {name: value for name, value in request.parameters.items() if name in self._params}
        outputs = self._outputs.tensors(self._predicted(data, params or None))
        if not request.outputs:
            return InferResponse(outputs)
        _check_outputs(request.outputs, list(outputs))
        return InferResponse({name: outputs[name] for name in request.outputs})

    def close(self) -> None:
        self._model = None
        if self._own is not None:
            self._own.close()

    def _predicted(self, data: Any, params: Mapping[str, Any] | None) -> Any:
        try:
            return self._ask(data, params)
        except (HotsetError, MemoryError):
            raise
        except self._refusal as error:
            if getattr(error, "error_code", "") not in {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}:
                raise PredictFailedError(reason_of(error)) from error
            raise InvalidInputError(f"the model refused the input: {_told(error)}") from error
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(reason_of(error)) from error
            raise PredictFailedError(reason_of(error)) from error

    def _ask(self, data: Any, params: Mapping[str, Any] | None) -> Any:
        """Ask the model; if it brings code along, with its modules lent to it, and so one such model at a time.

        It may import them under plain names at any moment, and would find another model's if that one had them lent.
        """
        with self._own.lent() if self._own is not None else nullcontext():
            return self._model.predict(data, params=params)


def _told(error: Exception) -> str:
    """Return what MLflow says is wrong, without the data that it repeats before that."""
    return reason_of(error).rpartition(" Error: ")[2]


def _check_outputs(wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if known and name not in known:
            raise InvalidInputError(f"no output {name!r}; this model has: {', '.join(known)}")
