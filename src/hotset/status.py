"""What the server shows of itself: frozen records, built by the residency manager, written out by the doors.

Pure data. Every field goes into an answer under its own name, so a rename here is a change of the API. Times are
seconds before or after now, never points in time, because the two ends may not share a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hotset.errors import ErrorKind
from hotset.keys import LATEST
from hotset.payload import Signature


class VersionState(StrEnum):
    """The states of the Open Inference Protocol's index; they tell of memory, ``VersionStatus.tier`` of the rest."""

    UNKNOWN = "UNKNOWN"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version of one model.

    ``tier`` is the fastest place that holds it: ``memory``, ``disk`` or ``store``. ``READY`` means in memory; a
    version that would be loaded by the next request is ``UNAVAILABLE`` with a ``reason`` that says so. After a
    failed load, ``failure`` and ``reason`` say why and ``retry_in_s`` when the next attempt is allowed.
    ``copies`` is in how many workers beyond the first it is; ``memory_bytes``, ``device_bytes`` and ``leases`` count them
    all.
    """

    name: str
    version: int
    state: VersionState
    tier: str
    store_bytes: int = 0
    disk_bytes: int = 0
    memory_bytes: int = 0
    device_bytes: int = 0
    last_used_s: float | None = None
    leases: int = 0
    pinned: bool = False
    copies: int = 0
    reason: str = ""
    failure: ErrorKind | None = None
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class LabelStatus:
    """One label. ``version`` is what the store gives it, ``means`` the version that a request is answered by.

    ``means`` is None where there is none. ``serving`` is the one that answers from memory, None while none does.
    ``reason`` says why the label does not mean what the store gives it.
    """

    label: str
    version: int
    means: int | None = None
    serving: int | None = None
    last_used_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model. ``latest`` is the store's highest version, ``serving`` the one that answers for it now.

    ``serving`` is None while no version is in memory. ``last_used_s`` is that of the word ``latest``. Versions
    are ascending, labels in order of name; ``labels_problem`` says why the file of labels in the store is not used.
    """

    name: str
    latest: int
    serving: int | None = None
    last_used_s: float | None = None
    versions: tuple[VersionStatus, ...] = ()
    labels: tuple[LabelStatus, ...] = ()
    labels_problem: str = ""

    def asked(self, word: int | str) -> tuple[VersionStatus, ...]:
        """Return the versions that a word names: one or none for a number or a label, all for ``latest``."""
        if word == LATEST:
            return self.versions
        number = word if isinstance(word, int) else self._means(word)
        return tuple(version for version in self.versions if version.version == number)

    def _means(self, label: str) -> int | None:
        return next((it.means for it in self.labels if it.label == label), None)


@dataclass(frozen=True, slots=True)
class ModelPage:
    """A page of models by name; ``next`` is the ``after`` of the page that follows, or None on the last one."""

    models: tuple[ModelStatus, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a version declares, its number, and the versions of its model that can be asked for, ascending."""

    name: str
    versions: tuple[int, ...]
    signature: Signature
    version: int


@dataclass(frozen=True, slots=True)
class VersionCounts:
    """The predictions of one version since the server started, by any door: how many, and their seconds in all.

    ``answered_s`` is from a request's arrival to its answer, the ``waited_s`` of those included that had to wait until
    the version was in memory. A request that failed before its version was known is in none.
    """

    answered: int = 0
    answered_s: float = 0.0
    waited_s: float = 0.0
    failed: int = 0
    failed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Executions:
    """So often was a version executed to answer ``size`` requests at once: ``count`` times, which took ``seconds`` in all.

    They are those of decoding, predicting and encoding, and each execution is counted once, whatever its size.
    """

    size: int
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be answered; ``reason`` says why not."""

    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device, and what models take of it, those included that are leaving. A capacity of None means unbounded."""

    device: str
    bytes: int
    capacity_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TierStatus:
    """One cache level. A capacity of None means unbounded; ``oldest_used_s`` is the age of the next to go.

    ``models`` and ``bytes`` are what is used of the capacity, ``copies`` of the models and what is leaving included.
    """

    tier: str
    models: int
    bytes: int
    capacity_models: int | None = None
    capacity_bytes: int | None = None
    leases: int = 0
    pinned: int = 0
    copies: int = 0
    oldest_used_s: float | None = None
    devices: tuple[DeviceStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker. ``pid`` is None for a worker inside the gateway; ``model`` is the one that it holds alone, if it does."""

    id: int
    alive: bool
    pid: int | None = None
    models: int = 0
    queued: int = 0
    restarts: int = 0
    model: str = ""
    stuck: int = 0
    """Predict threads that do not come back."""


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """The sync loop. ``last_ok_s`` is the age of the snapshot in force, None before the first good pass.

    ``source`` is where that comes from: ``listing``, ``index``, ``lookups`` or ``given``; ``note`` says what is wrong
    with another.
    """

    enabled: bool
    interval_s: float
    last_ok_s: float | None = None
    failures: int = 0
    reason: str = ""
    source: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """Real memory, as it was looked at last: what is taken of the limit, and the marks at which something is done.

    ``level`` is ``normal``, ``high`` or ``critical``. ``stall_share`` is the share of the last ten seconds in which something
    waited for memory, None where the system does not tell.
    """

    level: str
    taken_bytes: int
    limit_bytes: int
    low_bytes: int
    high_bytes: int
    critical_bytes: int
    stall_share: float | None = None


@dataclass(frozen=True, slots=True)
class RejectStatus:
    """An entry of the store that is not offered, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class CatalogStatus:
    """What the store offers. ``rejects`` counts all malformed entries, ``examples`` holds the first of them."""

    store: str
    models: int
    versions: int
    unsettled: int = 0
    rejects: int = 0
    examples: Sequence[RejectStatus] = ()


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One replica as a whole. ``memory`` is None before it was looked at."""

    version: str
    uptime_s: float
    readiness: Readiness
    catalog: CatalogStatus
    sync: SyncStatus
    tiers: tuple[TierStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    memory: MemoryStatus | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """Who is inside for a model now.

    ``model`` use it, or wait for it; ``left`` have used it and do not any more, of what is in memory now. ``leased`` have
    something to use, whatever their model; None where this request would have it at once.
    """

    model: int
    left: int = 0
    leased: int | None = None
