"""A prediction that nobody's task waits for: what ``DataPlane.infer`` does, as callbacks.

The data plane starts it. Where the model is in memory there is no task at all; what has to be waited for with one (a
second attempt, a model that has to be loaded by steps) is handed back to the data plane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from hotset.api.call import Call, resolved
from hotset.api.flow import when_over
from hotset.api.ports import Answer, Lease, RequestObserver, Residency, StreamingAnswer
from hotset.errors import ErrorKind, HotsetError, UnavailableError
from hotset.keys import ModelKey, ModelRef
from hotset.payload import Encoded, Streamed

Done: TypeAlias = Callable[[Answer | Exception], None]
"""Gets the outcome of a prediction that was started: the answer, or why there is none."""

RETRIED: Final = frozenset({ErrorKind.WORKER_DIED, ErrorKind.NOT_LOADED, ErrorKind.OUT_OF_MEMORY})
"""Failures of the place and not of the request: once more, with a fresh lease, is worth it."""


class Plane(Protocol):
    """What it needs of the data plane, which implements it."""

    @property
    def residency(self) -> Residency: ...

    @property
    def waiting(self) -> set[asyncio.Future[Lease]]:
        """What started predictions wait for without a task; each sees to it itself that it is in here as long."""
        ...

    def enter(self, ref: ModelRef) -> None: ...
    def leave(self) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...
    def seconds_since(self, started_s: float) -> float: ...
    def waited(self, key: ModelKey, seconds: float) -> None: ...
    async def attempts(self, call: Call, failed: HotsetError | None = None) -> Answer: ...
    async def again(self, call: Call, error: UnavailableError) -> Answer: ...
    def streaming(self, encoded: Streamed, lease: Lease) -> StreamingAnswer: ...
    def streamed(
        self, answer: Answer, observer: RequestObserver, started_s: float, error: HotsetError | None
    ) -> None: ...


class Started:
    """Owned by one request. Legal order: ``begin``, once."""

    __slots__ = (
        "_call",
        "_done",
        "_lease",
        "_observer",
        "_plane",
        "_started_s",
        "_waited_s",
    )

    def __init__(
        self, plane: Plane, call: Call, observer: RequestObserver, started_s: float, done: Done
    ) -> None:
        self._plane = plane
        self._call = call
        self._observer = observer
        self._started_s = started_s
        self._done = done
        self._waited_s = 0.0
        self._lease: Lease

    def begin(self) -> None:
        plane = self._plane
        try:
            plane.enter(self._call.ref)
        except HotsetError as error:
            self._tell(error)
            return
        call, waiting = self._call, None
        try:
            lease = plane.residency.lease_now(call.ref)
            if lease is None:
                waiting = plane.residency.lease_soon(call.ref, deadline_s=call.deadline_s)
        except Exception as error:  # noqa: BLE001 - handed on; it is inside, and has to leave
            self._leave(error)
            return
        if lease is not None:
            self._send(lease)
        elif waiting is None:
            plane.spawn(self._wait(plane.attempts(call)))
        elif waiting.done():
            self._leased(waiting)
        else:
            plane.waiting.add(waiting)
            waiting.add_done_callback(self._leased)

    def _leased(self, waiting: asyncio.Future[Lease]) -> None:
        plane = self._plane
        plane.waiting.discard(waiting)
        if waiting.cancelled():
            self._leave(_cut_off())
            return
        error = waiting.exception()
        if error is None:
            self._waited_s = plane.seconds_since(self._started_s)
            self._send(waiting.result())
        elif isinstance(error, HotsetError):
            plane.spawn(self._wait(plane.attempts(self._call, error)))
        else:
            self._leave(error if isinstance(error, Exception) else _cut_off())

    def _send(self, lease: Lease) -> None:
        self._lease = lease
        try:
            sent = self._call.sent_to(lease)
        except Exception as error:  # noqa: BLE001 - as above
            lease.release()
            self._leave(error)
            return
        answer = sent if isinstance(sent, asyncio.Future) else asyncio.ensure_future(sent)
        answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[Encoded]) -> None:
        lease = self._lease
        try:
            error = answer.exception()
        except asyncio.CancelledError:
            lease.release()
            self._leave(_cut_off())
            return
        if error is None:
            if self._waited_s:
                self._plane.waited(lease.key, self._waited_s)
            encoded = answer.result()
            if type(encoded) is Streamed:
                self._open(self._plane.streaming(encoded, lease))
                return
            lease.release()
            self._leave(Answer(encoded, lease.key, lease.tier, lease.fetch_s, lease.load_s))
            return
        lease.release()
        if isinstance(error, HotsetError):
            error.key = lease.key
            if isinstance(error, UnavailableError) and error.kind in RETRIED:
                self._plane.spawn(self._wait(self._plane.again(self._call, error)))
                return
        self._leave(error if isinstance(error, Exception) else _cut_off())

    async def _wait(self, attempt: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await attempt
        except asyncio.CancelledError:
            self._leave(_cut_off())
        except Exception as error:  # noqa: BLE001 - it is handed on, and no name for it is left in this frame, which it has
            self._leave(error)
        else:
            if isinstance(answer, StreamingAnswer):
                self._open(answer)
            else:
                self._leave(answer)

    def _open(self, answer: StreamingAnswer) -> None:
        """It has begun; when it ends, it leaves and is counted."""
        when_over(answer, partial(self._plane.streamed, answer, self._observer, self._started_s))
        self._done(answer)

    def _leave(self, outcome: Answer | Exception) -> None:
        self._plane.leave()
        self._tell(outcome)

    def _tell(self, outcome: Answer | Exception) -> None:
        seconds = self._plane.seconds_since(self._started_s)
        if isinstance(outcome, Answer):
            self._observer.ok(seconds, outcome.tier, outcome.key)
        elif isinstance(outcome, HotsetError):
            self._observer.failed(outcome.kind, seconds, resolved(outcome))
        else:
            self._observer.failed(ErrorKind.INTERNAL, seconds)
        self._done(outcome)


def _cut_off() -> UnavailableError:
    return UnavailableError(
        "the server is shutting down and waits no longer; send the request to another replica"
    )
