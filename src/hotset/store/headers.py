"""The headers of an answer, which obstore keeps to itself: asked for once more, by the standard library, when they matter.

For what hardly ever happens: a store that refuses for now says for how long, and one whose etag is no digest of the object says why.
"""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, TypeAlias

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from hotset.store.translation import OBSTORE_ERRORS

if TYPE_CHECKING:  # obstore has this only for type checkers
    from obstore.store import ObjectStore as RawStore

AskHeaders: TypeAlias = Callable[[str], Awaitable[Mapping[str, str] | None]]
"""Ask a store for the headers of a path."""

LIMIT_S: Final = 5.0
_SIGNED_FOR: Final = timedelta(minutes=1)


async def headers_of(store: RawStore, path: str) -> Mapping[str, str] | None:
    """Return the headers, in lower case, of whatever the store answers to a HEAD of ``path``; None if it does not say.

    The URL that is asked is a secret for a minute: it is in no message.
    """
    if not isinstance(store, AzureStore | GCSStore | S3Store):
        return None
    try:
        url = await obstore.sign_async(store, "HEAD", path, _SIGNED_FOR)
    except OBSTORE_ERRORS:
        return None  # without credentials nothing is signed
    return await asyncio.to_thread(_asked, url)


def _asked(url: str) -> Mapping[str, str] | None:
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  (obstore makes it, of the store's endpoint)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:  # noqa: S310
            headers = answer.headers
    except urllib.error.HTTPError as refused:
        headers = refused.headers
        refused.close()
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return {name.lower(): value for name, value in headers.items()}


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float:
    """Return the seconds for which a store asks to be left alone; 0 where it does not say."""
    said = headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def is_encrypted_by_key(headers: Mapping[str, str]) -> bool:
    """Whether S3 says that the object's etag is no digest of its content."""
    method = headers.get("x-amz-server-side-encryption", "")
    return method.startswith("aws:kms") or "x-amz-server-side-encryption-customer-algorithm" in headers
