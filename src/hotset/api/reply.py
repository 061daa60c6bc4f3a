"""One answer over HTTP, as plain data, and how it is sent. Every HTTP door uses it; it decides nothing.

Headers are bytes from the start because that is what ASGI carries; ``header_value`` is the one way for text that
a client or a store chose to get there.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote

import msgspec

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
RawHeader: TypeAlias = tuple[bytes, bytes]

JSON: Final = b"application/json"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~/:@-]*\Z")
_SAFE: Final = "!#$&'()*+,/:;<=>?@[]^`{|}~\""

to_json: Final = msgspec.json.Encoder().encode


class Reply(NamedTuple):
    """Status, body and headers. The length is added when it is sent."""

    status: int
    body: bytes | memoryview = b""
    content_type: bytes = JSON
    headers: Sequence[RawHeader] = ()


def json_reply(content: Any, *, status: int = 200, headers: Sequence[RawHeader] = ()) -> Reply:
    """Return ``content`` (dataclasses, dicts, lists) as a JSON answer."""
    return Reply(status, to_json(content), JSON, headers)


def header_value(text: str) -> bytes:
    """Return ``text`` as a header's value: percent-encoded UTF-8 where it is not plain printable ASCII.

    A percent sign is encoded too, so that decoding gives back exactly ``text``.
    """
    if _PLAIN.match(text):
        return text.encode("ascii")
    return quote(text, safe=_SAFE, errors="surrogatepass").encode("ascii")


async def send_head(reply: Reply, send: Send) -> None:
    """Send the status and the headers of an answer whose length nobody knows yet; its body follows."""
    headers = [(b"content-type", reply.content_type), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def send_reply(reply: Reply, send: Send) -> None:
    """Send the whole answer. A client that has gone makes no difference here: the server drops it."""
    body = reply.body
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(body)),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
