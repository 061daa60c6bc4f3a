"""Single flight: many callers want the same thing, one task gets it, each caller receives a share of its own.

The task that works belongs to the flights and not to the caller that led, so it goes on when that caller goes
away. A share is handed to each caller in the same step in which the work ends: whatever the shares protect (a
lease) is there for all callers before anybody else can act.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from hotset.limits import Waits, loop_time_s

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
S = TypeVar("S")

_Limit: TypeAlias = tuple[dict[asyncio.Future[Any], None], Callable[[], Exception]]
"""Of a caller that waits for so long and no longer: those with whom it waits, and its failure."""


class Flight(Generic[T, S]):
    """One piece of work in the air. ``phase`` is the worker's word for how far it is, for status pages.

    ``waiters`` are those who still wait, in the order in which they came; who goes away leaves nothing behind. One without a
    task was launched: ``cancel`` ends what was begun for it.
    """

    __slots__ = ("cancel", "phase", "started_s", "task", "waiters")

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.phase = ""
        self.task: asyncio.Task[None] | None = None
        self.cancel: Callable[[], None] | None = None
        self.waiters: dict[asyncio.Future[S], None] = {}


class Flights(Generic[K, T, S]):
    """Owned by the event loop. ``close`` ends every flight; callers that wait then get ``CancelledError``."""

    def __init__(self, *, share: Callable[[K, T], S], give_back: Callable[[S], None]) -> None:
        """``share`` makes one caller's part of a result, synchronously; ``give_back`` takes an unused part back."""
        self._share = share
        self._give_back = give_back
        self._flights: dict[K, Flight[T, S]] = {}
        self._limits: Waits[asyncio.Future[S], _Limit] = Waits(self._give_up)

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    def get(self, key: K) -> Flight[T, S] | None:
        return self._flights.get(key)

    def waiting(self, key: K) -> int:
        """How many wait for the flight of ``key``, if there is one."""
        flight = self._flights.get(key)
        return 0 if flight is None else len(flight.waiters)

    def flights(self) -> tuple[Flight[T, S], ...]:
        """Return all that are in the air."""
        return tuple(self._flights.values())

    def keys(self) -> tuple[K, ...]:
        """Return what is in the air, by key."""
        return tuple(self._flights)

    def start(self, key: K, work: Callable[[Flight[T, S]], Awaitable[T]], *, now_s: float) -> Flight[T, S]:
        """Return the flight of ``key``; if there is none, ``work`` starts as its leader, with nobody waiting."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight(now_s)
            self.go_on(key, flight, work)
        return flight

    def go_on(self, key: K, flight: Flight[T, S], work: Callable[[Flight[T, S]], Awaitable[T]]) -> None:
        """Have a task do the work of a flight that has none."""
        flight.cancel = None
        flight.task = asyncio.create_task(self._lead(key, flight, work), name=f"flight {key!s}")
        flight.task.add_done_callback(partial(self._ended, key, flight))

    def wait(
        self,
        key: K,
        work: Callable[[Flight[T, S]], Awaitable[T]],
        *,
        now_s: float,
        limit_s: float | None = None,
        late: Callable[[], Exception] = TimeoutError,
        launch: Callable[[Flight[T, S]], bool] | None = None,
    ) -> asyncio.Future[S]:
        """As ``join``, but what is returned at once is the share's future, for whoever needs no task to wait in.

        After ``limit_s`` it fails with what ``late`` makes. Who cancels it gets no share. Once it has its share, that
        is to be used. ``launch`` may begin the work of a new flight without a task, and says whether it has: then ``land``,
        ``fail`` or ``go_on`` follows, at once or later.
        """
        flight = self._flights.get(key)
        waiter: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        if flight is None:
            flight = self._flights[key] = Flight(now_s)
            flight.waiters[waiter] = None
            if launch is None or not launch(flight):
                self.go_on(key, flight, work)
            elif waiter.done():
                return waiter
        flight.waiters[waiter] = None
        if limit_s is not None:
            self._limits.add(waiter, loop_time_s() + limit_s, (flight.waiters, late))
        return waiter

    async def join(self, key: K, work: Callable[[Flight[T, S]], Awaitable[T]], *, now_s: float) -> S:
        """Return a share of the result of ``key``'s flight, which ``work`` leads if there is none yet.

        Raises:
            whatever ``work`` raised, to every caller, or ``share`` to this one; the failure is not kept.
        """
        return await self.share_of(key, self.wait(key, work, now_s=now_s))

    async def share_of(self, key: K, waiter: asyncio.Future[S]) -> S:
        """Return the share that ``wait`` was asked for; a caller that is cancelled leaves nothing behind."""
        try:
            return await waiter
        except asyncio.CancelledError:
            self._limits.drop(waiter)
            flight = self._flights.get(key)
            if flight is not None:
                flight.waiters.pop(waiter, None)
            # The share may have been handed over in the very step in which this caller was cancelled.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())
            raise
        finally:
            del waiter  # it has the error, and the error this frame

    def _give_up(self, waiter: asyncio.Future[S], limit: _Limit) -> None:
        waiters, late = limit
        waiters.pop(waiter, None)
        if not waiter.done():
            waiter.set_exception(late())

    async def close(self) -> None:
        """Cancel every flight and wait until it has ended."""
        for key, flight in tuple(self._flights.items()):
            if flight.cancel is not None:
                flight.cancel()
                self._land(key, flight, asyncio.Future.cancel)
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def land(self, key: K, flight: Flight[T, S], result: T) -> None:
        """The work of a flight without a task has ended well."""
        self._land(key, flight, partial(self._hand_over, key, result))

    def fail(self, key: K, flight: Flight[T, S], error: Exception) -> None:
        """It has not."""
        self._land(key, flight, partial(_fail, error))

    async def _lead(self, key: K, flight: Flight[T, S], work: Callable[[Flight[T, S]], Awaitable[T]]) -> None:
        try:
            result = await work(flight)
        except asyncio.CancelledError:
            self._land(key, flight, asyncio.Future.cancel)
            raise
        except Exception as error:  # noqa: BLE001 - every caller receives it
            self._land(key, flight, partial(_fail, error))
        else:
            self._land(key, flight, partial(self._hand_over, key, result))

    def _hand_over(self, key: K, result: T, waiter: asyncio.Future[S]) -> None:
        try:
            share = self._share(key, result)
        except Exception as error:  # noqa: BLE001 - this caller receives it; the others have shares of their own
            waiter.set_exception(error)
        else:
            waiter.set_result(share)

    def _land(self, key: K, flight: Flight[T, S], give: Callable[[asyncio.Future[S]], object]) -> None:
        del self._flights[key]
        flight.cancel = None
        for waiter in tuple(flight.waiters):
            self._limits.drop(waiter)
            if not waiter.done():
                give(waiter)
        flight.waiters.clear()  # who holds an error holds the frames it came through, and so the flight

    def _ended(self, key: K, flight: Flight[T, S], _task: asyncio.Task[None]) -> None:
        """A task that is cancelled before its first step never runs ``_lead``: its callers are told here."""
        if self._flights.get(key) is flight:
            self._land(key, flight, asyncio.Future.cancel)


def _fail(error: Exception, waiter: asyncio.Future[S]) -> None:
    waiter.set_exception(error)
