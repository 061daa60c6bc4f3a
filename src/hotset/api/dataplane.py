"""The data plane: what any protocol may ask, said once. A door decodes, calls one verb here and encodes.

It joins nothing and knows no protocol: a ``Residency`` finds and loads the model, a ``Lease`` answers. What is
decided here is what every request gets whatever its door: a deadline, a bounded queue, one retry, one release of
its lease, one line in the metrics, and a clean refusal while the server drains. Doors and ``server.py`` call it;
it never parses a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from hotset.api.admission import Admission, Bounds
from hotset.api.call import Call, no_headers, resolved
from hotset.api.flow import flowing, when_over
from hotset.api.ports import (
    Answer,
    Headers,
    HeaderSource,
    Lease,
    RequestObserver,
    Residency,
    Statistics,
    StreamingAnswer,
)
from hotset.api.started import RETRIED, Done, Started
from hotset.clock import Clock
from hotset.errors import ErrorKind, HotsetError, UnavailableError, WorkerDiedError
from hotset.keys import ModelKey, ModelRef
from hotset.limits import Limits
from hotset.payload import Encoded, Streamed
from hotset.shared.arena import Payload
from hotset.status import Readiness

MOST_LOSSES: Final = 6
"""So many workers may die under a request, because of other models."""


class DataPlane:
    """Owned by the event loop. Legal order: any verbs, then ``drain``, then ``drained``."""

    def __init__(
        self,
        residency: Residency,
        *,
        clock: Clock,
        observe: Callable[[str], RequestObserver],
        statistics: Statistics,
        request_timeout_s: float,
        max_queue: int,
        max_concurrency_per_model: int | None = None,
    ) -> None:
        """``observe`` gives the observer of a protocol; it is asked once for each. ``statistics`` are of all of them."""
        self.residency: Final = residency
        self.statistics: Final = statistics
        self.max_queue: Final = max_queue
        self.admission: Final = Admission(
            Bounds(max_queue, max_concurrency_per_model), demand=residency.demand, clock=clock
        )
        """What refuses requests, once so many are inside that any may have to be: so many, or any while it drains."""
        self._looks_from = self.admission.bounds.crowded_from
        self._clock = clock
        self._observe = observe
        self._observers: dict[str, RequestObserver] = {}
        self._request_timeout_s = request_timeout_s
        self._part_limits = Limits()
        self._inside = 0
        self._left = 0
        self._loaded = 0
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.waiting: Final[set[asyncio.Future[Lease]]] = set()
        """What started predictions wait for without a task; each sees to it itself that it is in here as long."""

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

    def time_of_day_s(self) -> float:
        """Return the time of day, for display."""
        return self._clock.wall()

    def seconds_since(self, started_s: float) -> float:
        return self._clock.monotonic() - started_s

    def check_open(self, ref: ModelRef) -> None:
        """Raise if a prediction that came now would be refused; doors ask before they read a body.

        Raises:
            UnavailableError: the server drains.
            OverloadedError: the queue is full, or holds as many for this model as it may.
        """
        if self._inside >= self._looks_from:
            self._look_whether_open(ref)

    def _look_whether_open(self, ref: ModelRef) -> None:
        if self._draining:
            raise UnavailableError("the server is shutting down; send the request to another replica")
        self.admission.check(ref, inside=self._inside, left=self._left, loaded=self._loaded)

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
        call = Call(ref, codec, body, content_type, query_string, headers, codec_headers, deadline_s)
        try:
            answer = await self._admitted(call)
        except HotsetError as error:
            observer.failed(error.kind, self._clock.monotonic() - started_s, resolved(error))
            raise
        except Exception:
            observer.failed(ErrorKind.INTERNAL, self._clock.monotonic() - started_s)
            raise
        if isinstance(answer, StreamingAnswer):
            when_over(answer, partial(self.streamed, answer, observer, started_s))
        else:
            observer.ok(self._clock.monotonic() - started_s, answer.tier, answer.key)
        return answer

    def start(
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
        done: Done,
    ) -> None:
        """As ``infer``, but ``done`` gets the answer or the error, once, at once or later.

        Where the model is in memory there is no task; a task for each request is what most of a request would cost.
        It cannot be cancelled: a client that goes away leaves its prediction to end by itself.
        """
        started_s = self._clock.monotonic()
        deadline_s = started_s + self._limit_s(timeout_s)
        call = Call(ref, codec, body, content_type, query_string, headers, codec_headers, deadline_s)
        Started(self, call, self.observer(protocol), started_s, done).begin()

    async def _admitted(self, call: Call) -> Answer:
        self.enter(call.ref)
        is_open = False
        try:
            answer = await self.attempts(call)
            is_open = isinstance(answer, StreamingAnswer)
        finally:
            if not is_open:
                self.leave()
        return answer

    async def attempts(self, call: Call, failed: HotsetError | None = None) -> Answer:
        """Answer a call that is inside, with a second attempt where that is worth it.

        ``failed``: its first one has ended with this before it had a lease.

        Raises:
            HotsetError: as ``infer``.
        """
        try:
            return await self._attempt(call, failed)
        except UnavailableError as error:
            if error.kind not in RETRIED:
                raise
            return await self.again(call, error)
        finally:
            del failed  # it has the frames that it is raised through, and is not to wait for the collector

    def enter(self, ref: ModelRef) -> None:
        """One more is inside; ``leave`` once for it.

        Raises:
            UnavailableError, OverloadedError: as ``check_open``.
        """
        if self._inside >= self._looks_from:
            self._look_whether_open(ref)
        self._inside += 1

    def leave(self) -> None:
        self._inside = inside = self._inside - 1
        self._left += 1
        if not inside and self._draining:
            self._empty.set()

    def waited(self, key: ModelKey, seconds: float) -> None:
        """Of a request that is answered: so long it waited for its version to be in memory."""
        self._loaded += 1
        self.statistics.waited(key, seconds)

    async def again(self, call: Call, error: UnavailableError) -> Answer:
        """The second attempt, after a failure of the place and not of the request.

        And others, where one worker after the other died because of another model: that one is soon quarantined.
        """
        if error.kind is ErrorKind.OUT_OF_MEMORY and error.key is not None:
            await self.residency.relieve(ModelKey(*error.key), deadline_s=call.deadline_s)
        for _ in range(MOST_LOSSES - 2):
            try:
                return await self._attempt(call)
            except UnavailableError as again:
                if not self._died_of_another(again):
                    raise
        return await self._attempt(call)

    def _died_of_another(self, error: UnavailableError) -> bool:
        """Whether a worker is gone, and what was asked for cannot be why: it was at another version, or not yet at this one."""
        if error.kind is not ErrorKind.WORKER_DIED:
            return False
        if not isinstance(error, WorkerDiedError):
            return True
        return error.key is not None and self.residency.is_blameless(ModelKey(*error.key))

    def _leased(self, call: Call, failed: HotsetError | None) -> Awaitable[Lease]:
        if failed is None:
            return self.residency.lease(call.ref, deadline_s=call.deadline_s)
        return self.residency.lease_instead(call.ref, failed, deadline_s=call.deadline_s)

    async def _attempt(self, call: Call, failed: HotsetError | None = None) -> Answer:
        lease = self.residency.lease_now(call.ref) if failed is None else None
        waited_s = 0.0
        if lease is None:
            began_s = self._clock.monotonic()
            try:
                lease = await self._leased(call, failed)
            finally:
                del failed  # as above
            waited_s = self.seconds_since(began_s)
        # Nothing may come between the lease and this try: it is what gives the lease back on cancellation.
        own: Lease | None = lease
        sent: Awaitable[Encoded] | None = None
        try:
            sent = call.sent_to(lease)
            encoded = await sent
            if waited_s:
                self.waited(lease.key, waited_s)
            if isinstance(encoded, Streamed):
                own = None
                return self.streaming(encoded, lease)
            return Answer(encoded, lease.key, lease.tier, lease.fetch_s, lease.load_s)
        except HotsetError as error:
            error.key = lease.key
            raise
        except asyncio.CancelledError:
            _close_unseen(sent)
            raise
        finally:
            del sent  # as above
            if own is not None:
                own.release()

    def streaming(self, encoded: Streamed, lease: Lease) -> StreamingAnswer:
        """Return an answer that has begun; it has the lease from now on."""
        flow = flowing(encoded, lease, limits=self._part_limits, limit_s=self._request_timeout_s)
        return StreamingAnswer(flow, lease.key, lease.tier, lease.fetch_s, lease.load_s)

    def streamed(
        self, answer: Answer, observer: RequestObserver, started_s: float, error: HotsetError | None
    ) -> None:
        """A streamed answer has ended: it is inside no more, and is counted."""
        self.leave()
        seconds = self.seconds_since(started_s)
        if error is None:
            observer.ok(seconds, answer.tier, answer.key)
        else:
            observer.failed(error.kind, seconds, answer.key)

    def readiness(self) -> Readiness:
        """Whether this replica should get requests: not while it drains."""
        if self._draining:
            return Readiness(ready=False, reason="the server is shutting down")
        return self.residency.readiness()

    def drain(self) -> None:
        """Refuse what comes from now on; what is inside goes on. Safe to call twice."""
        if not self._draining:
            self._draining = True
            self._looks_from = 0
            if self._inside:
                self._empty.clear()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what a started prediction has to wait for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cut_off(self) -> None:
        """Wait no longer for what is inside: nobody is there any more who would take its answer."""
        futures: list[asyncio.Future[Any]] = [*self._tasks, *self.waiting]
        for future in futures:
            future.cancel()
        self._empty.set()

    async def drained(self) -> None:
        """Return when nothing is inside any more. Call ``drain`` first; the caller sets the limit."""
        await self._empty.wait()


def _close_unseen(sent: Awaitable[Encoded] | None) -> None:
    """An answer may begin in the step in which who waits for it is cancelled: then nobody else would stop its maker."""
    if isinstance(sent, asyncio.Future) and sent.done() and not sent.cancelled() and not sent.exception():
        encoded = sent.result()
        if isinstance(encoded, Streamed):
            encoded.rest.close()
