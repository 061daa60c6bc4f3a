"""What the server shows of its models and of itself: read from the manager's parts at the moment it is asked for.

Reads only. The front calls it for the status routes and the metrics page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hotset.catalog import ModelEntry, VersionEntry
from hotset.clock import Clock
from hotset.devices import name_of
from hotset.keys import ModelRef
from hotset.residency.arrival import MemoryEntry
from hotset.residency.failures import Failure
from hotset.residency.manager import Manager
from hotset.residency.state import Facts, Phase, State, state_of
from hotset.status import (
    CatalogStatus,
    DeviceStatus,
    LabelStatus,
    MemoryStatus,
    ModelPage,
    ModelStatus,
    Readiness,
    RejectStatus,
    ServerStatus,
    SyncStatus,
    TierStatus,
    VersionState,
    VersionStatus,
)
from hotset.tiers.ledger import LedgerStatistics

EXAMPLES = 20

_INDEX_STATES = {
    State.LOADED: VersionState.READY,
    State.FETCHING: VersionState.LOADING,
    State.LOADING: VersionState.LOADING,
    State.UNLOADING: VersionState.UNLOADING,
}
_REASONS = {
    State.ON_STORE: "not in memory; the next request fetches and loads it",
    State.ON_DISK: "not in memory; the next request loads it from disk",
    State.FETCHING: "being fetched from the store",
    State.LOADING: "being loaded",
    State.UNLOADING: "being unloaded",
}


class View:
    """Owned by the event loop."""

    def __init__(
        self,
        manager: Manager,
        *,
        clock: Clock,
        version: str,
        store_url: str,
        sync: Callable[[], SyncStatus],
        readiness: Callable[[], Readiness],
        real_memory: Callable[[], MemoryStatus | None] = lambda: None,
    ) -> None:
        self._manager = manager
        self._clock = clock
        self._version = version
        self._store_url = store_url
        self._sync = sync
        self._readiness = readiness
        self._real_memory = real_memory
        self._started_s = clock.monotonic()

    def models(self, *, prefix: str, limit: int, after: str) -> ModelPage:
        """Return at most ``limit`` models whose names start with ``prefix`` and sort behind ``after``."""
        models = self._manager.catalog.snapshot.models
        page: list[ModelStatus] = []
        for name in models.names_from(max(prefix, after)):
            if not name.startswith(prefix):
                break
            if len(page) == limit:
                return ModelPage(tuple(page), next=page[-1].name)
            if name != after:
                page.append(self.model(models[name]))
        return ModelPage(tuple(page))

    def model(self, model: ModelEntry) -> ModelStatus:
        memory = self._manager.memory
        serving = memory.serving_latest(model.name)
        return ModelStatus(
            name=model.name,
            latest=model.latest.key.version,
            serving=serving.version if serving is not None else None,
            last_used_s=self._age(memory.last_used_s(ModelRef(model.name))),
            versions=tuple(self._version_status(version) for version in model.versions),
            labels=tuple(self._labels(model)),
            labels_problem=model.labels.problem if model.labels is not None else "",
        )

    def _labels(self, model: ModelEntry) -> Iterator[LabelStatus]:
        memory = self._manager.memory
        for label, number in model.labels.targets if model.labels is not None else ():
            ref = ModelRef(model.name, label)
            serving, offered = memory.serving(ref), self._manager.rollover.offered(ref)
            means = serving.version if serving is not None else offered.key.version if offered else None
            yield LabelStatus(
                label=label,
                version=number,
                means=means,
                serving=serving.version if serving is not None else None,
                last_used_s=self._age(memory.last_used_s(ref)),
                reason=self._why_not(model, number) if means != number else "",
            )

    def _why_not(self, model: ModelEntry, number: int) -> str:
        """Why a label does not mean the version that the store gives it."""
        version = model.version(number)
        if version is None:
            return f"the store has no version {number}, or it has not settled yet"
        failure = self._manager.failures.get(version.key, version.fingerprint)
        if failure is not None:
            return f"{version.key} could not be loaded: {failure.reason}"
        return f"{version.key} is not in memory yet"

    def server(self) -> ServerStatus:
        return ServerStatus(
            version=self._version,
            uptime_s=self._clock.monotonic() - self._started_s,
            readiness=self._readiness(),
            catalog=self._catalog(),
            sync=self._sync(),
            tiers=tuple(self._tiers()),
            workers=self._manager.pool.statuses(),
            memory=self._real_memory(),
        )

    def _catalog(self) -> CatalogStatus:
        snapshot = self._manager.catalog.snapshot
        return CatalogStatus(
            store=self._store_url,
            models=len(snapshot.models),
            versions=snapshot.models.version_count,
            unsettled=len(snapshot.unsettled),
            rejects=len(snapshot.rejects) + snapshot.rejects_left_out,
            examples=tuple(RejectStatus(it.path, it.reason) for it in snapshot.rejects[:EXAMPLES]),
        )

    def _tiers(self) -> Iterator[TierStatus]:
        memory = self._manager.memory.statistics()
        pinned = sum(1 for entry in self._manager.memory.entries() if entry.pinned)
        yield _tier("memory", memory.ledger, memory.leases, pinned, self._age(memory.oldest_used_s))
        disk = self._manager.disk.statistics()
        yield _tier("disk", disk.ledger, 0, 0, self._age(disk.oldest_used_s))

    def _version_status(self, version: VersionEntry) -> VersionStatus:
        manager, key = self._manager, version.key
        entry = manager.memory.find(ModelRef(*key))
        record = manager.disk.lookup(version.fingerprint)
        failure = manager.failures.get(key, version.fingerprint)
        state = state_of(self._facts(version, entry, on_disk=record is not None, failure=failure))
        places = (entry, *entry.copies) if entry is not None else ()
        return VersionStatus(
            name=key.name,
            version=key.version,
            state=_INDEX_STATES.get(state, VersionState.UNAVAILABLE),
            tier="memory" if entry is not None else "disk" if record is not None else "store",
            store_bytes=version.bytes,
            disk_bytes=record.bytes if record is not None else 0,
            memory_bytes=sum(place.weight.bytes for place in places),
            device_bytes=sum(sum(place.weight.device_bytes) for place in places),
            last_used_s=self._age(manager.memory.entry_used_s(key)),
            leases=sum(place.holds for place in places),
            pinned=entry.pinned if entry is not None else False,
            copies=len(places[1:]),
            reason=failure.reason if failure is not None else _REASONS.get(state, ""),
            failure=failure.kind if failure is not None else None,
            retry_in_s=max(0.0, failure.retry_at_s - self._clock.monotonic()) if failure else None,
        )

    def _facts(
        self, version: VersionEntry, entry: MemoryEntry | None, *, on_disk: bool, failure: Failure | None
    ) -> Facts:
        flight = self._manager.flights.get(version.key)
        first = Phase.LOADING if on_disk else Phase.FETCHING
        return Facts(
            in_memory=entry is not None,
            leaving_memory=any(it.key == version.key for it in self._manager.memory.draining()),
            on_disk=on_disk,
            phase=Phase(flight.phase or first) if flight is not None else None,
            failed=failure is not None,
        )

    def _age(self, used_s: float | None) -> float | None:
        if used_s is None or used_s == float("-inf"):
            return None
        return max(0.0, self._clock.monotonic() - used_s)


def _tier(
    name: str, books: LedgerStatistics, leases: int, pinned: int, oldest_used_s: float | None
) -> TierStatus:
    return TierStatus(
        tier=name,
        models=books.usage.models,
        bytes=books.usage.bytes,
        capacity_models=books.capacity.models,
        capacity_bytes=books.capacity.bytes,
        leases=leases,
        pinned=pinned,
        copies=books.copies,
        oldest_used_s=oldest_used_s,
        devices=tuple(_devices(books)),
    )


def _devices(books: LedgerStatistics) -> Iterator[DeviceStatus]:
    taken = books.usage.device_bytes
    for place, limit in enumerate(books.capacity.device_bytes):
        yield DeviceStatus(name_of(place), taken[place] if place < len(taken) else 0, limit)
