"""One request to a handler, which asks for models in the middle of it: what it holds, and how it gives way.

It is sent to a worker with the model in hand that its query names, if it does. What else the handler asks for is leased
in that worker until it has answered. Nobody waits for room with models in hand but the senior (``seniority``): a request
that would have to is ended, gives back all it has, and is begun again, as the senior, with what it was seen to need.
So a handler is called twice at most, and no two requests ever wait for each other.

``handlers`` makes them; the data plane takes one for the lease on a model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Protocol

from hotset.clock import Clock
from hotset.errors import (
    CapacityError,
    ErrorKind,
    HotsetError,
    InvalidInputError,
    LoadingError,
    OverloadedError,
    UnavailableError,
    WorkerDiedError,
)
from hotset.keys import ModelKey, ModelRef, parse_ref
from hotset.payload import Encoded, Signature
from hotset.residency.lease import ModelLease
from hotset.residency.manager import Manager
from hotset.residency.places import Places
from hotset.residency.seniority import Seniority
from hotset.runtimes.lending import METHOD_HEADER, REQUEST_HEADER
from hotset.shared.arena import Payload
from hotset.workers.base import HANDLER, PredictCall, Want, Word, Worker

LOOK_AGAIN_S: Final = 0.1
"""A senior that waits for room looks this often at what others than handlers hold."""

_TIERS: Final = ("memory", "disk", "store")
_SIGNATURE: Final = Signature("python")
_WANTS: Final = frozenset({"headers", "query_params"})


class Surroundings(Protocol):
    """What all requests share; ``Handlers`` is it."""

    manager: Manager
    places: Places
    seniority: Seniority
    clock: Clock
    name: str
    begins_again: bool
    running: dict[int, HandlerRequest]
    changes: int
    """How often something was borrowed or given back."""

    def changed(self) -> None:
        """Something was."""
        ...

    async def change(self, limit_s: float) -> None:
        """Return when something was, or after ``limit_s``."""
        ...

    def hint(self, query_string: str) -> ModelRef | None:
        """Return the model that a query names, which the handler will most likely ask for."""
        ...

    def worker_for(self, refs: Sequence[ModelRef]) -> Worker | None:
        """Return where to send a request that will ask for these; None while no worker is up."""
        ...

    def usual(self, hint: ModelRef | None) -> Sequence[ModelRef]:
        """Return what a request with this hint will ask for, most likely."""
        ...

    def ended(self, request: HandlerRequest) -> None:
        """The handler has answered."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


class HandlerRequest:
    """As the data plane sees it, a lease. Owned by the event loop. Legal order: ``predict`` once; ``release`` once.

    What it holds it gives back when the handler has answered, and ``release`` changes nothing: the handler may go on
    after its client has gone.
    """

    def __init__(self, around: Surroundings, number: int, verb: str) -> None:
        """``number``: the order of arrival. ``verb``: the method of HTTP."""
        self.number: Final = number
        self._around = around
        self._verb = verb
        self._leases: dict[ModelRef, ModelLease] = {}
        self._asked: dict[ModelRef, None] = {}
        self._used: list[ModelLease] = []
        self._gives_way = False
        self._is_senior = False
        self._hint: ModelRef | None = None
        self._worker: Worker
        self._call: Callable[[], PredictCall]
        self._deadline_s: float
        self._outcome: asyncio.Future[Encoded]

    # What the data plane reads

    @property
    def key(self) -> ModelKey:
        """The first model that the handler asked for, or what stands for the handler itself."""
        return self._used[0].key if self._used else ModelKey(self._around.name, 0)

    @property
    def tier(self) -> str:
        """The slowest of the places that its models came from."""
        return max((lease.tier for lease in self._used), key=_TIERS.index, default=_TIERS[0])

    @property
    def fetch_s(self) -> float:
        return sum(lease.fetch_s for lease in self._used)

    @property
    def load_s(self) -> float:
        return sum(lease.load_s for lease in self._used)

    @property
    def wants(self) -> frozenset[str]:
        return _WANTS

    @property
    def signature(self) -> Signature:
        return _SIGNATURE

    @property
    def hint(self) -> ModelRef | None:
        return self._hint

    @property
    def asked(self) -> Sequence[ModelRef]:
        """What the handler asked for, in order."""
        return tuple(self._asked)

    def predict(
        self,
        *,
        codec: str,
        body: Payload,
        content_type: str,
        query_string: str,
        headers: tuple[tuple[str, str], ...],
        deadline_s: float,
    ) -> Awaitable[Encoded]:
        ours = ((REQUEST_HEADER, str(self.number)), (METHOD_HEADER, self._verb))
        self._call = lambda: PredictCall(
            HANDLER, codec, body, content_type, query_string, ours + headers, deadline_s
        )
        self._deadline_s = deadline_s
        self._hint = self._around.hint(query_string)
        self._outcome = asyncio.get_running_loop().create_future()
        if self._around.seniority.is_short or not self._begin_now():
            self._around.spawn(self._begin())
        return self._outcome

    def release(self) -> None:
        """For the data plane; what is held is given back once the handler has answered."""

    # What its handler asks

    def wanted(self, want: Want, give: Callable[[Word], None]) -> None:
        """Give what its handler wants, now or later."""
        if self._gives_way:
            give(None)
            return
        try:
            ref = parse_ref(want.name, want.version)
        except InvalidInputError as error:
            give(error)
            return
        lease = self._leases.get(ref)
        if lease is None:
            lease = self._around.places.lease_now(ref, self._worker)
            if lease is not None:
                self._hold(ref, lease)
        self._asked[ref] = None
        if lease is not None:
            self._used.append(lease)
            give(_handle(lease))
        elif self._around.seniority.is_short and not self._is_senior:
            self._give_way(give)
        else:
            self._around.spawn(self._bring(ref, give))

    async def _bring(self, ref: ModelRef, give: Callable[[Word], None]) -> None:
        try:
            lease = await self._leased(ref)
        except OverloadedError as error:
            if error.kind is ErrorKind.NO_ROOM and not self._is_senior:
                self._give_way(give)
            else:
                give(error)
        except HotsetError as error:
            give(error)
        except BaseException:
            give(
                UnavailableError(
                    "the server waits no longer for this model; it is shutting down, or has a fault"
                )
            )
            raise
        else:
            if self._around.running.get(self.number) is not self:
                self._around.places.let_go(lease)
                give(UnavailableError("the request has ended", kind=ErrorKind.DEADLINE))
                return
            self._hold(ref, lease)
            self._used.append(lease)
            give(_handle(lease))

    def _leased(self, ref: ModelRef) -> Awaitable[ModelLease]:
        here = partial(self._around.places.lease, ref, self._worker, deadline_s=self._deadline_s)
        return self._patiently(ref, here) if self._is_senior else here()

    def _give_way(self, give: Callable[[Word], None]) -> None:
        self._gives_way = True
        give(None)

    # The first time

    def _begin_now(self) -> bool:
        """Whether it could be sent without waiting for anything."""
        hint, around = self._hint, self._around
        worker: Worker | None
        if hint is None:
            worker = around.worker_for(around.usual(None))
        else:
            lease = around.manager.lease_now(hint)
            if lease is None:
                return False
            self._hold(hint, around.places.kept(lease))
            worker = _worker(lease)
        if worker is None:
            return False
        self._send(worker)
        return True

    async def _begin(self) -> None:
        around = self._around
        try:
            await around.seniority.let_pass(limit_s=self._left_s())
            lease = None if self._hint is None else await self._hinted(self._hint)
            if lease is None:
                await self._begin_anywhere(around.usual(self._hint))
            elif self._hint is not None:
                self._hold(self._hint, lease)
                self._send(_worker(lease))
        except BaseException as error:
            self._fail(error)
            raise

    async def _begin_anywhere(self, refs: Sequence[ModelRef]) -> None:
        self._send(await self._worker_for(refs))

    async def _worker_for(self, refs: Sequence[ModelRef]) -> Worker:
        await self._around.manager.pool.up(self._left_s())
        worker = self._around.worker_for(refs)
        if worker is None:
            raise WorkerDiedError("the only worker ended as it came up")
        return worker

    async def _hinted(self, hint: ModelRef) -> ModelLease | None:
        """Lease what the query names, wherever it is. None where that cannot be: the handler may not ask for it at all."""
        around = self._around
        anywhere = partial(around.manager.lease, hint, deadline_s=self._deadline_s)
        try:
            return around.places.kept(await anywhere())
        except LoadingError:
            raise
        except OverloadedError as error:
            if error.kind is not ErrorKind.NO_ROOM:
                raise
        except HotsetError:
            return None
        await around.seniority.take(self.number, limit_s=self._left_s())
        try:
            return await self._patiently(hint, anywhere)
        finally:
            around.seniority.give_up()

    # The second time, as the senior

    async def _begin_again(self) -> None:
        try:
            await self._around.seniority.take(self.number, limit_s=self._left_s())
            self._is_senior, self._gives_way = True, False
            self._worker = await self._worker_for(self.asked)
            for ref in self.asked:
                await self._lease_again(ref)
            self._send(self._worker)
        except BaseException as error:
            self._fail(error)
            raise

    async def _lease_again(self, ref: ModelRef) -> None:
        try:
            self._hold(ref, await self._leased(ref))
        except (CapacityError, UnavailableError):
            raise
        except HotsetError:
            return  # the handler is told when it asks

    async def _patiently(self, ref: ModelRef, attempt: Callable[[], Awaitable[ModelLease]]) -> ModelLease:
        """Lease as the senior: wait until there is room, and let nobody begin who would take it.

        Raises:
            CapacityError: nobody else holds anything, and still there is none.
        """
        around = self._around
        try:
            while True:
                changes, was_alone = around.changes, self._is_alone()
                try:
                    return around.places.kept(await attempt())
                except OverloadedError as error:
                    if error.kind is not ErrorKind.NO_ROOM or self._left_s() <= 0:
                        raise
                    around.seniority.begin_wait()
                    if self._take_back_hints() or around.places.drop_idle_twin():
                        continue
                    if self._is_alone() and around.places.make_up_for_leaving():
                        continue
                    if was_alone and self._is_alone() and changes == around.changes:
                        raise self._too_much(ref) from error
                if not self._is_alone():
                    await around.change(min(LOOK_AGAIN_S, self._left_s()))
        finally:
            around.seniority.end_wait()

    def _take_back_hints(self) -> bool:
        """Whether another held what its handler has not asked for yet. It may be queued behind the senior itself."""
        others = [request for request in self._around.running.values() if request is not self]
        given_up = [request.give_up_hint() for request in others]
        return any(given_up)

    def give_up_hint(self) -> bool:
        """Give back what was leased ahead and not asked for yet, if anything: it is leased when it is asked for."""
        unasked = [ref for ref in self._leases if ref not in self._asked]
        for ref in unasked:
            self._around.places.let_go(self._leases.pop(ref))
        if unasked:
            self._around.changed()
        return bool(unasked)

    def _is_alone(self) -> bool:
        """Whether nobody else holds, loads or unloads anything."""
        manager = self._around.manager
        moment = manager.memory.statistics()
        mine = {lease.entry for lease in self._leases.values()}
        return (
            moment.leases == len(self._leases)
            and not moment.ledger.reservations
            and not len(manager.flights)
            and not self._around.places.loading
            and all(entry in mine for entry in manager.memory.draining())
        )

    def _too_much(self, ref: ModelRef) -> CapacityError:
        memory = self._around.manager.memory
        held = ", ".join(f"{it.key} ({it.entry.weight.bytes} bytes)" for it in self._leases.values())
        pinned = sum(1 for entry in memory.entries() if entry.pinned and not entry.holds)
        beside = f" beside {pinned} that are pinned" if pinned else ""
        most = memory.capacity
        capacity = " and ".join(
            f"{limit} {what}"
            for limit, what in ((most.models, "models"), (most.bytes, "bytes"))
            if limit is not None
        )
        return CapacityError(
            f"no room for {ref}: the request holds {held or 'nothing'}{beside}, and memory holds {capacity or 'more'}; "
            "raise model_cache_size (and disk_model_cache_size, which is at least that) to what one request needs"
        )

    # Sending, and the end

    def _send(self, worker: Worker) -> None:
        self._worker = worker
        self._around.running[self.number] = self
        sent = asyncio.ensure_future(worker.predict(self._call()))
        sent.add_done_callback(self._answered)

    def _answered(self, sent: asyncio.Future[Encoded]) -> None:
        del self._around.running[self.number]
        self._around.ended(self)
        error = UnavailableError("the worker was stopped") if sent.cancelled() else sent.exception()
        self._give_back()
        if self._outcome.done():
            return
        if self._gives_way and not isinstance(error, WorkerDiedError):
            self._after_giving_way()
        elif error is not None:
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(sent.result())

    def _after_giving_way(self) -> None:
        if self._around.begins_again:
            self._used.clear()
            self._around.spawn(self._begin_again())
        else:
            self._outcome.set_exception(
                OverloadedError(
                    "no room for another model of this request, and others wait for those it held",
                    kind=ErrorKind.NO_ROOM,
                )
            )

    def _fail(self, error: BaseException) -> None:
        self._give_back()
        if self._outcome.done():
            return
        if isinstance(error, Exception):
            self._outcome.set_exception(error)
        else:
            self._outcome.cancel()

    def _hold(self, ref: ModelRef, lease: ModelLease) -> None:
        self._leases[ref] = lease
        self._around.changed()

    def _give_back(self) -> None:
        leases, self._leases = self._leases, {}
        for lease in leases.values():
            self._around.places.let_go(lease)
        if self._is_senior:
            self._is_senior = False
            self._around.seniority.give_up()
        self._around.changed()

    def _left_s(self) -> float:
        return max(0.0, self._deadline_s - self._around.clock.monotonic())


def _handle(lease: ModelLease) -> int:
    return lease.entry.value.resident.handle


def _worker(lease: ModelLease) -> Worker:
    return lease.entry.value.resident.worker
