"""The store's index as a source of what it offers: read on a condition, refused when it is found wrong.

An index says what its writers told it. So it is compared with a listing now and then, and whenever something does not
fit it; until it was compared again, one that was found wrong is not used. The discovery of the whole store calls it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Final, TypeVar

from hotset.catalog import Layout, Listing, Snapshot
from hotset.catalog.index import INDEX_PATH, IndexFormatError, IndexReader, index_faults
from hotset.catalog.models import Models
from hotset.clock import Clock
from hotset.errors import StoreError
from hotset.keys import ModelKey
from hotset.store import ObjectChangedError, ObjectStore

T = TypeVar("T")

CHUNK_TIMEOUT_S: Final = 120.0
SLICE_S: Final = 0.001
_MODELS_BETWEEN_LOOKS: Final = 20
_NAMED: Final = 3

logger = logging.getLogger(__name__)


class IndexSource:
    """Owned by the sync loop. ``read``, and then perhaps ``judge``, once a pass; ``doubt`` at any time."""

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        *,
        clock: Clock,
        check_interval_s: float,
        timeout_s: float = CHUNK_TIMEOUT_S,
    ) -> None:
        """``check_interval_s``: how often it is compared with a listing; 0: only when there is a reason to."""
        self._store = store
        self._layout = layout
        self._clock = clock
        self._check_interval_s = check_interval_s
        self._timeout_s = timeout_s
        self._listing: Listing | None = None
        self._etag: str | None = None
        self._refusal = ""
        self._is_doubted = False
        self._checked_s: float | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether the index that was read last may be served from."""
        return self._listing is not None and not self._refusal

    @property
    def refusal(self) -> str:
        """Why the index that is there is not used; empty if it is used, or there is none."""
        return self._refusal

    @property
    def check_is_due(self) -> bool:
        """Whether the index should be compared with a listing in this pass."""
        if self._is_doubted or self._refusal:
            return True
        if self._check_interval_s <= 0 or self._checked_s is None:
            return False
        return self._clock.monotonic() - self._checked_s >= self._check_interval_s

    def doubt(self) -> bool:
        """Something does not fit the index: compare it at the next pass. False if there is none to be doubted."""
        if self._listing is None or self._is_doubted:
            return False
        self._is_doubted = True
        return True

    async def read(self) -> Listing | None:
        """Return what the index says, the same object as before if it did not change; None if there is none.

        Raises:
            StoreError: the store did not answer, although there was an index when it did.
        """
        try:
            return await self._read_once_more_if_changed()
        except StoreError as error:
            if self.is_trusted:
                raise
            logger.debug("the store's index cannot be read, and the store is listed: %s", error)
            return None

    async def _read_once_more_if_changed(self) -> Listing | None:
        try:
            return await self._read()
        except ObjectChangedError:  # another file took its place between two looks at it
            return await self._read()

    async def _read(self) -> Listing | None:
        content = await self._within(self._store.open(INDEX_PATH, unless=self._etag))
        if content is None:
            self._forget()
        elif content.chunks is not None:
            self._etag = content.revision.etag
            await self._take(content.chunks)
        return self._listing

    async def judge(self, offered: Snapshot) -> None:
        """Compare the index with what a listing of the same pass has shown; trust or refuse it accordingly."""
        if self._listing is None:
            return
        faults = await asyncio.to_thread(_faults, offered, self._listing.models)
        self._is_doubted = False
        self._checked_s = self._clock.monotonic()
        if not faults:
            self._refusal = ""
            return
        named = ", ".join(faults[:_NAMED]) + (", …" if len(faults) > _NAMED else "")
        self._refuse(
            f"the index differs from the store for {len(faults)} models ({named}), and the store is listed instead;"
            " run `hotset index`"
        )

    async def _take(self, chunks: AsyncIterator[bytes]) -> None:
        """Parse in slices of a millisecond: a thread would hold the interpreter for longer at a time."""
        reader = IndexReader(self._layout, known=self._listing.models if self._listing is not None else None)
        try:
            while (chunk := await self._within(anext(chunks, None))) is not None:
                await self._sliced(reader, reader.feed(chunk))
            await self._sliced(reader, reader.finish())
            listing = await asyncio.to_thread(reader.listing)
        except IndexFormatError as error:
            self._listing = None
            self._refuse(f"{error}; the store is listed instead, run `hotset index`")
            return
        except BaseException:
            self._etag = None  # it was not read to its end
            raise
        if self._checked_s is None:
            self._checked_s = self._clock.monotonic()  # the first check comes an interval from now
        self._listing = listing

    async def _sliced(self, reader: IndexReader, work: Iterator[None]) -> None:
        began_s = self._clock.monotonic()
        for number, _ in enumerate(work):
            if number % _MODELS_BETWEEN_LOOKS:
                continue
            if reader.is_behind:
                await asyncio.to_thread(reader.catch_up)
                began_s = self._clock.monotonic()
            elif self._clock.monotonic() - began_s >= SLICE_S:
                await asyncio.sleep(0)
                began_s = self._clock.monotonic()

    async def _within(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError as error:
            raise StoreError(f"the store sent nothing of its index within {self._timeout_s:g} s") from error

    def _refuse(self, reason: str) -> None:
        if reason != self._refusal:
            logger.warning("%s", reason)
        self._refusal = reason

    def _forget(self) -> None:
        self._listing = None
        self._etag = None
        self._refusal = ""
        self._is_doubted = False


def _faults(offered: Snapshot, indexed: Models) -> list[str]:
    """Return the names of which the index does not say what the store has.

    A version that has changed and not settled is offered as it was, and is none the less another by now.
    """
    changed = {key.name for key in offered.unsettled if _has(offered, key)}
    return sorted(changed.union(index_faults(offered.models, indexed)))


def _has(snapshot: Snapshot, key: ModelKey) -> bool:
    model = snapshot.models.get(key.name)
    return model is not None and model.version(key.version) is not None
