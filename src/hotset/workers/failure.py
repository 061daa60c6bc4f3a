"""Errors as they cross the wire: the class's name, the kind, the message and the wait; and back again.

Called by both ends of a worker's wire. It never carries a traceback: that stays in the log of the process where
the error was raised.
"""

from __future__ import annotations

from typing import Final

import msgspec

from hotset.errors import (
    CapacityError,
    ConfigError,
    ErrorKind,
    HotsetError,
    InvalidInputError,
    LoadFailedError,
    LoadingError,
    NotFoundError,
    OverloadedError,
    PredictFailedError,
    StoreError,
    UnavailableError,
    UnsupportedError,
    WorkerDiedError,
)

_CLASSES: Final[dict[str, type[HotsetError]]] = {
    error.__name__: error
    for error in (
        HotsetError,
        ConfigError,
        InvalidInputError,
        NotFoundError,
        LoadFailedError,
        PredictFailedError,
        CapacityError,
        UnsupportedError,
        UnavailableError,
        OverloadedError,
        LoadingError,
        StoreError,
        WorkerDiedError,
    )
}

_KINDS: Final = frozenset(ErrorKind)

MAX_MESSAGE: Final = 4000
"""Characters of a message that cross the wire: a library may put a whole array into its exception's text."""


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """One error of the tree, as plain values."""

    error: str
    kind: str
    message: str
    retry_after_s: float | None


def pack(error: HotsetError) -> Failure:
    """Return ``error`` as plain values; a class that is not of the tree counts as its nearest base that is."""
    name = next(base.__name__ for base in type(error).__mro__ if _CLASSES.get(base.__name__) is base)
    message = str(error)
    if len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE] + "…"
    return Failure(name, error.kind.value, message, error.retry_after_s)


def unpack(failure: Failure) -> HotsetError:
    """Return the error that ``pack`` was given, as the same class; one that there is not, from a child that went wrong, is ours."""
    error_class = _CLASSES.get(failure.error, HotsetError)
    kind = ErrorKind(failure.kind) if failure.kind in _KINDS else ErrorKind.INTERNAL
    if failure.retry_after_s is None:
        return error_class(failure.message, kind=kind)
    return error_class(failure.message, kind=kind, retry_after_s=failure.retry_after_s)
