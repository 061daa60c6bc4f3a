"""Handlers written for Cortex: their class is made as it is, and called for each request, whatever models it asks for.

Called by the workers. Beside ``predictor``, whose code is given one model for each request, this code asks for models
itself. What it raises becomes one sentence for the client; the traceback goes to the log and nowhere else.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from hotset.errors import ConfigError, HotsetError, PredictFailedError, UnsupportedError
from hotset.payload import Signature
from hotset.runtimes.base import CallMeta
from hotset.runtimes.exhaustion import is_out_of_memory_in_code
from hotset.runtimes.handler_clients import MetricsClient, ModelClient, OnnxClient, TensorFlowClient
from hotset.runtimes.handler_source import ANSWERING, CLASS_NAMES, VERBS
from hotset.runtimes.lending import METHOD_HEADER, REQUEST_HEADER, BeginAgainError, Lender
from hotset.runtimes.predictor import imported_file
from hotset.runtimes.reason import reason_of

_SIGNATURE: Final = Signature(platform="python")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """What ``cortex.yaml`` says of the handler, whose API has this ``name``. ``type`` is ``python``, ``tensorflow`` or ``onnx``.

    ``only`` is the name of the one model, where there is one; ``directory`` is the project's, where the handler finds
    its files; with ``batches`` it takes lists of payloads.
    """

    type: str = "python"
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    only: str | None = None
    names: tuple[str, ...] = ()
    directory: str = ""
    python_path: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    signature: str | None = None
    batches: bool = False


class CaseInsensitive(dict[str, str]):
    """Headers, by names in any case."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        super().__init__((name.lower(), value) for name, value in pairs)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def read_handler(path: Path, *, options: HandlerOptions, lender: Lender) -> HandlerServable:
    """Import the file and make its class.

    Raises:
        ConfigError: the file or its class does not fit, or raised.
    """
    path = path.resolve()
    os.environ.update(options.env)
    for directory in (options.python_path, options.directory):
        if directory and directory not in sys.path:
            sys.path.insert(0, directory)
    try:
        module = imported_file(path)
    except BaseException as error:
        _log.exception("importing the handler failed")
        raise ConfigError(f"{path}: importing the handler raised {reason_of(error)}") from error
    cls = _class_in(path, module, options.type)
    return HandlerServable(_made(path, cls, options, lender), where=str(path), options=options, lender=lender)


def _class_in(path: Path, module: object, kind: str) -> type:
    names = CLASS_NAMES[kind]
    for name in names:
        cls = getattr(module, name, None)
        if isinstance(cls, type):
            return cls
    raise ConfigError(f"{path}: expected a class named {' or '.join(names)}, found none")


def _made(path: Path, cls: type, options: HandlerOptions, lender: Lender) -> object:
    models = ModelClient(lender, only=options.only, names=options.names)
    client: Any = models
    if options.type == "tensorflow":
        client = TensorFlowClient(models, signatures=options.signatures, default_signature=options.signature)
    elif options.type == "onnx":
        client = OnnxClient(models, signatures=options.signatures, default_signature=options.signature)
    given = {
        "config": dict(options.config),
        "model_client": client,
        f"{options.type}_client": client,
        "metrics_client": MetricsClient(),
    }
    wanted, takes_any = _arguments_of(cls)
    unknown = [name for name in wanted if name not in given]
    if unknown:
        raise ConfigError(
            f"{path}: {cls.__name__}.__init__ takes {', '.join(unknown)}; expected any of: {', '.join(given)}"
        )
    try:
        return cls(**(given if takes_any else {name: given[name] for name in wanted}))
    except BaseException as error:
        _log.exception("%s.__init__ failed", cls.__name__)
        raise ConfigError(f"{path}: {cls.__name__}.__init__ raised {reason_of(error)}") from error


def _arguments_of(function: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """Return the names that a function takes, and whether it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return (), False
    kinds = inspect.Parameter
    names = tuple(
        it.name for it in parameters if it.kind in {kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY}
    )
    return names, any(it.kind is kinds.VAR_KEYWORD for it in parameters)


_REQUEST_ARGUMENTS: Final = ("payload", "query_params", "headers")


class HandlerServable:
    """One handler, which answers every request of its worker. Thread-safe as far as the user's code is.

    It is never closed: it lives as long as its process.
    """

    def __init__(self, handler: object, *, where: str, options: HandlerOptions, lender: Lender) -> None:
        self.handler: Final = handler
        self._lender = lender
        self._methods = {verb: method for verb in VERBS if (method := self._method(verb)) is not None}
        if not self._methods:
            raise ConfigError(
                f"{where}: class {type(handler).__name__} has none of {', '.join(ANSWERING)}; expected one"
            )
        self._arguments = {verb: self._arguments_of(where, method) for verb, method in self._methods.items()}
        self._callbacks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hotset-callback")
        self._after: Callable[..., Any] | None = getattr(handler, "post_predict", None)
        self.batches: Final = options.batches

    def _method(self, verb: str) -> Callable[..., Any] | None:
        method = getattr(self.handler, f"handle_{verb}", None)
        if method is None and verb == "post":
            method = getattr(self.handler, "predict", None)
        return method if callable(method) else None

    def _arguments_of(self, where: str, method: Callable[..., Any]) -> frozenset[str]:
        names, takes_any = _arguments_of(method)
        unknown = [name for name in names if name not in _REQUEST_ARGUMENTS]
        if unknown:
            raise ConfigError(
                f"{where}: {getattr(method, '__name__', 'the method')} takes {', '.join(unknown)}; "
                f"expected any of: {', '.join(_REQUEST_ARGUMENTS)}"
            )
        return frozenset(_REQUEST_ARGUMENTS if takes_any else names)

    @property
    def signature(self) -> Signature:
        return _SIGNATURE

    @property
    def wants(self) -> frozenset[str]:
        return frozenset(_REQUEST_ARGUMENTS)

    def predict(self, payload: Callable[[], Any], meta: CallMeta) -> Any:
        """Return what the handler does. ``payload`` reads it: only a method that takes one has it read."""
        number, verb, headers = _told(meta.headers)
        method = self._methods.get(verb)
        if method is None:
            there = ", ".join(it.upper() for it in self._methods)
            raise UnsupportedError(f"the handler has no handle_{verb}; it answers: {there}")
        given = self._given(verb, payload, meta, headers)
        if self.batches and verb == "post":
            return self._many(number, [given])[0]
        with self._lender.request(number):
            result = self._called(method, given)
        return self._without_callback(result, given)

    def predict_batch(self, payloads: Sequence[Any]) -> Sequence[Any]:
        """Return one result for each request of a batch: the handler takes lists. What it borrows is the first one's.

        Raises:
            HotsetError: that cannot be; each is asked alone then, in a list of one.
        """
        asked = [(*_told(payload.meta.headers), payload) for payload in payloads]
        if any(verb != "post" for _, verb, _, _ in asked):
            raise UnsupportedError("only requests of POST go to a handler together")
        given = [self._given("post", payload, payload.meta, headers) for _, _, headers, payload in asked]
        return self._many(asked[0][0], given)

    def _many(self, number: int, given: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        lists = {name: [one[name] for one in given] for name in given[0]}
        with self._lender.request(number):
            result = self._called(self._methods["post"], lists)
        results = self._without_callback(result, lists)
        if isinstance(results, BaseException):
            return [results] * len(given)
        if (
            not isinstance(results, Sequence)
            or isinstance(results, str | bytes)
            or len(results) != len(given)
        ):
            raise PredictFailedError(
                f"the handler returned {type(results).__name__} for a list of {len(given)}; expected a list with a"
                " result for each (server_side_batching is on)"
            )
        return results

    def _given(
        self, verb: str, payload: Callable[[], Any], meta: CallMeta, headers: Sequence[tuple[str, str]]
    ) -> dict[str, Any]:
        wanted = self._arguments[verb]
        given: dict[str, Any] = {}
        if "payload" in wanted:
            given["payload"] = payload()
        if "query_params" in wanted:
            given["query_params"] = dict(parse_qsl(meta.query_string, keep_blank_values=True))
        if "headers" in wanted:
            given["headers"] = CaseInsensitive(headers)
        return given

    def _called(self, method: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        try:
            result = method(**given)
        except (HotsetError, MemoryError, BeginAgainError):
            raise
        except BaseException as error:
            if _is_response_like(error):
                return error
            if is_out_of_memory_in_code(error):
                raise MemoryError(reason_of(error)) from error
            _log.exception("the handler failed")
            raise PredictFailedError(reason_of(error)) from error
        return result

    def _without_callback(self, result: Any, given: Mapping[str, Any]) -> Any:
        """Return what the client gets; what the handler has do afterwards is begun."""
        if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
            result, callback = result
            self._callbacks.submit(_called_back, callback, {})
        if self._after is not None:
            names, takes_any = _arguments_of(self._after)
            known = {"response": result, **given}
            self._callbacks.submit(
                _called_back, self._after, known if takes_any else {it: known.get(it) for it in names}
            )
        return result

    def close(self) -> None:
        """For ``PayloadServable``; nobody calls it."""


def _told(headers: Sequence[tuple[str, str]]) -> tuple[int, str, Sequence[tuple[str, str]]]:
    """Return the request's number, its verb and the client's own headers. Ours are the first two."""
    ours = headers[:2]
    if [name for name, _ in ours] != [REQUEST_HEADER, METHOD_HEADER]:
        raise UnsupportedError("a handler is asked through POST /, and through no other door")
    return int(ours[0][1]), ours[1][1].lower(), headers[2:]


def _is_response_like(error: BaseException) -> bool:
    """Whether it is Starlette's or FastAPI's ``HTTPException``, which says what the client is to get."""
    return isinstance(getattr(error, "status_code", None), int) and hasattr(error, "detail")


def _called_back(callback: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    try:
        callback(**arguments)
    except BaseException:  # noqa: BLE001 - nobody waits for it, and the next one is not to suffer
        _log.exception("a callback of the handler failed")
