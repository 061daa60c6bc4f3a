"""What the data plane needs of the core, and what it gives back to a door: the seam between ``api`` and the rest.

``residency.front`` implements ``Residency``, ``request_counts`` the observer. Protocols alone, and no behaviour.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from hotset.errors import ErrorKind, HotsetError
from hotset.keys import ModelKey, ModelRef
from hotset.payload import Encoded, Signature
from hotset.shared.arena import Payload
from hotset.status import (
    Demand,
    Executions,
    ModelMetadata,
    ModelPage,
    ModelStatus,
    Readiness,
    ServerStatus,
    VersionCounts,
)

Headers: TypeAlias = tuple[tuple[str, str], ...]
HeaderSource: TypeAlias = Callable[[], Headers]
"""Gives a request's headers when asked: most models do not want them, and then nobody pays for decoding them."""


class Lease(Protocol):
    """The right to use a loaded model. Owned by one request: any number of ``predict``, then ``release`` once."""

    @property
    def key(self) -> ModelKey:
        """The version that the ref was resolved to."""
        ...

    @property
    def tier(self) -> str:
        """Where it was found: ``memory``, ``disk`` or ``store``."""
        ...

    @property
    def fetch_s(self) -> float: ...

    @property
    def load_s(self) -> float: ...

    @property
    def wants(self) -> frozenset[str]:
        """``headers`` and ``query_params`` are passed on only where they are in here."""
        ...

    @property
    def signature(self) -> Signature: ...

    def predict(
        self,
        *,
        codec: str,
        body: Payload,
        content_type: str,
        query_string: str,
        headers: Headers,
        deadline_s: float,
    ) -> Awaitable[Encoded]:
        """Send at once; the awaitable gives the answer, or raises a ``HotsetError``. The deadline is absolute."""
        ...

    def release(self) -> None:
        """Give the right back: exactly once."""
        ...


class Residency(Protocol):
    """Where models are. Every ``deadline_s`` is absolute, on the clock's ``monotonic``. Owned by the event loop.

    All but ``lease_now``, ``lease_soon``, ``demand``, ``known`` and the three synchronous views may look an unknown name up in the store, and raise
    ``NotFoundError`` where there is none. A method that is cancelled holds nothing afterwards.
    """

    def lease_now(self, ref: ModelRef) -> Lease | None:
        """Take a lease if that needs no waiting, touching recency; else None."""
        ...

    def lease_soon(self, ref: ModelRef, *, deadline_s: float) -> Future[Any] | None:
        """Begin to load what is missing, and return the future of a ``Lease`` on it; None if only ``lease`` can tell.

        Cancelled, it gives none; else the lease is to be released. It fails as ``lease`` does, but before anything is
        tried instead: ``lease_instead`` tries that.
        """
        ...

    def demand(self, ref: ModelRef) -> Demand:
        """Return who is inside for what a word means. Not for the hot path: the data plane asks while it is crowded."""
        ...

    async def lease_instead(self, ref: ModelRef, failed: HotsetError, *, deadline_s: float) -> Lease:
        """Take a lease on what answers where ``lease_soon`` has failed; raise that failure if nothing does."""
        ...

    async def lease(self, ref: ModelRef, *, deadline_s: float) -> Lease:
        """Fetch and load as needed, then take a lease.

        Raises:
            HotsetError: with ``key`` set once the ref was resolved. ``LoadingError`` at the deadline.
        """
        ...

    async def relieve(self, key: ModelKey, *, deadline_s: float) -> None:
        """A prediction of this version ran out of memory: make some where it ran, and return by the deadline."""
        ...

    def is_blameless(self, key: ModelKey) -> bool:
        """Whether the last worker that died did so because of another version than this one, as far as that is known."""
        ...

    async def model(self, name: str, *, deadline_s: float) -> ModelStatus: ...

    def known(self, name: str) -> ModelStatus | None:
        """Return what is known of a model without asking the store; None where that is nothing."""
        ...

    async def metadata(self, ref: ModelRef, *, deadline_s: float) -> ModelMetadata:
        """Return what the version declares; it is loaded if it never was. Its versions: those of the model."""
        ...

    async def ready(self, ref: ModelRef, *, resident: bool, deadline_s: float) -> Readiness:
        """Whether a request would be answered; with ``resident``, whether it is in memory now."""
        ...

    async def load(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        """Bring the version into memory; return when it is there."""
        ...

    async def unload(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        """Take the version (or, for ``latest``, every version) out of memory; return when it is out."""
        ...

    async def pin(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus:
        """Load the version and keep it in memory until ``unpin``."""
        ...

    async def unpin(self, ref: ModelRef, *, deadline_s: float) -> ModelStatus: ...

    async def models(self, *, prefix: str, limit: int, after: str, deadline_s: float) -> ModelPage:
        """Return at most ``limit`` models whose names start with ``prefix`` and come behind ``after``."""
        ...

    @property
    def knows_all(self) -> bool:
        """Whether ``models`` costs the store nothing, so that a list of all may be given."""
        ...

    async def executions(self, name: str = "") -> Mapping[ModelKey, Sequence[Executions]]:
        """Return how often the versions of a model were executed, or those of all; one that is not in it is not known of."""
        ...

    def readiness(self) -> Readiness:
        """Whether this replica should get requests."""
        ...

    def status(self) -> ServerStatus: ...


class RequestObserver(Protocol):
    """Counts the requests of one protocol. Must not raise."""

    def ok(self, seconds: float, tier: str, key: ModelKey) -> None:
        """``key`` is what the ref was resolved to, so one that the catalog has."""
        ...

    def failed(self, kind: ErrorKind, seconds: float, key: ModelKey | None = None) -> None: ...


class Statistics(Protocol):
    """Counts of predictions by version, of which observers add to all but ``waited``. Must not raise."""

    def waited(self, key: ModelKey, seconds: float) -> None:
        """Of a request that is answered: so long it waited for its version to be in memory."""
        ...

    def of(self, key: ModelKey) -> VersionCounts: ...

    def __iter__(self) -> Iterator[ModelKey]:
        """The versions that there are counts of."""
        ...


class Answer(NamedTuple):
    """What ``infer`` gives a door. A named tuple because one is made for each request."""

    encoded: Encoded
    key: ModelKey
    tier: str
    fetch_s: float
    load_s: float


class StreamingAnswer(Answer):
    """An answer whose ``encoded`` is ``Streamed``: whoever gets it iterates its rest to the end, or closes it.

    Until then the request is inside, and has its lease.
    """

    __slots__ = ()
