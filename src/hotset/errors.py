"""The error tree of hotset. It knows nothing of HTTP or gRPC: each door maps a kind to its own codes, once.

HotsetError
├── ConfigError            a setting, a model directory or a predictor file that does not fit
├── InvalidInputError      the request: bad JSON, wrong name, shape, type or version word
├── NotFoundError          a model or version that the store does not offer
├── LoadFailedError        fetched, but could not be loaded (user code raised, files corrupt)
├── PredictFailedError     loaded, but ``predict`` raised
├── CapacityError          can never fit, or the disk is full
├── UnsupportedError       a verb that this model or server does not have
└── UnavailableError       not now: try again after ``retry_after_s``
    ├── OverloadedError    a queue is full, or everything in memory is leased
    ├── LoadingError       the load goes on, but longer than the request's deadline
    ├── StoreError         the store is away, slow or refuses us
    └── WorkerDiedError    the child that held the model ended
"""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """The stable, machine-readable name of what went wrong; it stands in every error body and in the metrics."""

    INVALID_CONFIG = "invalid_config"
    INVALID_INPUT = "invalid_input"
    VERSION_NOT_ALLOWED = "version_not_allowed"
    MODEL_NOT_FOUND = "model_not_found"
    VERSION_NOT_FOUND = "version_not_found"
    LOAD_FAILED = "load_failed"
    FILES_DAMAGED = "files_damaged"
    QUARANTINED = "quarantined"
    UNSIGNED = "unsigned"
    TAMPERED = "tampered"
    PREDICT_FAILED = "predict_failed"
    TOO_LARGE = "too_large"
    DISK_FULL = "disk_full"
    UNSUPPORTED = "unsupported"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    OVERLOADED = "overloaded"
    NO_ROOM = "no_room"
    MEMORY_PRESSURE = "memory_pressure"
    LOADING = "loading"
    DEADLINE = "deadline"
    OUT_OF_MEMORY = "out_of_memory"
    STORE_UNAVAILABLE = "store_unavailable"
    WORKER_DIED = "worker_died"
    NOT_LOADED = "not_loaded"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"


class HotsetError(Exception):
    """Root of the tree. ``str(error)`` is a sentence for people; ``kind`` is for programs.

    ``key`` is the version (name and number) that the request had been resolved to, where that is known.
    """

    kind: ErrorKind = ErrorKind.INTERNAL
    key: tuple[str, int] | None = None

    def __init__(
        self, message: str, *, kind: ErrorKind | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        if kind is not None:
            self.kind = kind
        self.retry_after_s = retry_after_s


class ConfigError(HotsetError):
    """A setting, a model directory or a predictor file does not fit; the message says what was expected."""

    kind = ErrorKind.INVALID_CONFIG


class InvalidInputError(HotsetError):
    """The request is wrong; the message names the field."""

    kind = ErrorKind.INVALID_INPUT


class NotFoundError(HotsetError):
    """The store offers no such model or version; the message names it."""

    kind = ErrorKind.MODEL_NOT_FOUND


class LoadFailedError(HotsetError):
    """The files of a version are there, but it cannot be loaded. Remembered until ``retry_after_s`` from now."""

    kind = ErrorKind.LOAD_FAILED


class PredictFailedError(HotsetError):
    """``predict`` raised: the message has the exception's type and text, never the traceback."""

    kind = ErrorKind.PREDICT_FAILED


class CapacityError(HotsetError):
    """The model is larger than a tier, or the disk is full; the message has both figures."""

    kind = ErrorKind.TOO_LARGE


class UnsupportedError(HotsetError):
    """The server or this model does not have the verb that was asked for."""

    kind = ErrorKind.UNSUPPORTED


class UnavailableError(HotsetError):
    """Not now. ``retry_after_s`` says when it is worth asking again."""

    kind = ErrorKind.SHUTTING_DOWN

    def __init__(self, message: str, *, kind: ErrorKind | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, kind=kind, retry_after_s=retry_after_s)


class OverloadedError(UnavailableError):
    """A bounded queue is full, or there is no room because all that is in memory is leased."""

    kind = ErrorKind.OVERLOADED


class LoadingError(UnavailableError):
    """The model is still being fetched or loaded at the request's deadline; the load goes on."""

    kind = ErrorKind.LOADING


class StoreError(UnavailableError):
    """The store did not answer, or refused."""

    kind = ErrorKind.STORE_UNAVAILABLE


class WorkerDiedError(UnavailableError):
    """The child that held the model ended before it answered.

    ``is_suspect``: what was asked for may have been what ended it; not where it is known what else the child was at.
    """

    kind = ErrorKind.WORKER_DIED
    is_suspect: bool = True
