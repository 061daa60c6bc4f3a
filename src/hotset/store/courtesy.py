"""Around each request to a store: it is made when the store is not to be left alone, and what it says of that is heeded.

``RemoteStore`` has one for all that it asks. The brake decides; the headers are where a store says for how long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from hotset.store.base import StoreBusyError
from hotset.store.brake import Brake
from hotset.store.headers import AskHeaders, retry_after_s

PATIENCE_S: Final = 2.0
"""A request waits so long for a store that asked for a pause. Longer, and it fails at once and says when to come again."""


class Courtesy:
    """Owned by the event loop."""

    def __init__(self, brake: Brake, *, url: str, headers: AskHeaders) -> None:
        """``headers`` asks the store for those of a path."""
        self._brake = brake
        self._url = url
        self._headers = headers

    @asynccontextmanager
    async def kept(self, path: str) -> AsyncIterator[None]:
        """Make a request inside.

        Raises:
            StoreBusyError: the store asked for a long pause, and that is not over; or it refused this very request.
        """
        left_s = self._brake.left_s
        if left_s > PATIENCE_S:
            raise StoreBusyError(
                f"{self._url} has asked for a pause, and is asked again in {left_s:.0f} s",
                retry_after_s=left_s,
            )
        began_s = await self._brake.passed()
        try:
            yield
        except StoreBusyError as error:
            if self._brake.press(began_s):
                self._brake.prolong(retry_after_s(await self._headers(path or "_") or {}))
            error.retry_after_s = max(error.retry_after_s or 0.0, self._brake.left_s)
            raise
        self._brake.release(began_s)
