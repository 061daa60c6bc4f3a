"""Bodies that are compressed, ``gzip`` and ``deflate``, whatever their codec: undone before it, and done after it.

Called by the workers, where a prediction's own thread does it: so it holds up nobody else's request, and no more memory
is taken at once than there are threads. Never is more unpacked than a body may have that comes as it is.
"""

from __future__ import annotations

import zlib
from typing import Final, TypeAlias

from hotset.errors import InvalidInputError
from hotset.payload import CODINGS, Encoded

Headers: TypeAlias = tuple[tuple[str, str], ...]

MOST_BYTES: Final = 64 << 20
"""Where nothing else is said; as the setting ``max_body_size``."""

LEAST_BYTES: Final = 1 << 10
"""A smaller answer is sent as it is: it would hardly get smaller, and fits one packet in any case."""

_GZIP: Final = zlib.MAX_WBITS + 16
_WBITS: Final = {"gzip": _GZIP, "deflate": zlib.MAX_WBITS}
_LEVEL: Final = 1
"""A third of the time of the usual level; of tensors it leaves hardly more."""


def coding_of(headers: Headers) -> str | None:
    """Return how a request's body is compressed, if it is."""
    return _coding(headers, "content-encoding")


def wished_coding(headers: Headers) -> str | None:
    """Return how the client wants its answer compressed.

    A client that names one coding means it; one that names several says only what it understands, as most do without
    being told to, and for numbers it is seldom worth its time.
    """
    return _coding(headers, "accept-encoding")


def _coding(headers: Headers, wanted: str) -> str | None:
    for name, value in headers:
        if name == wanted:
            coding = value.strip().lower()
            return coding if coding in CODINGS else None
    return None


def unpacked(body: bytes | memoryview, coding: str, *, limit_bytes: int) -> bytes:
    """Return the body as it was before it was compressed.

    Raises:
        InvalidInputError: it is not compressed so, is cut short, or has more than ``limit_bytes``.
    """
    try:
        return _inflated(body, _WBITS[coding], coding, limit_bytes)
    except zlib.error as error:
        if coding != "deflate":
            raise InvalidInputError(f"the body is not {coding}: {error}") from error
    try:
        # Some clients leave out the frame of zlib, which HTTP asks for.
        return _inflated(body, -zlib.MAX_WBITS, coding, limit_bytes)
    except zlib.error as error:
        raise InvalidInputError(f"the body is not {coding}: {error}") from error


def _inflated(body: bytes | memoryview, wbits: int, coding: str, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = limit_bytes
    rest: bytes | memoryview = body
    while True:  # a gzip file may have several members
        stream = zlib.decompressobj(wbits)
        part = stream.decompress(rest, left + 1)
        left -= len(part)
        if left < 0:
            raise InvalidInputError(
                f"the body has more than {limit_bytes} bytes when it is unpacked from {coding}"
            )
        parts.append(part)
        if not stream.eof:
            raise InvalidInputError(f"the body is cut short: its {coding} data does not end")
        rest = stream.unused_data
        if not rest:
            return part if len(parts) == 1 else b"".join(parts)
        if wbits != _GZIP:
            raise InvalidInputError(f"the body has {len(rest)} bytes behind its {coding} data")


def packed(encoded: Encoded, coding: str) -> Encoded:
    """Return an answer compressed, if it gets smaller."""
    if len(encoded.body) < LEAST_BYTES:
        return encoded
    body = zlib.compress(encoded.body, _LEVEL, _WBITS[coding])
    if len(body) >= len(encoded.body):
        return encoded
    return Encoded(body, encoded.content_type, (*encoded.headers, ("content-encoding", coding)))
