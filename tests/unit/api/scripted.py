"""A residency and an observer that do what a test says, and check what the data plane must never do."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hotset.api.app import App
from hotset.api.dataplane import DataPlane
from hotset.errors import ErrorKind, HotsetError, NotFoundError
from hotset.keys import LATEST, ModelKey, ModelRef
from hotset.payload import Encoded, Signature, TensorSpec
from hotset.request_counts import RequestCounts, Tallies
from hotset.status import (
    CatalogStatus,
    Demand,
    Executions,
    ModelMetadata,
    ModelPage,
    ModelStatus,
    Readiness,
    ServerStatus,
    SyncStatus,
    TierStatus,
    VersionState,
    VersionStatus,
    WorkerStatus,
)

SIGNATURE = Signature(
    "sklearn", (TensorSpec("input-0", None, (-1, 3)),), (TensorSpec("predict", "FP64", (-1,)),)
)


class LiveClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return 0.0


class ManualTime:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return 0.0


@dataclass
class ScriptedModel:
    """``steps`` are taken one for each predict: an exception is raised, an awaitable's maker is awaited."""

    versions: list[int]
    resident: bool = True
    tier: str = "memory"
    wants: frozenset[str] = frozenset()
    encoded: Encoded | None = None
    steps: deque[Any] = field(default_factory=deque)
    lease_steps: deque[Any] = field(default_factory=deque)
    soon: asyncio.Future[Any] | None = None
    """What ``lease_soon`` gives."""
    instead: bool = False
    """Whether something answers where that has failed."""


class ScriptedLease:
    def __init__(self, residency: ScriptedResidency, model: ScriptedModel, key: ModelKey, tier: str) -> None:
        self.key = key
        self.tier = tier
        self.fetch_s = 0.0 if tier == "memory" else 0.25
        self.load_s = 0.0 if tier == "memory" else 0.5
        self.wants = model.wants
        self.signature = SIGNATURE
        self._residency = residency
        self._model = model
        self._released = False
        residency.leased += 1
        residency.leases_given += 1

    def predict(self, **call: Any) -> Awaitable[Encoded]:
        assert not self._released
        self._residency.calls.append(call)
        return self._answer()

    async def _answer(self) -> Encoded:
        if self._model.steps:
            step = self._model.steps.popleft()
            if isinstance(step, BaseException):
                raise step
            await step()
        body = b'{"model":"%s","version":%d}' % (self.key.name.encode(), self.key.version)
        return self._model.encoded or Encoded(body)

    def release(self) -> None:
        assert not self._released, "released twice"
        self._released = True
        self._residency.leased -= 1


class ScriptedResidency:
    def __init__(self, **models: ScriptedModel) -> None:
        self.scripted = dict(models)
        self.leased = 0
        self.leases_given = 0
        self.calls: list[dict[str, Any]] = []
        self.verbs: list[tuple[str, ModelRef]] = []
        self.executed: dict[ModelKey, Sequence[Executions]] = {}
        self.relieved: list[ModelKey] = []
        self.deadlines: list[float] = []
        self.lists_all = True
        self.demands: dict[str, Demand] = {}
        self.asked_for_demand: list[ModelRef] = []
        self.ready_now = Readiness(ready=True)
        self.blameless: set[str] = set()
        self.verb_errors: deque[BaseException] = deque()

    def find(self, ref: ModelRef) -> tuple[ScriptedModel, ModelKey]:
        model = self.scripted.get(ref.name)
        if model is None:
            raise NotFoundError(f"no model {ref.name!r} in the store")
        if ref.version == LATEST:
            return model, ModelKey(ref.name, model.versions[-1])
        if ref.version not in model.versions:
            raise NotFoundError(f"no version {ref.version}", kind=ErrorKind.VERSION_NOT_FOUND)
        return model, ModelKey(ref.name, int(ref.version))

    def is_blameless(self, key: ModelKey) -> bool:
        return key.name in self.blameless

    def lease_now(self, ref: ModelRef) -> ScriptedLease | None:
        model = self.scripted.get(ref.name)
        if (
            model is None
            or not model.resident
            or (ref.version != LATEST and ref.version not in model.versions)
        ):
            return None
        return ScriptedLease(self, *self.find(ref), "memory")

    def lease_soon(self, ref: ModelRef, *, deadline_s: float) -> asyncio.Future[ScriptedLease] | None:
        model = self.scripted.get(ref.name)
        if model is None or model.soon is None:
            return None
        self.deadlines.append(deadline_s)
        return model.soon

    def demand(self, ref: ModelRef) -> Demand:
        self.asked_for_demand.append(ref)
        return self.demands.get(ref.name, Demand(0))

    async def lease_instead(self, ref: ModelRef, failed: HotsetError, *, deadline_s: float) -> ScriptedLease:
        model, key = self.find(ref)
        if not model.instead:
            raise failed
        return ScriptedLease(self, model, key, model.tier)

    async def lease(self, ref: ModelRef, *, deadline_s: float) -> ScriptedLease:
        self.deadlines.append(deadline_s)
        model, key = self.find(ref)
        if model.lease_steps:
            step = model.lease_steps.popleft()
            if isinstance(step, BaseException):
                raise step
            await step()
        await asyncio.sleep(0)
        return ScriptedLease(self, model, key, model.tier)

    async def relieve(self, key: ModelKey, *, deadline_s: float) -> None:
        assert not self.leased, "the lease must be given back before room can be made"
        self.relieved.append(key)
        self.deadlines.append(deadline_s)

    async def executions(self, name: str = "") -> Mapping[ModelKey, Sequence[Executions]]:
        return {key: found for key, found in self.executed.items() if not name or key.name == name}

    async def model(self, name: str, *, deadline_s: float) -> ModelStatus:
        self.deadlines.append(deadline_s)
        model, _ = self.find(ModelRef(name))
        return self._status(name, model)

    def known(self, name: str) -> ModelStatus | None:
        model = self.scripted.get(name)
        return None if model is None else self._status(name, model)

    def _status(self, name: str, model: ScriptedModel) -> ModelStatus:
        state = VersionState.READY if model.resident else VersionState.UNAVAILABLE
        rows = tuple(
            VersionStatus(name, version, state, model.tier, reason="" if model.resident else "not in memory")
            for version in model.versions
        )
        return ModelStatus(name, model.versions[-1], versions=rows)

    async def metadata(self, ref: ModelRef, *, deadline_s: float) -> ModelMetadata:
        model, key = self.find(ref)
        return ModelMetadata(ref.name, tuple(model.versions), SIGNATURE, key.version)

    async def ready(self, ref: ModelRef, *, resident: bool, deadline_s: float) -> Readiness:
        model, _ = self.find(ref)
        if resident and not model.resident:
            return Readiness(ready=False, reason="not in memory")
        return Readiness(ready=True)

    async def _verb(self, verb: str, ref: ModelRef) -> ModelStatus:
        self.verbs.append((verb, ref))
        if self.verb_errors:
            raise self.verb_errors.popleft()
        model, _ = self.find(ref)
        return self._status(ref.name, model)

    async def load(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        return await self._verb("load", ref)

    async def unload(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        return await self._verb("unload", ref)

    async def pin(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        return await self._verb("pin", ref)

    async def unpin(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        return await self._verb("unpin", ref)

    @property
    def knows_all(self) -> bool:
        return self.lists_all

    async def models(self, *, prefix: str, limit: int, after: str, deadline_s: float) -> ModelPage:
        names = sorted(name for name in self.scripted if name.startswith(prefix) and name > after)
        shown = names[:limit]
        rows = tuple(self._status(name, self.scripted[name]) for name in shown)
        return ModelPage(rows, shown[-1] if len(names) > limit else None)

    def readiness(self) -> Readiness:
        return self.ready_now

    def status(self) -> ServerStatus:
        return ServerStatus(
            version="1.2.3",
            uptime_s=5.0,
            readiness=self.ready_now,
            catalog=CatalogStatus("file:///models", models=len(self.scripted), versions=3),
            sync=SyncStatus(enabled=True, interval_s=10.0),
            tiers=(TierStatus("memory", models=1, bytes=10, capacity_models=2),),
            workers=(WorkerStatus(0, alive=True, pid=7),),
        )


class RecordingObserver:
    def __init__(self, protocol: str, counts: RequestCounts) -> None:
        self.protocol = protocol
        self.good: list[tuple[float, str]] = []
        self.bad: list[ErrorKind] = []
        self._counts = counts

    def ok(self, seconds: float, tier: str, key: ModelKey) -> None:
        self.good.append((seconds, tier))
        self._counts.ok(seconds, tier, key)

    def failed(self, kind: ErrorKind, seconds: float, key: ModelKey | None = None) -> None:
        self.bad.append(kind)
        self._counts.failed(kind, seconds, key)


class Bench:
    """A data plane and an application over a scripted residency; ``models`` can be changed at any time."""

    def __init__(
        self,
        *,
        max_queue: int = 100,
        max_concurrency_per_model: int | None = None,
        request_timeout_s: float = 30.0,
        max_body_bytes: int = 100_000,
        body_timeout_s: float = 30.0,
        clock: Any = None,
    ) -> None:
        self.residency = ScriptedResidency(
            paris=ScriptedModel([1, 2, 7]), oslo=ScriptedModel([1], resident=False, tier="disk")
        )
        self.residency.scripted["acme/rome"] = ScriptedModel([3])
        self.observers: dict[str, RecordingObserver] = {}
        self.tallies = Tallies()
        self.listener: Any = None  # the server, where there is one
        self.dataplane = DataPlane(
            self.residency,
            clock=clock or LiveClock(),
            observe=self._observe,
            statistics=self.tallies,
            request_timeout_s=request_timeout_s,
            max_queue=max_queue,
            max_concurrency_per_model=max_concurrency_per_model,
        )
        self.app = App(
            self.dataplane,
            metrics=lambda: (b"hotset_up 1\n", "text/plain; version=1.0.0"),
            version="1.2.3",
            max_body_bytes=max_body_bytes,
            body_timeout_s=body_timeout_s,
        )

    def _observe(self, protocol: str) -> RecordingObserver:
        assert protocol not in self.observers, "asked once for each protocol"
        return self.observers.setdefault(protocol, RecordingObserver(protocol, RequestCounts(self.tallies)))

    def model(self, name: str) -> ScriptedModel:
        return self.residency.scripted[name]
