"""Discovery of what is asked for: nothing is listed but models that are in a tier, or that somebody has named.

For stores of so many models that listing them all costs too much. A name is looked for when it is asked for; each pass
of the sync loop looks at the models in memory, and at those that are only on disk in turn. So what it costs follows
the working set, however many models the store has. A model that is in no tier any more is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from hotset.catalog import Layout, ListingReader, ModelEntry, Reject, Settling, Snapshot, diff
from hotset.catalog.models import Draft
from hotset.clock import Clock
from hotset.errors import StoreError
from hotset.residency.discovery import Look, Source, SyncTarget
from hotset.residency.finder import Finder
from hotset.residency.working_set import LeftBehind, Seen, WorkingSet, due, last_s, left_behind
from hotset.store import ObjectStore

PARALLEL: Final = 16
MOST_FAILURES: Final = 16
"""After so many failures a pass is given up: the store is away, and each look may wait for long."""

PAGE_TIMEOUT_S: Final = 120.0
UNSETTLED_KEPT_S: Final = 600.0


class _Found(NamedTuple):
    """What a pass saw of a model (None: it is gone), and when it began to look."""

    entry: ModelEntry | None
    at_s: float


class OnDemand:
    """Owned by the event loop. ``find`` and ``is_stale`` at any time, ``look`` one after the other."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        layout: Layout,
        target: SyncTarget,
        finder: Finder,
        clock: Clock,
        working_set: Callable[[], WorkingSet],
        interval_s: float,
        parallel: int = PARALLEL,
    ) -> None:
        """``interval_s`` is how old what is known of a model may be when it is loaded; 0: however old."""
        self._store = store
        self._layout = layout
        self._target = target
        self._finder = finder
        self._clock = clock
        self._working_set = working_set
        self._interval_s = interval_s
        self._parallel = parallel
        self._seen: dict[str, Seen] = {}
        self._asked: set[str] = set()
        self._doubted = False
        self._is_degraded = False

    def is_stale(self, name: str) -> bool:
        """Whether a model should be looked at again before it is loaded. Never while the store is away."""
        if self._interval_s <= 0 or self._is_degraded:
            return False
        return self._clock.monotonic() - last_s(self._seen, name) > self._interval_s

    def distrust(self, name: str) -> None:
        """A version of this model is not in the store as it was seen: look again before the next load."""
        last = self._seen.get(name)
        if last is not None:
            self._seen[name] = replace(last, at_s=float("-inf"))

    async def find(self, name: str) -> ModelEntry | None:
        """Look for one model that was asked for. One that is found is kept at least until the next pass but one.

        Raises:
            StoreError: the store did not answer, or refused.
        """
        entry = (await self._see(name, self._target.snapshot.models.get(name))).entry
        if entry is not None:
            self._asked.add(name)
        return entry

    async def look(self) -> Look:
        """Look at the working set and put what was found in force.

        Raises:
            StoreError: the store did not answer; or it is not believed yet.
        """
        asked, self._asked = self._asked, set()
        try:
            look = await self._pass(asked)
        except BaseException:
            self._asked |= asked
            self._is_degraded = True
            raise
        self._is_degraded = False
        return look

    async def _pass(self, asked: set[str]) -> Look:
        known = self._target.snapshot.models
        names = await asyncio.to_thread(due, self._working(asked), dict(self._seen), known)
        found, failures = await self._see_all(names, known)
        rejects = () if names else await self._sample()
        self._doubt(found, known)
        if any(name not in found and name not in known for name in names):
            raise failures[0]  # what is on disk of a model of which nothing is known would be deleted
        left = await asyncio.to_thread(
            left_behind,
            self._working(asked),
            dict(self._seen),
            self._target.snapshot.models,
            oldest_s=self._clock.monotonic() - UNSETTLED_KEPT_S,
        )
        before = self._target.snapshot
        await self._target.apply(self._composed(found, left, asked, rejects))
        changes = await asyncio.to_thread(diff, before, self._target.snapshot)
        for name in left.seen:
            if name not in self._asked:
                self._seen.pop(name, None)
        note = (
            f"{len(failures)} of {len(names)} models could not be looked at: {failures[0]}"
            if failures
            else ""
        )
        return Look(self._target.snapshot, Source.LOOKUPS, changes, note)

    def _working(self, asked: set[str]) -> WorkingSet:
        working = self._working_set()
        return WorkingSet({*working.hot, *asked, *self._asked}, working.cold)

    async def _see_all(
        self, names: Sequence[str], known: Mapping[str, ModelEntry]
    ) -> tuple[dict[str, _Found], list[StoreError]]:
        """Look at many models side by side; a failure costs only its own model, too many of them the rest."""
        waiting: Iterator[str] = iter(names)
        found: dict[str, _Found] = {}
        failures: list[StoreError] = []

        async def work() -> None:
            for name in waiting:
                if len(failures) >= MOST_FAILURES:
                    return
                try:
                    found[name] = await self._see(name, known.get(name))
                except StoreError as error:
                    failures.append(error)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._parallel, len(names))):
                group.create_task(work())
        if failures and len(failures) >= min(len(names), MOST_FAILURES):
            raise failures[0]
        return found, failures

    async def _see(self, name: str, known: ModelEntry | None) -> _Found:
        last = self._seen.get(name)
        now_s = self._clock.monotonic()
        entry, settling = await self._finder.find(
            name, known=known, memory=last.settling if last is not None else Settling()
        )
        if entry is not None or settling.sightings:
            self._seen[name] = Seen(now_s, settling)
        else:
            self._seen.pop(name, None)
        return _Found(entry, now_s)

    async def _sample(self) -> Sequence[Reject]:
        """Ask the store for one page, to know that it answers; return what does not fit if nothing in it does."""
        reader = ListingReader(self._layout)
        pages = self._store.scan()
        try:
            async with asyncio.timeout(PAGE_TIMEOUT_S):
                page = await anext(aiter(pages), ())
        except TimeoutError as error:
            raise StoreError(f"the store sent no page of its listing within {PAGE_TIMEOUT_S:g} s") from error
        finally:
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()
        reader.feed(page)
        reader.take_scattered()
        listing = reader.finish()
        return () if listing.models else listing.rejects

    def _composed(
        self, found: Mapping[str, _Found], left: LeftBehind, asked: set[str], rejects: Sequence[Reject]
    ) -> Snapshot:
        """What is in force now, with what the pass found, and without what nobody uses.

        Nothing is awaited between this and the moment in which it is in force, and it looks only at what changes.
        """
        models = Draft(self._target.snapshot.models)
        for name, (entry, at_s) in found.items():
            seen = self._seen.get(name)
            if seen is None or seen.at_s <= at_s:  # else a lookup has seen the store later than the pass
                models.set(name, entry)
        working = self._working(asked)
        for name in left.models:
            if name not in working.hot and name not in working.cold:
                models.set(name, None)
        return Snapshot(models.done(), tuple(rejects), 0, left.unsettled)

    def _doubt(self, found: Mapping[str, _Found], known: Collection[str]) -> None:
        """A store that shows nothing of all that was there is doubted once."""
        gone = [name for name, (entry, _) in found.items() if entry is None and name in known]
        doubted, self._doubted = self._doubted, bool(gone) and len(gone) == len(found)
        if self._doubted and not doubted:
            raise StoreError(
                f"the store shows none of the {len(gone)} models that are in use;"
                " they are served on until the next pass says the same"
            )
