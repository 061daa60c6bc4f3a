"""An answer as the bytes of HTTP/1.1. ``connection`` writes them; behind another ASGI server nobody calls this."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final, TypeAlias

from hotset.api.errors import error_reply, resolved_headers
from hotset.api.reply import Reply
from hotset.keys import ModelKey

_STATUS: Final = {it.value: b"HTTP/1.1 %d %s\r\n" % (it.value, it.phrase.encode()) for it in HTTPStatus}
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_NO_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CLOSE: Final = b"connection: close\r\n"
_LENGTH: Final = b"content-length: "
_OURS: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})
"""Headers that say where an answer ends: two that disagree are two answers to whoever believes the other."""

_EMPTY: Final = b"0\r\n\r\n"

LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of an answer in chunks; where it is missing, the answer is not whole."""

MOST_HEADS: Final = 4096
"""So many heads of answers are kept ready; then it starts anew."""


Wire: TypeAlias = bytes | tuple[bytes, bytes | memoryview]
"""An answer in one piece, or its head and a large body, which is not copied to stand behind it."""

_LARGE: Final = 1 << 14


def whole(head: bytes, body: bytes | memoryview) -> Wire:
    """Return an answer of a head that ends before the length, and a body."""
    if len(body) >= _LARGE:
        return b"%b%d\r\n\r\n" % (head, len(body)), body
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)  # type: ignore[str-format]  # takes any buffer


def rendered(reply: Reply, *, keep_alive: bool = True) -> Wire:
    """Return the whole answer. A header that would break the protocol, which only user code can bring, is a 500."""
    try:
        lines = _lines(reply, keep_alive=keep_alive)
    except ValueError as fault:
        return rendered(error_reply(fault), keep_alive=keep_alive)
    lines.append(_LENGTH)
    return whole(b"".join(lines), reply.body)


def _lines(reply: Reply, *, keep_alive: bool) -> list[bytes]:
    lines = [_STATUS[reply.status]]
    for name, value in ((b"content-type", reply.content_type), *reply.headers):
        if not _NAME.match(name) or _NO_VALUE.search(value):
            raise ValueError(f"an answer's header cannot be sent: {name!r}: {value!r}")
        if name not in _OURS:
            lines += (name, b": ", value, b"\r\n")
    if not keep_alive:
        lines.append(_CLOSE)
    return lines


def stream_head(reply: Reply, *, keep_alive: bool, is_chunked: bool) -> bytes:
    """Return the head of an answer whose length nobody knows yet.

    Raises:
        ValueError: a header would break the protocol, which only user code can bring.
    """
    lines = _lines(reply, keep_alive=keep_alive)
    if is_chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def chunk(part: bytes | memoryview) -> bytes:
    """Return a part of an answer as a chunk; nothing for an empty one, which would be the last."""
    return b"".join((b"%x\r\n" % len(part), part, b"\r\n")) if len(part) else b""


def with_json_length(head: bytes, name: str, value: str) -> bytes | None:
    """Return the head of an answer that has binary tensors behind its JSON: with this header; None if it is another."""
    if name.lower() != "inference-header-content-length" or not (value.isascii() and value.isdigit()):
        return None
    before = head.removesuffix(_LENGTH)
    return b"%binference-header-content-length: %b\r\n%b" % (before, value.encode(), _LENGTH)


class Heads:
    """The heads of good answers, which are the same for all answers of a version. Owned by the event loop."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[tuple[ModelKey, str], bytes] = {}

    def of(self, key: ModelKey, content_type: str) -> bytes | None:
        """Return the answer's first bytes, up to the length of its body; None if such an answer cannot be sent."""
        head = self._heads.get((key, content_type))
        if head is None:
            head = _head(key, content_type)
            if head is None:
                return None
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            self._heads[key, content_type] = head
        return head


def _head(key: ModelKey, content_type: str) -> bytes | None:
    """Cut the head off a whole answer, so that there is one place that makes them."""
    answer = rendered(Reply(200, b"", content_type.encode("latin-1"), resolved_headers(*key)))
    if not isinstance(answer, bytes) or not answer.endswith(_EMPTY):
        return None
    return answer.removesuffix(_EMPTY)
