"""The user's own code: a ``Predictor`` class whose ``load_model`` and ``predict`` stand in for a framework.

Called by the workers. The file is checked as text first (``predictor_source``), then imported here, once for each
worker, and its class is made once with ``config``. What the user's code raises becomes one sentence for the client;
the traceback goes to the log and nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import parse_qsl

from hotset.errors import ConfigError, HotsetError, PredictFailedError
from hotset.payload import Signature
from hotset.runtimes.base import CallMeta
from hotset.runtimes.decoupled import answers_in_parts
from hotset.runtimes.exhaustion import is_out_of_memory_in_code
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.runtimes.predictor_source import (
    ARGUMENTS,
    Method,
    check_predictor,
    clash_in,
    missing_from,
    problem_with,
)
from hotset.runtimes.reason import load_failure, reason_of

_BINARY: Final = frozenset({bytes, memoryview})
_SIGNATURE: Final = Signature(platform="python")
_DECOUPLED: Final = Signature(platform="python", decoupled=True)

_log = logging.getLogger(__name__)


def read_predictor(path: Path, *, config: Mapping[str, Any] | None = None) -> PredictorRuntime:
    """Check and import the file, make its class with ``config``, and return the runtime.

    The file's directory goes on ``sys.path``, so that the modules beside it can be imported; the file itself gets a
    module name of its own, so that two predictors in one process stay apart.

    Raises:
        ConfigError: the file does not fit, or raised while it was imported or its class made.
    """
    path = path.resolve()
    return predictor_of(path, partial(imported_file, path), config=config)


def predictor_of(
    path: Path,
    imported: Callable[[], ModuleType],
    *,
    config: Mapping[str, Any] | None = None,
    on_close: Callable[[], None] | None = None,
) -> PredictorRuntime:
    """As ``read_predictor``, with ``imported`` to import the file once its text was checked.

    ``on_close`` is called after a model of it was unloaded, or could not be.

    Raises:
        ConfigError: the file does not fit, or raised while it was imported or its class made.
    """
    file = check_predictor(path)
    try:
        module = imported()
    except BaseException as error:
        raise _config_error(path, "importing the predictor", error) from error
    cls = getattr(module, file.class_name, None)
    if not isinstance(cls, type):
        raise ConfigError(f"{path}:1: expected a class named {file.class_name}, found: {type(cls).__name__}")
    return PredictorRuntime(_make(path, cls, dict(config or {})), where=str(path), on_close=on_close)


def imported_file(path: Path) -> ModuleType:
    """Import a file under a module name of its own; what is beside it can be imported too."""
    directory = str(path.parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    name = f"hotset_predictor_{hashlib.blake2b(bytes(path), digest_size=8).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"expected a predictor file whose name ends in .py, found: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _make(path: Path, cls: type, config: dict[str, Any]) -> object:
    method = _method_of(cls, "__init__")
    problem = problem_with(method)
    if problem:
        raise ConfigError(f"{path}:{method.line}: {cls.__name__}.{problem}")
    try:
        return cls(config=config) if "config" in method.accepted else cls()
    except BaseException as error:
        raise _config_error(path, f"{cls.__name__}.__init__", error) from error


def _config_error(path: Path, what: str, error: BaseException) -> ConfigError:
    _log.error("%s failed", what, exc_info=error)
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    line = lines[-1] if lines else 1
    return ConfigError(f"{path}:{line}: {what} raised {reason_of(error)}")


def _method_of(owner: object, name: str) -> Method:
    """Describe a bound method, or for ``__init__`` a class's construction."""
    function: Any = owner if name == "__init__" else getattr(owner, name)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return Method(name, 0, (), takes_any=True)
    code = getattr(getattr(owner, name, None), "__code__", None)
    stars = [item.name for item in parameters if item.kind in {item.VAR_POSITIONAL, item.POSITIONAL_ONLY}]
    return Method(
        name=name,
        line=code.co_firstlineno if code is not None else 0,
        arguments=tuple(
            item.name for item in parameters if item.kind not in {item.VAR_POSITIONAL, item.VAR_KEYWORD}
        ),
        takes_any=any(item.kind is item.VAR_KEYWORD for item in parameters),
        star=stars[0] if stars else None,
        is_async=inspect.iscoroutinefunction(function),
    )


def _takes_views(owner: object) -> bool:
    """Whether the user's annotations say that a body may come as a ``memoryview``."""
    for name, argument in (("predict", "payload"), ("predict_batch", "payloads")):
        try:
            parameter = inspect.signature(getattr(owner, name)).parameters.get(argument)
        except (AttributeError, TypeError, ValueError):
            continue
        if parameter is not None and "memoryview" in str(parameter.annotation):
            return True
    return False


class PredictorRuntime:
    """The runtime of one predictor object. Thread-safe as far as that object is; it loads any number of models.

    Raises ``ConfigError`` when made of an object that lacks a method or has one with wrong arguments.
    """

    name = "predictor"
    extra = ""
    patterns: tuple[str, ...] = ()
    size_factor = 2.0
    devices = ("cpu",)

    def __init__(
        self, predictor: object, *, where: str | None = None, on_close: Callable[[], None] | None = None
    ) -> None:
        self._predictor = predictor
        self._on_close = on_close
        self._where = where or type(predictor).__qualname__
        present = [
            name for name in ARGUMENTS if name != "__init__" and callable(getattr(predictor, name, None))
        ]
        lacking = missing_from(present)
        if lacking:
            raise ConfigError(f"{self._where}: class {type(predictor).__name__} {lacking}")
        self._methods = {name: self._checked(name) for name in present}
        clash = clash_in(self._methods)
        if clash:
            raise ConfigError(f"{self._where}: {type(predictor).__name__}.{clash}")
        self._takes_views = _takes_views(predictor)
        is_decoupled = answers_in_parts(getattr(predictor, "predict", None))
        self._signature = _DECOUPLED if is_decoupled else _SIGNATURE

    def _checked(self, name: str) -> Method:
        method = _method_of(self._predictor, name)
        problem = problem_with(method)
        if problem:
            raise ConfigError(f"{self._where}:{method.line}: {type(self._predictor).__name__}.{problem}")
        return method

    def detect(self, files: Sequence[str]) -> bool:
        """Every version, whatever its files: the user's code reads them."""
        del files
        return True

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        """No: this code came with the settings and not from the store. What it does with the files is its own."""
        del path, files
        return False

    def load(
        self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS
    ) -> PredictorServable:
        del files, options
        predictor: Any = self._predictor
        try:
            model = predictor.load_model(disk_path=str(path))
        except HotsetError:
            raise
        except BaseException as error:
            _log.exception("load_model failed for %s", path)
            raise load_failure("load_model raised", error) from error
        return PredictorServable(
            predictor,
            model,
            self._methods,
            signature=self._signature,
            takes_views=self._takes_views,
            on_close=self._on_close,
        )


class PredictorServable:
    """One model that the user's ``load_model`` returned. Thread-safe as far as the user's ``predict`` is.

    Legal order: any calls of ``predict``, then ``close`` once, which calls the user's ``unload_model``.
    """

    def __init__(
        self,
        predictor: Any,
        model: Any,
        methods: Mapping[str, Method],
        *,
        signature: Signature = _SIGNATURE,
        takes_views: bool = False,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """Without ``takes_views`` every body that is no JSON, form or text is ``bytes``, by a copy if it was a view."""
        self._model = model
        self._on_close = on_close
        self.brings_code = on_close is not None
        """Whether this code is the version's own, so that what it imports is imported by the load."""
        self._as_binary: Callable[[Any], bytes | memoryview] = memoryview if takes_views else bytes
        self._predict: Callable[..., Any] | None = predictor.predict if "predict" in methods else None
        self._unload: Callable[..., Any] | None = getattr(predictor, "unload_model", None)
        self._unload_takes_model = "unload_model" in methods and bool(methods["unload_model"].accepted)
        self._batch: Callable[..., Any] | None = getattr(predictor, "predict_batch", None)
        self._batch_takes_model = "predict_batch" in methods and "model" in methods["predict_batch"].accepted
        wants = methods["predict"].accepted if "predict" in methods else frozenset({"payload"})
        self._wants = wants
        self._signature = signature

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def wants(self) -> frozenset[str]:
        return self._wants

    @property
    def batches(self) -> bool:
        """Whether the user wrote ``predict_batch``."""
        return self._batch is not None

    def predict(self, payload: Any, meta: CallMeta) -> Any:
        try:
            if self._predict is None:
                return self._batch_results([payload])[0]
            return self._predict(**self._arguments(payload, meta))
        except (HotsetError, MemoryError):
            raise
        except BaseException as error:
            if is_out_of_memory_in_code(error):
                raise MemoryError(reason_of(error)) from error
            _log.exception("predict failed for %s version %s", meta.model_name, meta.model_version)
            raise PredictFailedError(reason_of(error)) from error

    def predict_batch(self, payloads: list[Any]) -> list[Any]:
        """Return one result for each payload. Legal only where ``batches``.

        Raises:
            PredictFailedError: it raised, or returned another number of results.
        """
        try:
            return self._batch_results(payloads)
        except (HotsetError, MemoryError):
            raise
        except BaseException as error:
            if is_out_of_memory_in_code(error):
                raise MemoryError(reason_of(error)) from error
            _log.exception("predict_batch failed")
            raise PredictFailedError(reason_of(error)) from error

    def close(self) -> None:
        model, self._model = self._model, None
        self._predict = self._batch = None
        self._call_unload(model)
        self._unload = None
        if self._on_close is not None:
            self._on_close()

    def _call_unload(self, model: Any) -> None:
        if self._unload is None:
            return
        try:
            self._unload(**({"model": model} if self._unload_takes_model else {}))
        except BaseException:  # noqa: BLE001 - the model goes whatever its hook says
            # As text: a record that kept the traceback would keep the model, through the frames.
            _log.error("unload_model failed\n%s", traceback.format_exc())

    def _arguments(self, payload: Any, meta: CallMeta) -> dict[str, Any]:
        wants = self._wants
        arguments: dict[str, Any] = {}
        if "model" in wants:
            arguments["model"] = self._model
        if "payload" in wants:
            arguments["payload"] = payload if type(payload) not in _BINARY else self._as_binary(payload)
        if "query_params" in wants:
            arguments["query_params"] = dict(parse_qsl(meta.query_string, keep_blank_values=True))
        if "headers" in wants:
            arguments["headers"] = dict(meta.headers)
        if "model_name" in wants:
            arguments["model_name"] = meta.model_name
        if "model_version" in wants:
            arguments["model_version"] = meta.model_version
        return arguments

    def _binaries(self, payloads: list[Any]) -> list[Any]:
        return [item if type(item) not in _BINARY else self._as_binary(item) for item in payloads]

    def _batch_results(self, payloads: list[Any]) -> list[Any]:
        if self._batch is None:
            raise PredictFailedError("the predictor has no predict_batch")
        model = {"model": self._model} if self._batch_takes_model else {}
        results = self._batch(payloads=self._binaries(payloads), **model)
        try:
            listed = list(results)
        except TypeError as error:
            raise PredictFailedError(
                f"predict_batch returned {type(results).__name__}; expected a list with a result for each payload"
            ) from error
        if len(listed) != len(payloads):
            raise PredictFailedError(
                f"predict_batch returned {len(listed)} results for {len(payloads)} payloads; expected one for each"
            )
        return listed
