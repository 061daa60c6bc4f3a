"""One model looked for in the store: its objects are listed, and what of it has settled is its entry.

For names that are not in the catalog, and for the passes of ``on_demand``. It remembers nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hotset.catalog import Layout, ListingReader, ModelEntry, Models, Settling, Snapshot, settle
from hotset.clock import Clock
from hotset.errors import InvalidInputError, StoreError
from hotset.keys import parse_name
from hotset.residency.label_files import LabelFiles
from hotset.store import ObjectStore

LOOK_TIMEOUT_S: Final = 120.0


class Finder:
    """Owned by the event loop. Any number of ``find`` at once."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        layout: Layout,
        clock: Clock,
        settle_time_s: float,
        labels: LabelFiles | None = None,
        timeout_s: float = LOOK_TIMEOUT_S,
    ) -> None:
        """``labels`` None: files of labels are not read."""
        self._store = store
        self._labels = labels
        self._layout = layout
        self._clock = clock
        self._settle_time_s = settle_time_s
        self._timeout_s = timeout_s

    async def find(
        self, name: str, *, known: ModelEntry | None, memory: Settling
    ) -> tuple[ModelEntry | None, Settling]:
        """Return the model as the store has it now, or None, and what is to be remembered of what has not settled.

        ``known``: as it is in the catalog; ``memory``: of the look before, or of the listing that did not show it.

        Raises:
            StoreError: the store did not answer, or refused.
        """
        try:
            parse_name(name, depth=self._layout.name_depth)
        except InvalidInputError:
            return None, memory
        now_s, wall_s = self._clock.monotonic(), self._clock.wall()
        models = Models.of({name: known} if known is not None else {})
        reader = ListingReader(self._layout, known=models)
        try:
            async with asyncio.timeout(self._timeout_s):
                async for page in self._store.list(f"{name}/"):
                    reader.feed(page)
        except TimeoutError as error:
            raise StoreError(f"the store did not list {name!r} within {self._timeout_s:g} s") from error
        listing = reader.finish()
        if self._labels is not None:
            listing = await self._labels.read(listing)
        snapshot, settling = settle(
            listing,
            memory,
            Snapshot(models),
            now_s=now_s,
            wall_s=wall_s,
            settle_time_s=self._settle_time_s,
            took_s=self._clock.monotonic() - now_s,
        )
        return snapshot.models.get(name), settling
