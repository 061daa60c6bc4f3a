"""The few request headers that a door reads itself, found in one pass. All others are decoded only when asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from hotset.api.reply import RawHeader
from hotset.errors import InvalidInputError, UnsupportedError
from hotset.payload import CODINGS

TIMEOUT_HEADER: Final = "X-Request-Timeout"
AUTHORIZATION: Final = b"authorization"

_JSON_LENGTH: Final = b"inference-header-content-length"
_ENCODING: Final = b"content-encoding"
_WISH: Final = b"accept-encoding"
_ACCEPT: Final = b"accept"
_EVENTS: Final = b"text/event-stream"
_READ: Final = frozenset(
    {b"content-type", b"content-length", b"x-request-timeout", _ENCODING, _WISH, _ACCEPT, _JSON_LENGTH}
)
_CODINGS: Final = frozenset(coding.encode() for coding in CODINGS)
_WISHES: Final = _CODINGS | {_EVENTS}
"""Values of headers of which one is in nearly no request."""


class RequestHeaders(NamedTuple):
    """``length`` is what the client declared, or None; ``timeout_s`` is its own limit, or None.

    ``codec`` are those without which a body cannot be decoded, or its answer not be given as was asked, whatever the
    model wants.
    """

    content_type: str
    length: int | None
    timeout_s: float | None
    codec: tuple[tuple[str, str], ...]

    @property
    def is_compressed(self) -> bool:
        return any(name == _ENCODING.decode() for name, _ in self.codec)


def read_headers(raw: Iterable[RawHeader]) -> RequestHeaders:
    """Read what every request needs.

    Raises:
        InvalidInputError: a header's value is malformed.
        UnsupportedError: the body is compressed in a way that is not known here.
    """
    found = {name: value for name, value in raw if name in _READ}
    length = found.get(b"content-length")
    timeout = found.get(b"x-request-timeout")
    return RequestHeaders(
        content_type=found.get(b"content-type", b"").decode("latin-1"),
        length=int(length) if length is not None and length.isdigit() else None,
        timeout_s=None if timeout is None else _seconds(timeout),
        codec=()
        if _JSON_LENGTH not in found and _ENCODING not in found and _WISHES.isdisjoint(found.values())
        else _for_codecs(found),
    )


def _for_codecs(found: dict[bytes, bytes]) -> tuple[tuple[str, str], ...]:
    """Of a coding, only what is one: a client that names several that it understands asks for nothing."""
    encoding = found.get(_ENCODING, b"").strip().lower()
    if encoding not in _CODINGS and encoding not in {b"identity", b""}:
        expected = ", ".join(sorted(CODINGS))
        raise UnsupportedError(
            f"expected a body as it is, or as {expected}; found Content-Encoding: {_text(encoding)}"
        )
    wanted = {
        _JSON_LENGTH: found.get(_JSON_LENGTH),
        _ENCODING: encoding if encoding in _CODINGS else None,
        _WISH: wish if (wish := found.get(_WISH, b"").strip().lower()) in _CODINGS else None,
        _ACCEPT: _EVENTS if found.get(_ACCEPT) == _EVENTS else None,
    }
    return tuple(
        (name.decode(), value.decode("latin-1")) for name, value in wanted.items() if value is not None
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


def headers_without_token(raw: Iterable[RawHeader]) -> tuple[tuple[str, str], ...]:
    """Return every header but that with the client's token: a model's code has no business with it."""
    return all_headers(header for header in raw if header[0].lower() != AUTHORIZATION)


def _text(value: bytes) -> str:
    """Return a header's value as a message may show it."""
    return value[:40].decode("latin-1")
