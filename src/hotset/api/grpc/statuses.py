"""Errors to gRPC, once: the table of kinds, and what goes with a status. Every handler uses it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

from grpc import StatusCode

from hotset.api.errors import resolved_headers
from hotset.api.oip_routes import explain
from hotset.errors import ErrorKind, HotsetError, UnavailableError
from hotset.keys import ModelRef

log = logging.getLogger(__name__)

CODES: Final[Mapping[ErrorKind, StatusCode]] = {
    ErrorKind.INVALID_CONFIG: StatusCode.INTERNAL,
    ErrorKind.INVALID_INPUT: StatusCode.INVALID_ARGUMENT,
    ErrorKind.VERSION_NOT_ALLOWED: StatusCode.INVALID_ARGUMENT,
    ErrorKind.MODEL_NOT_FOUND: StatusCode.NOT_FOUND,
    ErrorKind.VERSION_NOT_FOUND: StatusCode.NOT_FOUND,
    ErrorKind.LOAD_FAILED: StatusCode.INTERNAL,
    ErrorKind.FILES_DAMAGED: StatusCode.INTERNAL,
    ErrorKind.QUARANTINED: StatusCode.UNAVAILABLE,
    ErrorKind.UNSIGNED: StatusCode.FAILED_PRECONDITION,
    ErrorKind.TAMPERED: StatusCode.DATA_LOSS,
    ErrorKind.PREDICT_FAILED: StatusCode.INTERNAL,
    ErrorKind.TOO_LARGE: StatusCode.RESOURCE_EXHAUSTED,
    ErrorKind.DISK_FULL: StatusCode.RESOURCE_EXHAUSTED,
    ErrorKind.UNSUPPORTED: StatusCode.UNIMPLEMENTED,
    ErrorKind.UNAUTHENTICATED: StatusCode.UNAUTHENTICATED,
    ErrorKind.FORBIDDEN: StatusCode.PERMISSION_DENIED,
    ErrorKind.OVERLOADED: StatusCode.UNAVAILABLE,
    ErrorKind.NO_ROOM: StatusCode.UNAVAILABLE,
    ErrorKind.MEMORY_PRESSURE: StatusCode.UNAVAILABLE,
    ErrorKind.LOADING: StatusCode.UNAVAILABLE,
    ErrorKind.DEADLINE: StatusCode.DEADLINE_EXCEEDED,
    ErrorKind.OUT_OF_MEMORY: StatusCode.UNAVAILABLE,
    ErrorKind.STORE_UNAVAILABLE: StatusCode.UNAVAILABLE,
    ErrorKind.WORKER_DIED: StatusCode.UNAVAILABLE,
    ErrorKind.NOT_LOADED: StatusCode.UNAVAILABLE,
    ErrorKind.SHUTTING_DOWN: StatusCode.UNAVAILABLE,
    ErrorKind.INTERNAL: StatusCode.INTERNAL,
}

MOST_DETAILS: Final = 2000
"""Bytes of a message: it travels in a header, percent-encoded, and clients refuse headers of more than 8 KiB."""


def as_ours(error: Exception) -> HotsetError:
    """Return an error as one of ours; one that is not is logged with its traceback and not shown."""
    if isinstance(error, HotsetError):
        return error
    log.error("a request failed unexpectedly", exc_info=error)
    return HotsetError("an internal error; the server's log has the details")


def cut_off() -> UnavailableError:
    """Return the error of a request that was still inside when the time to drain was over."""
    return UnavailableError(
        "the server is shutting down and waits no longer; send the request to another replica"
    )


def words(error: HotsetError, ref: ModelRef | None) -> str:
    """Return an error in the words that the protocol's clients look for, as long as a header may be."""
    text = (explain(error, ref) if ref is not None else None) or str(error)
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= MOST_DETAILS:
        return encoded.decode()
    return encoded[:MOST_DETAILS].decode("utf-8", "ignore") + "…"


def refuse(context: Any, error: HotsetError, ref: ModelRef | None = None) -> bytes:
    """Make an error the answer of an RPC; return what its handler then returns."""
    context.set_code(CODES[error.kind])
    context.set_details(words(error, ref))
    context.set_trailing_metadata(tuple(_trailing(error)))
    return b""


def _trailing(error: HotsetError) -> list[tuple[str, str]]:
    """Return the kind, the version it was resolved to, and when to try again, for programs and for gRPC's own retries."""
    found = [("error-kind", error.kind.value)]
    if error.key is not None:
        found += [(name.decode(), value.decode()) for name, value in resolved_headers(*error.key)]
    if error.retry_after_s is not None:
        seconds = max(1, math.ceil(error.retry_after_s))
        found += [("retry-after", str(seconds)), ("grpc-retry-pushback-ms", str(seconds * 1000))]
    return found
