"""The residency as the data plane sees it: leases from the manager, statuses from the view, and the admin's verbs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from hotset.catalog import ModelEntry, VersionEntry
from hotset.errors import HotsetError, LoadingError, NotFoundError
from hotset.events import Cause
from hotset.keys import LATEST, ModelKey, ModelRef
from hotset.payload import Signature
from hotset.residency.lease import ModelLease
from hotset.residency.manager import Manager
from hotset.residency.store_pages import StorePages
from hotset.residency.view import View
from hotset.status import Demand, Executions, ModelMetadata, ModelPage, ModelStatus, Readiness, ServerStatus
from hotset.workers.counting import Counting


class Front:
    """Owned by the event loop. Every ``deadline_s`` is absolute, on the clock's ``monotonic``."""

    def __init__(
        self,
        manager: Manager,
        view: View,
        *,
        readiness: Callable[[], Readiness],
        pages: StorePages | None = None,
    ) -> None:
        """``pages``: where a list of models comes from if the catalog does not have all."""
        self._pages = pages
        self.knows_all: Final = pages is None
        self._manager = manager
        self._view = view
        self.readiness = readiness
        self._counting = Counting(lambda: manager.pool.everyone)
        self.lease_now = manager.lease_now  # bound here: the hot path has no call to spare
        self.lease_soon = manager.lease_soon
        self.is_blameless = manager.quarantine.is_blameless

    def demand(self, ref: ModelRef) -> Demand:
        """Return who is inside for what a word means: on its model's versions, and in the flight that it would join."""
        memory, rollover = self._manager.memory, self._manager.rollover
        held, ended = memory.leases_of(ref.name)
        if memory.find(ref) is not None:
            return Demand(held, ended)
        offered = rollover.offered(ref)
        waiting = 0 if offered is None else self._manager.flights.waiting(offered.key)
        return Demand(held + waiting, ended, leased=memory.leases)

    async def lease(self, ref: ModelRef, *, deadline_s: float) -> ModelLease:
        return await self._manager.lease(ref, deadline_s=deadline_s)

    def lease_instead(
        self, ref: ModelRef, failed: HotsetError, *, deadline_s: float
    ) -> Coroutine[Any, Any, ModelLease]:
        return self._manager.lease_instead(ref, failed, deadline_s=deadline_s)

    async def relieve(self, key: ModelKey, *, deadline_s: float) -> None:
        await self._manager.relief.relieve(key, deadline_s=deadline_s)

    async def executions(self, name: str = "") -> Mapping[ModelKey, Sequence[Executions]]:
        """Ask the workers how often the versions of a model were executed, or those of all."""
        return await self._counting.of(name)

    async def model(self, name: str, *, deadline_s: float) -> ModelStatus:
        await self._manager.offer.resolve(ModelRef(name), deadline_s=deadline_s)
        return self._status_of(name)

    def known(self, name: str) -> ModelStatus | None:
        """Return what is known of a model without asking the store; None where that is nothing."""
        model = self._manager.catalog.model(name)
        return None if model is None else self._view.model(model)

    async def metadata(self, ref: ModelRef, *, deadline_s: float) -> ModelMetadata:
        """Return what the version declares: as it was when last loaded, else it is loaded now."""
        version = await self._manager.offer.resolve(ref, deadline_s=deadline_s)
        signature, number = await self._signature(ref, version, deadline_s)
        versions = tuple(it.key.version for it in self._model(ref.name).versions)
        return ModelMetadata(name=ref.name, versions=versions, signature=signature, version=number)

    async def ready(self, ref: ModelRef, *, resident: bool, deadline_s: float) -> Readiness:
        """Whether a request would be answered; with ``resident``, whether it is in memory now."""
        version = await self._manager.offer.resolve(ref, deadline_s=deadline_s)
        if self._manager.memory.find(ref) is not None:
            return Readiness(ready=True)
        if resident:
            return Readiness(ready=False, reason=f"{version.key} is not in memory")
        try:
            self._manager.check_may_load(version)
        except (
            HotsetError
        ) as error:  # until the retry is due: then a request would be tried, so it is ready to be asked
            return Readiness(ready=False, reason=str(error))
        return Readiness(ready=True)

    async def load(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        """Bring what the word means in the store now into memory; return when it is there."""
        await self._manager.offer.look_afresh(ref.name, deadline_s=deadline_s)
        version = await self._manager.offer.resolve(ref, deadline_s=deadline_s)
        await self._manager.ensure_loaded(version, deadline_s=deadline_s)
        (await self._manager.lease(ref, deadline_s=deadline_s)).release()
        return self._status_of(ref.name)

    async def unload(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        """Take the version (or, for ``latest``, every version) out of memory; return when it is out."""
        version = await self._manager.offer.resolve(ref, deadline_s=deadline_s)
        await self._manager.unload(self._keys(ref, version), Cause.EXPLICIT, deadline_s=deadline_s)
        return self._status_of(ref.name)

    async def pin(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        """Load the version and keep it in memory until ``unpin``."""
        lease = await self._manager.lease(ref, deadline_s=deadline_s)
        try:
            if not self._manager.pin(lease.key, pinned=True):
                raise LoadingError(f"{lease.key} left memory while it was being pinned; try again")
        finally:
            lease.release()
        return self._status_of(ref.name)

    async def unpin(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        version = await self._manager.offer.resolve(ref, deadline_s=deadline_s)
        for key in self._keys(ref, version):
            self._manager.pin(key, pinned=False)
        return self._status_of(ref.name)

    async def models(self, *, prefix: str, limit: int, after: str, deadline_s: float) -> ModelPage:
        if self._pages is None:
            return self._view.models(prefix=prefix, limit=limit, after=after)
        found = await self._pages.page(
            self._manager.catalog.snapshot.models,
            prefix=prefix,
            limit=limit,
            after=after,
            deadline_s=deadline_s,
        )
        return ModelPage(tuple(map(self._view.model, found.models)), next=found.next)

    def status(self) -> ServerStatus:
        return self._view.server()

    def _model(self, name: str) -> ModelEntry:
        model = self._manager.catalog.model(name)
        if model is None:
            raise NotFoundError(f"model {name!r} was deleted from the store meanwhile")
        return model

    def _status_of(self, name: str) -> ModelStatus:
        return self._view.model(self._model(name))

    def _keys(self, ref: ModelRef, resolved: VersionEntry) -> set[ModelKey]:
        """Every version that is meant: offered, in memory, or on its way out of it."""
        memory = self._manager.memory
        if ref.version != LATEST:
            serving = memory.find(ref)  # what a label means in memory, and what it will mean
            return {resolved.key} if serving is None else {resolved.key, serving.key}
        keys = {version.key for version in self._model(ref.name).versions}
        keys.update(entry.key for entry in (*memory.entries_of(ref.name), *memory.draining()))
        return {key for key in keys if key.name == ref.name}

    async def _signature(
        self, ref: ModelRef, version: VersionEntry, deadline_s: float
    ) -> tuple[Signature, int]:
        """Return what a version declares, and its number."""
        record = self._manager.disk.lookup(version.fingerprint)
        if record is not None and record.signature is not None:
            return record.signature, version.key.version
        lease = await self._manager.lease(ref, deadline_s=deadline_s)
        try:
            return lease.signature, lease.key.version
        finally:
            lease.release()
