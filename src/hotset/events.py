"""What happened, as frozen records, and a small bus that carries them to logs and metrics.

The core publishes; it never logs or counts. Subscribers are called at once, on the event loop, in the order in
which they subscribed; they must not block or raise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from hotset.errors import ErrorKind
from hotset.keys import ModelKey


class Cause(StrEnum):
    """Why an entry left a tier."""

    CAPACITY = "capacity"
    PRESSURE = "pressure"
    SUPERSEDED = "superseded"
    DELETED = "deleted"
    EXPLICIT = "explicit"
    CORRUPT = "corrupt"
    IDLE = "idle"
    WORKER_DIED = "worker_died"
    MOVED = "moved"


class TierName(StrEnum):
    DISK = "disk"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A version was copied from the store to disk, whole and verified."""

    key: ModelKey
    bytes: int
    objects: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FetchFailed:
    key: ModelKey
    kind: ErrorKind
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version became servable in a worker; ``bytes`` is its measured weight."""

    key: ModelKey
    worker: int
    runtime: str
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    key: ModelKey
    kind: ErrorKind
    reason: str
    retry_in_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Evicted:
    """An entry left a tier and its memory or disk space came back."""

    tier: TierName
    key: ModelKey
    cause: Cause
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Copied:
    """A version that was in memory is now in one more worker; ``bytes`` is the copy's weight."""

    key: ModelKey
    worker: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CopyFailed:
    """A version stays where it is: it could not be loaded into one more worker."""

    key: ModelKey
    worker: int
    kind: ErrorKind
    reason: str
    retry_in_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class CopyDropped:
    """One of several that stood for a version left its worker, and its memory came back."""

    key: ModelKey
    worker: int
    cause: Cause
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LatestMoved:
    """From now on ``latest`` of this model is answered by ``version``, and no more by ``previous``."""

    name: str
    version: int
    previous: int


@dataclass(frozen=True, slots=True)
class LabelMoved:
    """From now on this label of the model is answered by ``version``, and no more by ``previous``."""

    name: str
    label: str
    version: int
    previous: int


@dataclass(frozen=True, slots=True)
class LabelsRefused:
    """A model's new file of labels cannot be used; what the last good one said stays true."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Synced:
    """A pass over the store ended well."""

    models: int
    versions: int
    rejects: int
    unsettled: int
    added: int
    removed: int
    changed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SyncFailed:
    reason: str
    consecutive: int
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """``key`` is the one model that it holds alone, None for a worker that models share."""

    worker: int
    pid: int | None
    seconds: float
    key: ModelKey | None = None


@dataclass(frozen=True, slots=True)
class WorkerDied:
    worker: int
    pid: int | None
    reason: str
    lost_models: int
    at: str | None = None
    """What it was loading or predicting, where that is known."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A version is not loaded for a while: the workers that were at it have died, one after the other."""

    key: ModelKey
    reason: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """Real memory has passed a watermark, up or down, or models leave because of it; ``evicting_bytes`` are theirs.

    ``stall`` is the share of the last seconds in which something waited for memory, None where the system does not tell.
    """

    level: str
    taken_bytes: int
    limit_bytes: int
    stall: float | None
    evicting_bytes: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found on disk at start."""

    adopted: int
    removed: int
    bytes: int


Event: TypeAlias = (
    Fetched
    | FetchFailed
    | Loaded
    | LoadFailed
    | Evicted
    | Copied
    | CopyFailed
    | CopyDropped
    | LatestMoved
    | LabelMoved
    | LabelsRefused
    | Synced
    | SyncFailed
    | WorkerStarted
    | WorkerDied
    | MemoryPressure
    | Quarantined
    | Recovered
)
Subscriber: TypeAlias = Callable[[Event], None]


class EventBus:
    """Owned by the event loop."""

    def __init__(self) -> None:
        self._subscribers: list[tuple[Subscriber, tuple[type[Event], ...]]] = []
        self._by_type: dict[type[Event], list[Subscriber]] = {}

    def subscribe(self, subscriber: Subscriber, *types: type[Event]) -> None:
        """Call ``subscriber`` for each event, or for those of these types alone."""
        self._subscribers.append((subscriber, types))
        self._by_type.clear()

    def publish(self, event: Event) -> None:
        subscribers = self._by_type.get(type(event))
        if subscribers is None:
            subscribers = self._by_type[type(event)] = [
                subscriber for subscriber, types in self._subscribers if not types or type(event) in types
            ]
        for subscriber in subscribers:
            subscriber(event)
