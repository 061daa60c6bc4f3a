"""What the store offers, as far as it is known: words become versions, and what changed in the store takes effect.

The manager asks it what a request means, and the sync loop hands it each new snapshot. It decides nothing about room, and
loads nothing itself: what is newer and used is loaded ahead by ``rollover``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from hotset.catalog import Catalog, Diff, Models, Snapshot, VersionEntry, diff, without
from hotset.clock import Clock
from hotset.errors import ErrorKind, InvalidInputError, LoadingError, UnavailableError
from hotset.events import Cause
from hotset.keys import LATEST, Fingerprint, ModelKey, ModelRef
from hotset.residency.arrival import Occupant
from hotset.residency.failures import Failures
from hotset.residency.lookup import Lookup
from hotset.residency.quarantine import Quarantine
from hotset.residency.reload import Reload
from hotset.residency.rollover import Rollover
from hotset.tiers.disk import DiskTier
from hotset.tiers.memory import MemoryTier
from hotset.tiers.record import DiskRecord

LOOK_AGAIN_LIMIT_S: Final = 2.0
"""So long a request waits to hear whether what is on disk is still the newest; then it is answered by that."""

STEP: Final = 100
"""Changes that are followed in one turn of the loop."""


class Offer:
    """Owned by the event loop. ``apply`` one at a time; ``resolve`` at any time; ``close`` last."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        disk: DiskTier,
        memory: MemoryTier[Occupant],
        lookup: Lookup | None,
        rollover: Rollover,
        reload: Reload,
        failures: Failures,
        ahead: Failures,
        quarantine: Quarantine,
        clock: Clock,
        is_static: bool,
    ) -> None:
        """``lookup`` None means that a name which is not in the catalog is not looked for in the store.

        ``failures`` are forgotten with the files that failed, those of ``ahead`` once the store has answered.
        """
        self._catalog = catalog
        self._disk = disk
        self._memory = memory
        self._lookup = lookup
        self._rollover = rollover
        self._reload = reload
        self._failures = failures
        self._ahead = ahead
        self._quarantine = quarantine
        self._clock = clock
        self._is_static = is_static
        self._has_snapshot = asyncio.Event()
        self._applied = 0
        self._found: set[str] = set()

    def is_stale(self, name: str) -> bool:
        """Whether what is known of a model should be looked at again before anything of it is loaded."""
        return self._lookup is not None and self._lookup.is_stale(name)

    # What a request means

    async def resolve(self, ref: ModelRef, *, deadline_s: float) -> VersionEntry:
        """Return the version that a word means in the store now, which is looked for there if need be.

        Raises:
            NotFoundError, InvalidInputError (a version of a static model), StoreError, LoadingError
        """
        if self._is_static and ref.version != LATEST:
            raise InvalidInputError(
                f"model {ref.name!r} is in a static list and has no versions; ask without one, found: {ref.version}",
                kind=ErrorKind.VERSION_NOT_ALLOWED,
            )
        version = self._rollover.offered(ref)
        if version is None and self._lookup is not None:
            await self._look_up(ref.name, deadline_s)
            version = self._rollover.offered(ref)
        elif self._lookup is not None and self._lookup.is_stale(ref.name):
            await self._look_again(ref.name, deadline_s)
            version = self._rollover.offered(ref)
        if version is None and not self._has_snapshot.is_set():
            raise LoadingError("the store was not listed yet; try again")
        return version if version is not None else self._catalog.resolve(ref)

    async def look_afresh(self, name: str, *, deadline_s: float) -> None:
        """Have the catalog know what the store has of a model now, as somebody says that it is another than before.

        Not for long; a store that is away changes nothing.
        """
        if self._lookup is not None:
            await self._look_again(name, deadline_s, afresh=True)

    async def _look_again(self, name: str, deadline_s: float, *, afresh: bool = False) -> None:
        """What is known of a model is old: look at it again, but not for long; a store that is away changes nothing."""
        soon_s = min(deadline_s, self._clock.monotonic() + LOOK_AGAIN_LIMIT_S)
        try:
            is_there = await self._look_up(name, soon_s, afresh=afresh)
        except UnavailableError:
            return
        if not is_there:
            # It says that there is no such model. The next pass takes it out.
            Snapshot().resolve(ModelRef(name))

    async def _look_up(self, name: str, deadline_s: float, *, afresh: bool = False) -> bool:
        """Look for a model in the store, and put what is found into the catalog. False: there is none."""
        assert self._lookup is not None
        applied = self._applied
        try:
            async with asyncio.timeout(max(0.0, deadline_s - self._clock.monotonic())):
                found = await self._lookup.look(name, afresh=afresh)
        except TimeoutError as error:
            raise LoadingError(f"the store is still being asked for model {name!r}; try again") from error
        known = self._catalog.model(name)
        if found is None or found == known or (known is not None and applied != self._applied):
            return found is not None  # a pass that came meanwhile has seen the store later than the lookup
        self._catalog.add(found)
        self._found.add(name)
        before = Snapshot(Models.of({name: known}) if known is not None else Models())
        self._follow(diff(before, Snapshot(Models.of({name: found}))))
        return True

    # The store moves on

    @property
    def snapshot(self) -> Snapshot:
        return self._catalog.snapshot

    async def apply(self, snapshot: Snapshot) -> None:
        """Put a new snapshot in force; unload what is gone, load newer versions ahead where they are used.

        What follows is done in small steps, with others' turns in between, however much has changed.
        """
        before = self._catalog.snapshot
        on_disk = self._disk.each_record() if self._has_snapshot.is_set() else ()
        self._catalog.apply(snapshot)
        self._has_snapshot.set()
        self._applied += 1
        self._ahead.forget_all()  # the store has just answered
        self._found.clear()
        if self._lookup is not None:
            self._lookup.forget()
        changes, orphans = await asyncio.to_thread(_compare, before, snapshot, on_disk)
        for part in _in_steps(changes):
            self._follow(part)
            await asyncio.sleep(0)
        for number, name in enumerate(self._rollover.outdated):
            self._follow_name(name)
            if number % STEP == STEP - 1:
                await asyncio.sleep(0)
        for number, fingerprint in enumerate(orphans):
            if fingerprint not in self._fingerprints_found():
                self._disk.evict(fingerprint, Cause.DELETED)  # what is in memory goes once it was unloaded
            if number % STEP == STEP - 1:
                await asyncio.sleep(0)

    def _follow(self, changes: Diff) -> None:
        """Unload what is gone, and load ahead what is newer and used."""
        for key in (*changes.removed, *changes.changed):
            self._failures.forget(key)
            self._quarantine.forget(key)
        self._reload.forget(changes.removed)
        for key in changes.removed:
            if self._catalog.version(key) is None:  # else a lookup has found it again
                self._memory.evict(key, Cause.DELETED)
                self._rollover.forget_served(key.name)
        for key in changes.relabelled:
            self._rollover.labels.forget_gone(key.name, self._catalog.model(key.name))
        moved = (*changes.latest_changed, *changes.relabelled)
        touched = {key.name for key in (*changes.removed, *changes.changed, *moved)}
        for name in touched:
            if self._memory.entries_of(name) or self._rollover.is_outdated(name):
                self._follow_name(name)

    def _follow_name(self, name: str) -> None:
        self._rollover.follow(name)
        self._rollover.load_ahead(name)

    def _fingerprints_found(self) -> set[Fingerprint]:
        """Return the fingerprints of what lookups have found since the last snapshot was put in force."""
        models = (self._catalog.model(name) for name in self._found)
        return {version.fingerprint for model in models if model is not None for version in model.versions}

    async def close(self) -> None:
        """End what is being looked for in the store."""
        if self._lookup is not None:
            await self._lookup.close()


def _compare(before: Snapshot, now: Snapshot, on_disk: Iterable[DiskRecord]) -> tuple[Diff, set[Fingerprint]]:
    """Return what changed, and what is on disk although no version has it. Runs in a thread."""
    gone = {record.fingerprint for record in on_disk if not _offers(now, record)}
    return diff(before, now), without(gone, now.models)


def _offers(snapshot: Snapshot, record: DiskRecord) -> bool:
    """Whether the version that a record was written for is still there; another one may have the same files."""
    model = snapshot.models.get(record.key.name)
    version = model.version(record.key.version) if model is not None else None
    return version is not None and version.fingerprint == record.fingerprint


def _in_steps(changes: Diff) -> Iterator[Diff]:
    """Yield the changes in parts of which each takes about a millisecond to follow."""
    for removed in _parts(changes.removed):
        yield Diff(removed=removed)
    for changed in _parts(changes.changed):
        yield Diff(changed=changed)
    for latest_changed in _parts(changes.latest_changed):
        yield Diff(latest_changed=latest_changed)
    for relabelled in _parts(changes.relabelled):
        yield Diff(relabelled=relabelled)


def _parts(keys: Iterable[ModelKey]) -> Iterator[list[ModelKey]]:
    waiting = iter(keys)
    while part := [*islice(waiting, STEP)]:
        yield part
