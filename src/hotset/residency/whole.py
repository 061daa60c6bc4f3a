"""Discovery of the whole store: from its index where it has one that can be trusted, else by listing it.

The sync loop makes the passes. A store that suddenly shows nothing is doubted once, whatever says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from hotset.catalog import (
    Diff,
    Layout,
    Listing,
    ListingReader,
    Settling,
    Snapshot,
    diff,
    keep_lookups,
    settle,
)
from hotset.clock import Clock
from hotset.errors import StoreError
from hotset.residency.discovery import Look, Source, SyncTarget
from hotset.residency.index_source import IndexSource
from hotset.residency.label_files import LabelFiles
from hotset.store import ObjectMeta, ObjectStore

PAGE_TIMEOUT_S: Final = 120.0
DISTRUST_S: Final = 60.0
"""What cannot be fetched makes no more than one listing in this time."""

_FEED_OBJECTS: Final = 250


class _DoubtedError(StoreError):
    """The store showed nothing where there were models; the second time it is believed."""


@dataclass(frozen=True, slots=True)
class _Settled:
    """What a listing amounts to."""

    snapshot: Snapshot
    settling: Settling
    changes: Diff


class WholeStore:
    """Owned by the sync loop. ``look`` any number of times, one after the other; the rest at any time."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        layout: Layout,
        target: SyncTarget,
        clock: Clock,
        settle_time_s: float,
        labels: LabelFiles | None = None,
        index: IndexSource | None = None,
        page_timeout_s: float = PAGE_TIMEOUT_S,
    ) -> None:
        """``labels`` None: files of labels are not read. ``index`` None: the store is listed, whatever it has."""
        self._store = store
        self._layout = layout
        self._target = target
        self._clock = clock
        self._settle_time_s = settle_time_s
        self._labels = labels
        self._index = index
        self._page_timeout_s = page_timeout_s
        self._settling = Settling()
        self._doubted = False
        self._in_force: Snapshot | None = None
        self._applied_index: Listing | None = None
        self._distrusted_s = float("-inf")

    @property
    def settling(self) -> Settling:
        """What the last listing knows of unsettled versions; a lookup settles what it finds by the same memory."""
        return self._settling

    async def look(self) -> Look:
        """Make one pass.

        Raises:
            StoreError: the store did not answer, or is not believed yet.
        """
        indexed = await self._index.read() if self._index is not None else None
        if self._index is None or indexed is None or await self._must_list(self._index, indexed):
            return await self._list()
        if indexed is self._applied_index:
            return Look(self._target.snapshot, Source.INDEX)
        settled = await self._put_in_force(indexed, self._target.snapshot, settle_time_s=0.0)
        self._applied_index = indexed
        return Look(settled.snapshot, Source.INDEX, settled.changes)

    def distrust_index(self) -> bool:
        """A version is not in the store as it was said to be. True if that makes a pass worth while.

        It does if the index said so and was not compared with the store just now.
        """
        now_s = self._clock.monotonic()
        if self._index is None or self._applied_index is None or now_s - self._distrusted_s < DISTRUST_S:
            return False
        self._distrusted_s = now_s
        return self._index.doubt()

    async def _must_list(self, index: IndexSource, indexed: Listing) -> bool:
        """Whether the index has to be compared with the store before it is used.

        So it is where it does not say what is in force from elsewhere: from the run before, or found by a lookup.
        What an index has forgotten would else be unloaded and deleted.
        """
        now = self._target.snapshot
        if now is not self._in_force and now.models:
            changes = await asyncio.to_thread(diff, now, Snapshot(indexed.models))
            if changes.removed or changes.changed or changes.relabelled:
                index.doubt()
        return index.check_is_due

    async def _list(self) -> Look:
        before, wall_s, started_s = self._target.snapshot, self._clock.wall(), self._clock.monotonic()
        reader = ListingReader(self._layout, known=before.models)
        await self._read_pages(reader)
        took_s = self._clock.monotonic() - started_s
        listing = await asyncio.to_thread(reader.finish)
        if self._labels is not None:
            listing = await self._labels.read(listing)
        settled = await self._put_in_force(
            listing,
            before,
            settle_time_s=self._settle_time_s,
            memory=self._settling,
            now_s=started_s,
            wall_s=wall_s,
            took_s=took_s,
        )
        # Only now: what settled in a pass that is not applied must not be forgotten.
        self._settling = settled.settling
        self._applied_index = None
        note = ""
        if self._index is not None:
            await self._index.judge(settled.snapshot)
            note = self._index.refusal
        return Look(settled.snapshot, Source.LISTING, settled.changes, note)

    async def _put_in_force(
        self,
        listing: Listing,
        before: Snapshot,
        *,
        settle_time_s: float,
        memory: Settling | None = None,
        now_s: float = 0.0,
        wall_s: float = 0.0,
        took_s: float = 0.0,
    ) -> _Settled:
        previous = self._target.snapshot
        self._doubt(listing, previous)

        def conclude() -> _Settled:
            settled, settling = settle(
                listing,
                memory or Settling(),
                previous,
                now_s=now_s,
                wall_s=wall_s,
                settle_time_s=settle_time_s,
                took_s=took_s,
            )
            snapshot = keep_lookups(settled, before=before, now=previous)
            return _Settled(snapshot, settling, diff(previous, snapshot))

        settled = await asyncio.to_thread(conclude)
        snapshot = keep_lookups(settled.snapshot, before=previous, now=self._target.snapshot)
        await self._target.apply(snapshot)
        self._in_force = snapshot
        return _Settled(snapshot, settled.settling, settled.changes)

    async def _read_pages(self, reader: ListingReader) -> None:
        await self._feed(reader, self._store.list())
        while scattered := reader.take_scattered():
            for name in scattered:
                await self._feed(reader, self._store.list(f"{name}/"))

    async def _feed(self, reader: ListingReader, pages: AsyncIterator[Sequence[ObjectMeta]]) -> None:
        """Feed on the loop, in parts of about a millisecond: a thread would hold the interpreter for longer."""
        try:
            while (page := await self._next(pages)) is not None:
                for start in range(0, len(page), _FEED_OBJECTS):
                    reader.feed(page[start : start + _FEED_OBJECTS])
                    await asyncio.sleep(0)
                if reader.is_behind:
                    await asyncio.to_thread(reader.catch_up)
        finally:
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()

    async def _next(self, pages: AsyncIterator[Sequence[ObjectMeta]]) -> Sequence[ObjectMeta] | None:
        try:
            async with asyncio.timeout(self._page_timeout_s):
                return await anext(pages, None)
        except TimeoutError as error:
            raise StoreError(
                f"the store sent no page of its listing within {self._page_timeout_s:g} s"
            ) from error

    def _doubt(self, listing: Listing, previous: Snapshot) -> None:
        doubted, self._doubted = self._doubted, not listing.models and bool(previous.models)
        if self._doubted and not doubted:
            raise _DoubtedError(
                f"the store lists no models where there were {len(previous.models)}; "
                "they are served on until the next pass says the same"
            )
