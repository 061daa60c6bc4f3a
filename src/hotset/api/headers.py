"""The few request headers that a door reads itself, found in one pass. All others are decoded only when asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from hotset.api.reply import RawHeader
from hotset.errors import InvalidInputError, UnsupportedError

TIMEOUT_HEADER: Final = "X-Request-Timeout"

_JSON_LENGTH: Final = b"inference-header-content-length"
_READ: Final = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"x-request-timeout", _JSON_LENGTH}
)


class RequestHeaders(NamedTuple):
    """``length`` is what the client declared, or None; ``timeout_s`` is its own limit, or None.

    ``codec`` are those without which a body cannot be decoded, whatever the model wants.
    """

    content_type: str
    length: int | None
    timeout_s: float | None
    codec: tuple[tuple[str, str], ...]


def read_headers(raw: Iterable[RawHeader]) -> RequestHeaders:
    """Read what every request needs.

    Raises:
        InvalidInputError: a header's value is malformed.
        UnsupportedError: the body is compressed.
    """
    found = {name: value for name, value in raw if name in _READ}
    encoding = found.get(b"content-encoding", b"identity")
    if encoding.strip().lower() not in {b"identity", b""}:
        raise UnsupportedError(
            f"expected a body that is not compressed, found Content-Encoding: {_text(encoding)}"
        )
    length = found.get(b"content-length")
    timeout = found.get(b"x-request-timeout")
    json_length = found.get(_JSON_LENGTH)
    return RequestHeaders(
        content_type=found.get(b"content-type", b"").decode("latin-1"),
        length=int(length) if length is not None and length.isdigit() else None,
        timeout_s=None if timeout is None else _seconds(timeout),
        codec=() if json_length is None else ((_JSON_LENGTH.decode(), json_length.decode("latin-1")),),
    )


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidInputError(
            f"expected {TIMEOUT_HEADER} to be seconds above 0, for example 2.5; found: {_text(value)}"
        )
    return seconds


def all_headers(raw: Iterable[RawHeader]) -> tuple[tuple[str, str], ...]:
    """Return every header as text, names in lower case."""
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw)


def _text(value: bytes) -> str:
    """Return a header's value as a message may show it."""
    return value[:40].decode("latin-1")
