"""When the store has something newer than memory: what ``latest`` and labels mean, and what is loaded ahead.

The manager asks it after every arrival, every lookup and every new snapshot. A word moves in one step, and only
to a version that is in memory; until then the one that answered goes on answering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from hotset.catalog import Catalog, ModelEntry, VersionEntry
from hotset.clock import Clock
from hotset.events import Cause, EventBus, LatestMoved
from hotset.keys import LATEST, ModelKey, ModelRef
from hotset.residency.ahead import Step, is_same, next_step
from hotset.residency.arrival import Occupant
from hotset.residency.failures import Failures
from hotset.residency.label_moves import LabelMoves
from hotset.tiers.memory import MemoryTier


class Rollover:
    """Owned by the event loop."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        memory: MemoryTier[Occupant],
        failures: Failures,
        start_load: Callable[[VersionEntry], object],
        clock: Clock,
        events: EventBus,
    ) -> None:
        """``start_load`` begins a load in the background, unless it failed lately."""
        self._catalog = catalog
        self._memory = memory
        self._failures = failures
        self._start_load = start_load
        self._clock = clock
        self._events = events
        self._outdated: set[str] = set()
        self._newest_served: dict[str, int] = {}
        self.labels: Final = LabelMoves(
            memory=memory, failures=failures, clock=clock, events=events, supersede=self._supersede
        )

    @property
    def outdated(self) -> frozenset[str]:
        """The models of which something in memory is not what the store has now."""
        return frozenset(self._outdated)

    def is_outdated(self, name: str) -> bool:
        """Whether something of this model is answered by an older version or older files than the store has."""
        return name in self._outdated

    def holds(self, version: VersionEntry) -> bool:
        """Whether these very files are in memory."""
        entry = self._memory.entry(version.key)
        return entry is not None and entry.value.version.fingerprint == version.fingerprint

    def offered(self, ref: ModelRef) -> VersionEntry | None:
        """Return what a word means in the catalog now, or None."""
        model = self._catalog.model(ref.name)
        if model is None:
            return None
        if ref.version == LATEST:
            return self._newest(model)
        if isinstance(ref.version, str):
            return self.labels.offered(model, ref.version)
        return model.version(ref.version)

    def fallback(self, ref: ModelRef, failed: ModelKey) -> VersionEntry | None:
        """Return the version that answers for ``latest`` or a label where ``failed`` could not be loaded, or None."""
        older = self.offered(ref) if isinstance(ref.version, str) else None
        if older is None or older.key == failed:
            return None
        return older if ref.version != LATEST or older.key < failed else None

    def earlier(self, ref: ModelRef, failed: ModelKey) -> Iterator[VersionEntry]:
        """Yield what may answer for a word where ``failed`` cannot be fetched now, the best first."""
        model = self._catalog.model(ref.name)
        if model is None or not isinstance(ref.version, str):
            return
        if ref.version != LATEST:
            before = self.labels.before(model, ref.version)
            if before is not None and before.key != failed:
                yield before
            return
        for version in reversed(model.versions):
            if version.key < failed and self._not_older_than_served(version.key):
                yield version

    def _not_older_than_served(self, key: ModelKey) -> bool:
        """Whether answering ``latest`` by this version would not go back behind what this process has answered."""
        return key.version >= self._newest_served.get(key.name, 0)

    def forget_served(self, name: str) -> None:
        """The model, or its newest version, was deleted: going back is right now."""
        self._newest_served.pop(name, None)
        self.labels.forget_gone(name, self._catalog.model(name))

    def _note_served(self, key: ModelKey) -> None:
        self._newest_served[key.name] = max(key.version, self._newest_served.get(key.name, 0))

    def follow(self, name: str) -> None:
        """Let words mean what the store says, if that is in memory, and note whether the store has something newer."""
        model = self._catalog.model(name) if self._memory.has_any_of(name) else None
        if model is None:
            self._outdated.discard(name)
            return
        labelled = model.labels is not None or bool(self._memory.labels_of(name))
        if labelled:
            self.labels.follow(model)
        newest = self._newest(model)
        if self.holds(newest):
            self._point_latest(newest.key)
            if newest is model.latest and not labelled and self._memory.has_only(newest.key):
                self._outdated.discard(name)
                return
        if any(True for _ in self._all_steps(model)):
            self._outdated.add(name)
        else:
            self._outdated.discard(name)

    def answered(self, ref: ModelRef, key: ModelKey) -> None:
        """``ref`` was answered by ``key``. If that was ``latest``, it goes on until the newest is in memory.

        The store may have got a newer version while this one was loaded; else the next request would wait again.
        """
        if ref.version != LATEST:
            if isinstance(ref.version, str):
                self._label_answered(ref, key)
            return
        if self._memory.serving_latest(key.name) is not None:
            return
        version = self._catalog.version(key)
        if version is not None and self.holds(version):
            self._memory.point_latest(key)
            self._note_served(key)
            self.follow(key.name)

    def _label_answered(self, ref: ModelRef, key: ModelKey) -> None:
        model = self._catalog.model(key.name)
        if model is None or model.version(key.version) is None or self._memory.entry(key) is None:
            return
        if self.labels.answered(model, ref, key):
            self.follow(key.name)

    def load_ahead(self, name: str) -> None:
        """Load what is newer in the store where the one in memory is used enough."""
        model = self._catalog.model(name)
        for step, wanted in list(self._all_steps(model)) if model is not None else ():
            if step is Step.LOAD:
                self._start_load(wanted)

    def load_newer(self, ref: ModelRef) -> None:
        """Somebody used a word of an outdated model: load what it means in the store."""
        wanted = self.offered(ref)
        if wanted is not None and not self.holds(wanted):
            self._start_load(wanted)

    def _newest(self, model: ModelEntry) -> VersionEntry:
        """The newest version that did not fail lately, so that a bad one takes nothing down.

        What has been answered already and finds no room for now, as the disk is full, is waited for: nobody is to go back for that.
        """
        if not self._failures:
            return model.latest
        now_s = self._clock.monotonic()
        for version in reversed(model.versions):
            failure = self._failures.get(version.key, version.fingerprint)
            if failure is None or failure.retry_at_s <= now_s:
                return version
            if failure.is_capacity and version.key.version == self._newest_served.get(model.name):
                return version
        return model.latest

    def _point_latest(self, key: ModelKey) -> None:
        previous = self._memory.serving_latest(key.name)
        if previous == key:
            return
        self._memory.point_latest(key)
        self._note_served(key)
        if previous is None:
            return
        self._events.publish(LatestMoved(key.name, key.version, previous.version))
        if self._memory.entry_used_s(previous) is None:
            self._supersede(previous, key)

    def _supersede(self, previous: ModelKey, key: ModelKey) -> None:
        """Nobody asks for the old one by its number: it goes, and what was pinned as latest is pinned on."""
        if any(entry.key == previous and entry.pinned for entry in self._memory.entries_of(key.name)):
            self._memory.pin(key, pinned=True)
        self._memory.evict(previous, Cause.SUPERSEDED)

    def _all_steps(self, model: ModelEntry) -> Iterator[tuple[Step, VersionEntry]]:
        yield from self._steps(model)
        yield from self.labels.steps(model)

    def _steps(self, model: ModelEntry) -> Iterator[tuple[Step, VersionEntry]]:
        """For each number, and ``latest``, that is answered from memory by another version or other files than the store has: what to do."""
        for entry in self._memory.entries_of(model.name):
            is_latest = self._memory.serving_latest(model.name) == entry.key
            wanted = model.latest if is_latest else model.version(entry.key.version)
            if wanted is None or is_same(entry.value.version, wanted):
                continue
            step = next_step(
                serving=entry.value.version,
                wanted=wanted,
                used_s=self._memory.last_used_s(ModelRef(model.name))
                if is_latest
                else self._memory.entry_used_s(entry.key),
                oldest_used_s=self._memory.oldest_used_s(),
                has_room=self._memory.has_room(entry.weight),
            )
            yield step, wanted
