"""Errors to HTTP, once: the table of kinds, what only HTTP knows, and the body that every error has.

Doors call ``error_reply``; nothing below them knows a status code. A message is for people and may be put in a
protocol's own words by its door; the kind is for programs and stays.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeAlias

from hotset.api.reply import RawHeader, Reply, header_value, json_reply
from hotset.errors import ErrorKind, HotsetError, UnavailableError

log = logging.getLogger(__name__)

STATUS: Final[Mapping[ErrorKind, int]] = {
    ErrorKind.INVALID_CONFIG: 500,
    ErrorKind.INVALID_INPUT: 400,
    ErrorKind.VERSION_NOT_ALLOWED: 400,
    ErrorKind.MODEL_NOT_FOUND: 404,
    ErrorKind.VERSION_NOT_FOUND: 404,
    ErrorKind.LOAD_FAILED: 500,
    ErrorKind.FILES_DAMAGED: 500,
    ErrorKind.QUARANTINED: 503,
    ErrorKind.UNSIGNED: 500,
    ErrorKind.TAMPERED: 500,
    ErrorKind.PREDICT_FAILED: 500,
    ErrorKind.TOO_LARGE: 507,
    ErrorKind.DISK_FULL: 507,
    ErrorKind.UNSUPPORTED: 501,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.OVERLOADED: 503,
    ErrorKind.NO_ROOM: 503,
    ErrorKind.MEMORY_PRESSURE: 503,
    ErrorKind.LOADING: 503,
    ErrorKind.DEADLINE: 504,
    ErrorKind.OUT_OF_MEMORY: 503,
    ErrorKind.STORE_UNAVAILABLE: 503,
    ErrorKind.WORKER_DIED: 503,
    ErrorKind.NOT_LOADED: 503,
    ErrorKind.SHUTTING_DOWN: 503,
    ErrorKind.INTERNAL: 500,
}


class HttpKind(StrEnum):
    """Kinds of error that exist only over HTTP; they stand in the body where an ``ErrorKind`` would."""

    ROUTE_NOT_FOUND = "route_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    ALREADY_LOADED = "already_loaded"
    BODY_TIMEOUT = "body_timeout"
    BODY_TOO_LARGE = "body_too_large"


HTTP_STATUS: Final[Mapping[HttpKind, int]] = {
    HttpKind.ROUTE_NOT_FOUND: 404,
    HttpKind.METHOD_NOT_ALLOWED: 405,
    HttpKind.ALREADY_LOADED: 409,
    HttpKind.BODY_TIMEOUT: 408,
    HttpKind.BODY_TOO_LARGE: 413,
}


class HttpError(Exception):
    """The request failed before it reached the data plane, for a reason that only HTTP has."""

    def __init__(self, message: str, *, kind: HttpKind, headers: Sequence[RawHeader] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.headers = headers


WrongMethod: TypeAlias = Callable[[str, str, str], Exception]
"""Gets the method of a request, its path, and the methods that are allowed there; returns how it is refused."""


def wrong_method(method: str, path: str, allowed: str) -> HttpError:
    """Return the error for a path that is there with another method.

    A slash at its end makes the end of a route a part of the model's name, and the path one that is there for GET.
    """
    if path.endswith("/"):
        return HttpError(
            f"no such route: {method} {path[:200]}; leave out the slash at its end",
            kind=HttpKind.ROUTE_NOT_FOUND,
        )
    return HttpError(
        f"expected {allowed} on {path[:200]}, found: {method}",
        kind=HttpKind.METHOD_NOT_ALLOWED,
        headers=[(b"allow", allowed.encode())],
    )


def error_reply(error: Exception, *, message: str | None = None, status: int | None = None) -> Reply:
    """Return the answer for any exception; one that is not ours is logged with its traceback and not shown.

    ``message`` and ``status`` replace the error's own where a protocol's clients expect others.
    """
    if isinstance(error, HotsetError):
        return _body(
            message or str(error),
            kind=error.kind,
            status=status or STATUS[error.kind],
            headers=[*_resolved(error), *_retry_after(error), *_challenge(error)],
        )
    if isinstance(error, HttpError):
        return _body(str(error), kind=error.kind, status=HTTP_STATUS[error.kind], headers=error.headers)
    log.error("a request failed unexpectedly", exc_info=error)
    return _body(
        "an internal error; the server's log has the details",
        kind=ErrorKind.INTERNAL,
        status=STATUS[ErrorKind.INTERNAL],
    )


def cut_off_reply() -> Reply:
    """Return the answer for a request that was still inside when the time to drain was over."""
    return error_reply(
        UnavailableError(
            "the server is shutting down and waits no longer; send the request to another replica"
        )
    )


def _body(message: str, *, kind: StrEnum, status: int, headers: Sequence[RawHeader] = ()) -> Reply:
    return json_reply({"error": _encodable(message), "kind": kind.value}, status=status, headers=headers)


def _encodable(message: str) -> str:
    """Return the message without lone surrogates, which a path may hold and JSON cannot."""
    return message.encode("utf-8", "backslashreplace").decode("utf-8")


def resolved_headers(name: str, version: int) -> list[RawHeader]:
    """Return the headers that say which version answered, or failed to."""
    return [(b"x-model-name", header_value(name)), (b"x-model-version", b"%d" % version)]


def _resolved(error: HotsetError) -> list[RawHeader]:
    return [] if error.key is None else resolved_headers(*error.key)


def _challenge(error: HotsetError) -> list[RawHeader]:
    return [(b"www-authenticate", b"Bearer")] if error.kind is ErrorKind.UNAUTHENTICATED else []


def _retry_after(error: HotsetError) -> list[RawHeader]:
    """Whole seconds, rounded up, at least one: with every 503, and wherever the error knows a time."""
    if error.retry_after_s is None and STATUS[error.kind] != 503:
        return []
    seconds = error.retry_after_s or 0.0
    return [(b"retry-after", b"%d" % max(1, math.ceil(seconds)))]
