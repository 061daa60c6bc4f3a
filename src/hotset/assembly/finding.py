"""How a replica finds its models: the sync loop with what it asks at each pass, and the look at one name in between.

Which kind of discovery there is, the settings say; whatever differs between the kinds is told apart here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from hotset.assembly.ground import Ground
from hotset.catalog import ModelEntry, VersionEntry
from hotset.residency.finder import Finder
from hotset.residency.given import GivenModels
from hotset.residency.index_source import IndexSource
from hotset.residency.label_files import LabelFiles
from hotset.residency.lookup import Lookup
from hotset.residency.manager import Manager
from hotset.residency.on_demand import OnDemand
from hotset.residency.snapshot_file import SnapshotFile
from hotset.residency.store_pages import StorePages
from hotset.residency.sync import SyncLoop
from hotset.residency.whole import WholeStore
from hotset.residency.working_set import WorkingSet
from hotset.status import SyncStatus
from hotset.store import LinkedStore, MountedStore

ModelDiscovery: TypeAlias = WholeStore | OnDemand | GivenModels


class Finding:
    """Owned by the event loop. ``follow`` once, before anything is looked for; then the rest, at any time.

    The manager looks names up here and is itself what discovery fills: so it is made in between.
    """

    discovery: ModelDiscovery
    sync: SyncLoop
    _manager: Manager

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._labels: Final = LabelFiles(ground.store, events=ground.events)
        self._finder: Final = Finder(
            store=ground.store,
            layout=ground.layout,
            clock=ground.clock,
            settle_time_s=ground.settings.settle_time,
            labels=self._labels,
        )

    def follow(self, manager: Manager, *, state: Path) -> None:
        """Fill this manager's catalog. The snapshot is kept in the file ``state``, unless a platform says what there is."""
        ground = self._ground
        self._manager = manager
        self.discovery = self._discovery(manager)
        self.sync = SyncLoop(
            discovery=self.discovery,
            target=manager.offer,
            url=ground.store.url,
            clock=ground.clock,
            events=ground.events,
            interval_s=ground.sync_interval_s,
            state=None if ground.settings.sagemaker else SnapshotFile(state, origin=ground.origin),
        )

    def lookup(self) -> Lookup | None:
        """Return what looks for a name that is not in the catalog; None where the catalog has the last word."""
        settings = self._ground.settings
        if settings.on_missing != "lookup" or self._ground.layout.static:
            return None
        return Lookup(
            self.find,
            clock=self._ground.clock,
            ttl_s=settings.negative_cache_ttl,
            is_stale=self.is_stale,
            forgets=not self._ground.is_on_demand,
        )

    async def find(self, name: str) -> ModelEntry | None:
        """Look for one model in the store.

        Raises:
            StoreError: the store did not answer, or refused.
        """
        if isinstance(self.discovery, OnDemand):
            return await self.discovery.find(name)
        assert isinstance(self.discovery, WholeStore)  # where models are given, nothing is looked up
        known = self._manager.catalog.model(name)
        entry, _ = await self._finder.find(name, known=known, memory=self.discovery.settling)
        return entry

    def is_stale(self, name: str) -> bool:
        """Whether a model that is known should be looked at again before it is loaded."""
        return isinstance(self.discovery, OnDemand) and self.discovery.is_stale(name)

    def store_changed(self, version: VersionEntry) -> None:
        """A version was not in the store as the catalog has it: whatever said so is not believed any more."""
        if isinstance(self.discovery, OnDemand):
            self.discovery.distrust(version.key.name)
        elif isinstance(self.discovery, WholeStore) and self.discovery.distrust_index():
            self.sync.trigger()

    @property
    def given(self) -> GivenModels | None:
        """What takes a platform's word on which models there are, where one brings them."""
        return self.discovery if isinstance(self.discovery, GivenModels) else None

    def pages(self) -> StorePages | None:
        """Return where a page of models comes from, if not from the catalog."""
        ground = self._ground
        if not ground.is_on_demand:
            return None
        return StorePages(
            store=ground.store,
            layout=ground.layout,
            clock=ground.clock,
            settle_time_s=ground.settings.settle_time,
        )

    def offered(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Return the numbers of every model's versions, and when each was written."""
        models = self._manager.catalog.snapshot.models
        return {
            name: [(version.key.version, version.modified_s) for version in model.versions]
            for name, model in models.items()
        }

    def status(self) -> SyncStatus:
        """Return how the sync loop does."""
        status = self.sync.status()
        interval_s = self._ground.settings.sync_interval
        return SyncStatus(
            enabled=interval_s > 0 and not self._ground.layout.static,
            interval_s=interval_s,
            last_ok_s=status.last_success_age_s,
            failures=status.consecutive_failures,
            reason=status.last_error or "",
            source=status.source.value if status.source is not None else "",
            note=status.note,
        )

    def _discovery(self, manager: Manager) -> ModelDiscovery:
        store = self._ground.store
        if self._ground.settings.sagemaker and isinstance(store, MountedStore):
            return self._given(manager, store)
        if self._ground.is_on_demand:
            return self._on_demand(manager)
        return self._whole(manager)

    def _given(self, manager: Manager, store: MountedStore) -> GivenModels:
        settings = self._ground.settings
        return GivenModels(
            manager,
            store=store,
            open_store=LinkedStore,
            clock=self._ground.clock,
            limit_s=settings.load_timeout,
            roots=[Path(root) for root in settings.sagemaker_roots],
        )

    def _on_demand(self, manager: Manager) -> OnDemand:
        ground = self._ground
        return OnDemand(
            store=ground.store,
            layout=ground.layout,
            target=manager.offer,
            finder=self._finder,
            clock=ground.clock,
            working_set=self._working_set,
            interval_s=ground.sync_interval_s,
        )

    def _whole(self, manager: Manager) -> WholeStore:
        ground, settings = self._ground, self._ground.settings
        index = IndexSource(
            ground.store, ground.layout, clock=ground.clock, check_interval_s=settings.index_check_interval
        )
        return WholeStore(
            store=ground.store,
            layout=ground.layout,
            target=manager.offer,
            clock=ground.clock,
            settle_time_s=settings.settle_time,
            labels=self._labels,
            index=index if settings.models is None else None,
        )

    def _working_set(self) -> WorkingSet:
        """The names in use: preloaded ones count as in memory, so that they are found before they are."""
        manager = self._manager
        in_flight = manager.flights.keys()
        hot = {entry.key.name for entry in manager.memory.entries()}
        hot.update(key.name for key in in_flight)
        hot.update(ref.name for ref in self._ground.settings.preload.refs)
        return WorkingSet(hot, {record.key.name for record in manager.disk.records()})
