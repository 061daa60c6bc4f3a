"""Whether the bytes that came are those that the store holds: by the etag, where that is the MD5 of the object.

``RemoteStore`` asks it for each download. An etag that looks like an MD5 need not be one (objects encrypted with a key of their own
have others), so it has to be learned of each store, and one that differs proves nothing by itself.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from hotset.errors import StoreError
from hotset.store.base import ObjectMeta
from hotset.store.headers import AskHeaders, is_encrypted_by_key

_logger: Final = logging.getLogger(__name__)

_MD5 = re.compile(r"[0-9a-f]{32}")
_GIVEN_UP_AFTER: Final = 3
"""A store of which so many etags were no digests, and none was one, does not make such."""


def digest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class Digests:
    """What has been seen of a store's etags. Owned by the event loop."""

    def __init__(self, *, url: str, headers: AskHeaders) -> None:
        """``headers`` asks the store for those of a path."""
        self._url = url
        self._headers = headers
        self.alike = 0
        """How many etags were the digest of their object."""
        self._unlike = 0

    def tell(self, etag: str) -> bool:
        """Whether the digest of what comes is worth comparing with this etag."""
        return (self.alike > 0 or self._unlike < _GIVEN_UP_AFTER) and _MD5.fullmatch(etag) is not None

    async def judge(self, object_: ObjectMeta, first: str, copy_again: Callable[[], Awaitable[str]]) -> None:
        """Return if what came is the object although its digest, ``first``, is not its etag; it may be copied once more.

        Raises:
            StoreError: the store sends other bytes than it holds, as far as can be told.
        """
        headers = await self._headers(object_.path)
        if headers is not None and is_encrypted_by_key(headers):
            self._unlike += 1
            return
        again = await copy_again()
        if again == object_.etag:
            self.alike += 1
            _logger.warning(
                "%s sent other bytes than it holds, and then the right ones: %r", self._url, object_.path
            )
            return
        if again == first and (headers is None or not self.alike):
            self._unlike += 1  # twice the same, and nothing says that etags are digests here
            return
        raise StoreError(
            f"{self._url} sends other bytes of {object_.path!r} than it holds: their MD5 is {again}, its etag {object_.etag}"
        )
