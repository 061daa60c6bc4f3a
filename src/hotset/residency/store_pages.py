"""Pages of models straight from the store, for a replica that knows only what was asked for.

The front asks for them. A page costs the store about one request for a thousand objects in it, whatever the number of
models, and nothing of it is remembered. Models come in the store's own order, which is nearly that of their names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hotset.catalog import Layout, ListingReader, ModelEntry, Settling, Snapshot, settle
from hotset.catalog.by_model import ByModel
from hotset.clock import Clock
from hotset.errors import LoadingError
from hotset.store import ObjectMeta, ObjectStore

MOST_REQUESTS: Final = 20
"""A page ends after so many requests, if it has any model by then."""

MOST_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class StorePage:
    """Some models; ``next`` is the ``after`` of the page that follows, None on the last one."""

    models: tuple[ModelEntry, ...]
    next: str | None = None


class StorePages:
    """Owned by the event loop. Any number of ``page`` at once; they wait for each other."""

    def __init__(self, *, store: ObjectStore, layout: Layout, clock: Clock, settle_time_s: float) -> None:
        self._store = store
        self._layout = layout
        self._clock = clock
        self._settle_time_s = settle_time_s
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    async def page(
        self,
        known: Mapping[str, ModelEntry],
        *,
        prefix: str,
        limit: int,
        after: str,
        deadline_s: float,
    ) -> StorePage:
        """Return at most ``limit`` models whose names begin with ``prefix``, behind ``after``.

        ``known`` models are returned as they are known; the others as far as they have settled by their dates.

        Raises:
            StoreError: the store did not answer, or refused.
            LoadingError: the deadline has passed.
        """
        try:
            async with asyncio.timeout(max(0.0, deadline_s - self._clock.monotonic())), self._slots:
                return await self._page(known, prefix, limit, after)
        except TimeoutError as error:
            raise LoadingError(
                "the store is still being listed; try again, or ask for fewer models"
            ) from error

    async def _page(self, known: Mapping[str, ModelEntry], prefix: str, limit: int, after: str) -> StorePage:
        found: list[ModelEntry] = []
        last, requests = after, 0
        models = ByModel(self._layout)
        pages = self._store.scan(prefix, behind=after)
        try:
            async for page in pages:
                requests += 1
                for name, objects in models.feed(page):
                    last = name
                    found += self._entries(name, objects, known)
                    if len(found) == limit:
                        return StorePage(tuple(found), last)
                if requests >= MOST_REQUESTS and last != after:
                    return StorePage(tuple(found), last)
        finally:
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()
        for name, objects in models.rest():
            found += self._entries(name, objects, known)
        return StorePage(tuple(found))

    def _entries(
        self, name: str, objects: Sequence[ObjectMeta], known: Mapping[str, ModelEntry]
    ) -> Sequence[ModelEntry]:
        entry = known.get(name)
        if entry is None:
            reader = ListingReader(self._layout)
            reader.feed(objects)
            snapshot, _ = settle(
                reader.finish(),
                Settling(),
                Snapshot(),
                now_s=self._clock.monotonic(),
                wall_s=self._clock.wall(),
                settle_time_s=self._settle_time_s,
            )
            entry = snapshot.models.get(name)
        return [entry] if entry is not None else []
