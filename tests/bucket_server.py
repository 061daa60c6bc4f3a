"""An S3 listing of any keys at all, also those that no other server here would take, in pages of any size."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from fault_server import BODY, ETAG, Fault, Headers, response

_ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag>"
    "<Size>{}</Size></Contents>"
)
_FOLDER = "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>"


def bucket(keys: Sequence[str], *, page: int = 1000) -> Fault:
    """Serve a bucket of ``keys``; those that end in ``/`` are empty, the others hold ``BODY``."""
    ordered = sorted(keys, key=str.encode)

    async def fault(target: str, _headers: Headers, writer: asyncio.StreamWriter) -> None:
        method, url, _ = target.split(" ", 2)
        parts = urlsplit(url)
        if method == "GET" and "list-type" in parts.query:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            writer.write(response("200 OK", _page(ordered, query, page).encode()))
        elif unquote(parts.path).split("/", 2)[2] not in ordered:
            writer.write(response("404 Not Found"))
        elif method == "HEAD":
            writer.write(response("200 OK", length=len(BODY), ETag=ETAG))
        else:
            writer.write(response("200 OK", BODY, ETag=ETAG))
        await writer.drain()

    return fault


def _page(keys: Sequence[str], query: dict[str, str], size: int) -> str:
    prefix = query.get("prefix", "")
    after = query.get("continuation-token") or query.get("start-after", "")
    shown: dict[str, str] = {}
    for key in keys:
        if not key.startswith(prefix) or key <= after:
            continue
        head, slash, _ = key[len(prefix) :].partition("/") if "delimiter" in query else (key, "", "")
        folder = prefix + head + slash
        if slash and folder <= after:
            continue
        xml = _xml(folder) if slash else _xml(key)
        length = 0 if key.endswith("/") else len(BODY)
        shown.setdefault(
            folder if slash else key, _FOLDER.format(xml) if slash else _ENTRY.format(xml, ETAG, length)
        )
    names = list(shown)[:size]
    more = len(shown) > size
    token = f"<NextContinuationToken>{_xml(names[-1])}</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><Name>b</Name><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        f"{''.join(shown[name] for name in names)}</ListBucketResult>"
    )


def _xml(text: str) -> str:
    return "".join(letter if letter >= " " else f"&#{ord(letter)};" for letter in escape(text))
