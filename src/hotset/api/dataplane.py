"""The data plane: what any protocol may ask, said once. A door decodes, calls one verb here and encodes.

It joins nothing and knows no protocol: a ``Residency`` finds and loads the model, a ``Lease`` answers. What is
decided here is what every request gets whatever its door: a deadline, a bounded queue, one retry, one release of
its lease, one line in the metrics, and a clean refusal while the server drains. Doors and ``server.py`` call it;
it never parses a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias

from hotset.clock import Clock
from hotset.errors import ErrorKind, HotsetError, OverloadedError, UnavailableError
from hotset.keys import ModelKey, ModelRef
from hotset.payload import Encoded, Signature
from hotset.shared.arena import Payload
from hotset.status import ModelMetadata, ModelPage, ModelStatus, Readiness, ServerStatus

Headers: TypeAlias = tuple[tuple[str, str], ...]
HeaderSource: TypeAlias = Callable[[], Headers]
"""Gives a request's headers when asked: most models do not want them, and then nobody pays for decoding them."""

RETRIED: Final = frozenset({ErrorKind.WORKER_DIED, ErrorKind.OUT_OF_MEMORY})
"""Failures of the place and not of the request: once more, with a fresh lease, is worth it."""


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

    All but ``lease_now`` and the three synchronous views may look an unknown name up in the store, and raise
    ``NotFoundError`` where there is none. A method that is cancelled holds nothing afterwards.
    """

    def lease_now(self, ref: ModelRef) -> Lease | None:
        """Take a lease if that needs no waiting, touching recency; else None."""
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

    async def model(self, name: str, *, deadline_s: float) -> ModelStatus: ...

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

    def models(self, *, prefix: str, limit: int, after: str) -> ModelPage:
        """Return at most ``limit`` models whose names start with ``prefix`` and sort behind ``after``."""
        ...

    def readiness(self) -> Readiness:
        """Whether this replica should get requests."""
        ...

    def status(self) -> ServerStatus: ...


class RequestObserver(Protocol):
    """Counts the requests of one protocol. Must not raise."""

    def ok(self, seconds: float, tier: str, model: str | None = None) -> None:
        """``model`` is a resolved name, so one that the catalog has."""
        ...

    def failed(self, kind: ErrorKind, seconds: float) -> None: ...


class Answer(NamedTuple):
    """What ``infer`` gives a door. A named tuple because one is made for each request."""

    encoded: Encoded
    key: ModelKey
    tier: str
    fetch_s: float
    load_s: float


@dataclass(slots=True)
class _Call:
    """One request, as it is sent to a lease, once or twice."""

    ref: ModelRef
    codec: str
    body: Payload
    content_type: str
    query_string: str
    headers: HeaderSource
    codec_headers: Headers
    deadline_s: float


def no_headers() -> Headers:
    """For doors whose protocol has none."""
    return ()


class DataPlane:
    """Owned by the event loop. Legal order: any verbs, then ``drain``, then ``drained``."""

    def __init__(
        self,
        residency: Residency,
        *,
        clock: Clock,
        observe: Callable[[str], RequestObserver],
        request_timeout_s: float,
        max_queue: int,
    ) -> None:
        """``observe`` gives the observer of a protocol; it is asked once for each."""
        self.residency: Final = residency
        self.max_queue: Final = max_queue
        self._clock = clock
        self._observe = observe
        self._observers: dict[str, RequestObserver] = {}
        self._request_timeout_s = request_timeout_s
        self._inside = 0
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def inside(self) -> int:
        """Predictions accepted and not answered."""
        return self._inside

    @property
    def draining(self) -> bool:
        return self._draining

    def observer(self, protocol: str) -> RequestObserver:
        """Return the observer of a protocol; protocols are named by doors, never by clients."""
        found = self._observers.get(protocol)
        if found is None:
            found = self._observers[protocol] = self._observe(protocol)
        return found

    def deadline(self, timeout_s: float | None = None) -> float:
        """Return the deadline of a request that starts now: ours, or the client's own if that is sooner."""
        return self._clock.monotonic() + self._limit_s(timeout_s)

    def _limit_s(self, timeout_s: float | None) -> float:
        limit_s = self._request_timeout_s
        return limit_s if timeout_s is None or timeout_s > limit_s else timeout_s

    def check_open(self) -> None:
        """Raise if a prediction that came now would be refused; doors ask before they read a body.

        Raises:
            UnavailableError: the server drains.
            OverloadedError: the queue is full.
        """
        if self._draining:
            raise UnavailableError("the server is shutting down; send the request to another replica")
        if self._inside >= self.max_queue:
            raise OverloadedError(f"the queue is full; expected at most {self.max_queue} requests at once")

    async def infer(
        self,
        ref: ModelRef,
        *,
        protocol: str,
        codec: str,
        body: Payload,
        content_type: str = "",
        query_string: str = "",
        headers: HeaderSource = no_headers,
        codec_headers: Headers = (),
        timeout_s: float | None = None,
    ) -> Answer:
        """Answer one prediction. Cancelled, it gives its lease back and is counted neither good nor bad.

        ``codec_headers`` are those that the codec needs; ``headers`` gives all, for a model that wants them.

        Raises:
            HotsetError: with ``key`` set once the ref was resolved.
        """
        started_s = self._clock.monotonic()
        observer = self.observer(protocol)
        deadline_s = started_s + self._limit_s(timeout_s)
        call = _Call(ref, codec, body, content_type, query_string, headers, codec_headers, deadline_s)
        try:
            answer = await self._admitted(call)
        except HotsetError as error:
            observer.failed(error.kind, self._clock.monotonic() - started_s)
            raise
        except Exception:
            observer.failed(ErrorKind.INTERNAL, self._clock.monotonic() - started_s)
            raise
        observer.ok(self._clock.monotonic() - started_s, answer.tier, answer.key.name)
        return answer

    async def _admitted(self, call: _Call) -> Answer:
        self.check_open()
        self._inside += 1
        try:
            return await self._attempt(call)
        except UnavailableError as error:
            if error.kind not in RETRIED:
                raise
            if error.kind is ErrorKind.OUT_OF_MEMORY and error.key is not None:
                await self.residency.relieve(ModelKey(*error.key), deadline_s=call.deadline_s)
            return await self._attempt(call)
        finally:
            self._inside -= 1
            if self._draining and not self._inside:
                self._empty.set()

    async def _attempt(self, call: _Call) -> Answer:
        lease = self.residency.lease_now(call.ref)
        if lease is None:
            lease = await self.residency.lease(call.ref, deadline_s=call.deadline_s)
        # Nothing may come between the lease and this try: it is what gives the lease back on cancellation.
        try:
            wants = lease.wants
            encoded = await lease.predict(
                codec=call.codec,
                body=call.body,
                content_type=call.content_type,
                query_string=call.query_string if "query_params" in wants else "",
                headers=call.headers() if "headers" in wants else call.codec_headers,
                deadline_s=call.deadline_s,
            )
            return Answer(encoded, lease.key, lease.tier, lease.fetch_s, lease.load_s)
        except HotsetError as error:
            error.key = lease.key
            raise
        finally:
            lease.release()

    def readiness(self) -> Readiness:
        """Whether this replica should get requests: not while it drains."""
        if self._draining:
            return Readiness(ready=False, reason="the server is shutting down")
        return self.residency.readiness()

    def drain(self) -> None:
        """Refuse what comes from now on; what is inside goes on. Safe to call twice."""
        self._draining = True
        if self._inside:
            self._empty.clear()

    async def drained(self) -> None:
        """Return when nothing is inside any more. Call ``drain`` first; the caller sets the limit."""
        await self._empty.wait()
