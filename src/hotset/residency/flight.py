"""Single flight: many callers want the same thing, one task gets it, each caller receives a share of its own.

The task that works belongs to the flights and not to the caller that led, so it goes on when that caller goes
away. A share is handed to each caller in the same step in which the work ends: whatever the shares protect (a
lease) is there for all callers before anybody else can act.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
S = TypeVar("S")


class Flight(Generic[T, S]):
    """One piece of work in the air. ``phase`` is the worker's word for how far it is, for status pages."""

    __slots__ = ("phase", "started_s", "task", "waiters")

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.phase = ""
        self.task: asyncio.Task[None] | None = None
        self.waiters: list[asyncio.Future[S]] = []


class Flights(Generic[K, T, S]):
    """Owned by the event loop. ``close`` ends every flight; callers that wait then get ``CancelledError``."""

    def __init__(self, *, share: Callable[[K, T], S], give_back: Callable[[S], None]) -> None:
        """``share`` makes one caller's part of a result, synchronously; ``give_back`` takes an unused part back."""
        self._share = share
        self._give_back = give_back
        self._flights: dict[K, Flight[T, S]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    def get(self, key: K) -> Flight[T, S] | None:
        return self._flights.get(key)

    def start(self, key: K, work: Callable[[Flight[T, S]], Awaitable[T]], *, now_s: float) -> Flight[T, S]:
        """Return the flight of ``key``; if there is none, ``work`` starts as its leader, with nobody waiting."""
        flight = self._flights.get(key)
        if flight is None:
            flight = Flight(now_s)
            self._flights[key] = flight
            flight.task = asyncio.create_task(self._lead(key, flight, work), name=f"flight {key!s}")
        return flight

    async def join(self, key: K, work: Callable[[Flight[T, S]], Awaitable[T]], *, now_s: float) -> S:
        """Return a share of the result of ``key``'s flight, which ``work`` leads if there is none yet.

        Raises:
            whatever ``work`` raised, to every caller; the failure is not kept.
        """
        flight = self.start(key, work, now_s=now_s)
        waiter: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        flight.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            # The share may have been handed over in the very step in which this caller was cancelled.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())
            raise

    async def close(self) -> None:
        """Cancel every flight and wait until it has ended."""
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _lead(self, key: K, flight: Flight[T, S], work: Callable[[Flight[T, S]], Awaitable[T]]) -> None:
        try:
            result = await work(flight)
        except asyncio.CancelledError:
            self._land(key, flight, lambda waiter: waiter.cancel())
            raise
        except Exception as error:  # noqa: BLE001 - every caller receives it
            failure = error
            self._land(key, flight, lambda waiter: waiter.set_exception(failure))
        else:
            self._land(key, flight, lambda waiter: waiter.set_result(self._share(key, result)))

    def _land(self, key: K, flight: Flight[T, S], give: Callable[[asyncio.Future[S]], object]) -> None:
        del self._flights[key]
        for waiter in flight.waiters:
            if not waiter.done():
                give(waiter)
