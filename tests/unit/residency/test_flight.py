"""Single flight: who works, who receives what, and what is left when somebody goes away."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from hotset.residency.flight import Flight, Flights


@dataclass
class Shares:
    """Counts what is handed out and what comes back, and fails for the callers named in ``broken``."""

    given: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)

    def share(self, key: str, result: int) -> str:
        number = len(self.given)
        self.given.append(f"{key}={result}#{number}")
        if number in self.broken:
            raise LookupError(f"no share for number {number}")
        return self.given[-1]

    def give_back(self, share: str) -> None:
        self.returned.append(share)


class Work:
    """A leader's work that ends when the test says so, and counts how often it was started."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.result: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def __call__(self, flight: Flight[int, str]) -> int:
        self.started += 1
        flight.phase = "working"
        try:
            return await self.result
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@pytest.fixture
def shares() -> Shares:
    return Shares()


@pytest.fixture
def flights(shares: Shares) -> Flights[str, int, str]:
    return Flights(share=shares.share, give_back=shares.give_back)


@pytest.fixture(autouse=True)
async def no_complaints() -> Iterator[None]:
    """Nothing is reported to the loop: no exception that nobody retrieved, no task destroyed while pending."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield
    await steps()
    gc.collect()
    assert not complaints


async def steps(count: int = 5) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


def joiner(
    flights: Flights[str, int, str], work: Callable[..., object], key: str = "paris"
) -> asyncio.Task[str]:
    return asyncio.create_task(flights.join(key, work, now_s=1.0))  # type: ignore[arg-type]


async def test_many_callers_one_work_and_a_share_for_each(flights: Flights[str, int, str], shares: Shares):
    work = Work()
    callers = [joiner(flights, work) for _ in range(50)]
    await steps()
    assert "paris" in flights
    assert len(flights) == 1
    (flight,) = flights.flights()
    assert flights.get("paris") is flight
    assert (flight.started_s, flight.phase, len(flight.waiters)) == (1.0, "working", 50)
    work.result.set_result(7)
    answers = await asyncio.gather(*callers)
    assert work.started == 1
    assert answers == [f"paris=7#{number}" for number in range(50)]  # in the order in which they came
    assert shares.returned == []
    assert len(flights) == 0
    assert flights.get("paris") is None


async def test_keys_fly_apart(flights: Flights[str, int, str]):
    slow, fast = Work(), Work()
    waiting, quick = joiner(flights, slow), joiner(flights, fast, "rome")
    await steps()
    fast.result.set_result(1)
    assert await quick == "rome=1#0"
    assert not waiting.done()
    slow.result.set_result(2)
    assert await waiting == "paris=2#1"


async def test_a_late_caller_starts_a_new_flight(flights: Flights[str, int, str]):
    first, second = Work(), Work()
    first.result.set_result(1)
    assert await joiner(flights, first) == "paris=1#0"
    second.result.set_result(2)
    assert await joiner(flights, second) == "paris=2#1"
    assert (first.started, second.started) == (1, 1)


async def test_a_failure_reaches_every_caller_and_is_not_kept(
    flights: Flights[str, int, str], shares: Shares
):
    work = Work()
    callers = [joiner(flights, work) for _ in range(3)]
    await steps()
    error = OSError("the disk is gone")
    work.result.set_exception(error)
    assert await asyncio.gather(*callers, return_exceptions=True) == [error, error, error]
    assert len(flights) == 0
    again = Work()
    again.result.set_result(3)
    assert await joiner(flights, again) == "paris=3#0"
    assert shares.returned == []


async def test_the_leader_goes_away_and_the_work_goes_on(flights: Flights[str, int, str], shares: Shares):
    work = Work()
    leader, waiter = joiner(flights, work), joiner(flights, work)
    await steps()
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    work.result.set_result(1)
    assert await waiter == "paris=1#0"
    assert (work.started, work.cancelled) == (1, 0)
    assert len(shares.given) == 1
    assert shares.returned == []


async def test_all_callers_go_away_and_the_work_goes_on(flights: Flights[str, int, str], shares: Shares):
    work = Work()
    callers = [joiner(flights, work) for _ in range(3)]
    await steps()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert "paris" in flights
    work.result.set_result(1)
    await steps()
    assert shares.given == []
    assert len(flights) == 0


async def test_callers_that_go_away_leave_nothing_behind(flights: Flights[str, int, str]):
    """A load that hangs while clients give up and come back must not gather their futures."""
    work = Work()
    for _ in range(100):
        caller = joiner(flights, work)
        await steps(2)
        caller.cancel()
        await steps(2)
    flight = flights.get("paris")
    assert flight is not None
    assert len(flight.waiters) == 0
    await flights.close()


async def test_a_failure_with_nobody_waiting_is_silent(flights: Flights[str, int, str]):
    work = Work()
    flight = flights.start("paris", work, now_s=2.0)
    assert flight.started_s == 2.0
    work.result.set_exception(ValueError("nobody hears this"))
    await steps()
    assert flight.task is not None
    assert flight.task.done()
    assert flight.task.exception() is None
    assert len(flights) == 0


async def test_a_flight_started_in_the_background_is_joined(flights: Flights[str, int, str]):
    work, other = Work(), Work()
    flight = flights.start("paris", work, now_s=2.0)
    assert flights.start("paris", other, now_s=3.0) is flight
    caller = joiner(flights, other)
    await steps()
    work.result.set_result(1)
    assert await caller == "paris=1#0"
    assert other.started == 0


async def test_a_share_that_cannot_be_made_fails_its_caller_alone(
    flights: Flights[str, int, str], shares: Shares
):
    shares.broken = {1}
    work = Work()
    callers = [joiner(flights, work) for _ in range(3)]
    await steps()
    work.result.set_result(1)
    first, second, third = await asyncio.gather(*callers, return_exceptions=True)
    assert first == "paris=1#0"
    assert isinstance(second, LookupError)
    assert third == "paris=1#2"
    assert len(flights) == 0


async def test_close_cancels_the_work_and_every_caller(flights: Flights[str, int, str], shares: Shares):
    works = [Work(), Work()]
    callers = [joiner(flights, work, key) for work, key in zip(works, ("paris", "rome"), strict=True)]
    await steps()
    await flights.close()
    assert [work.cancelled for work in works] == [1, 1]
    assert len(flights) == 0
    for caller in callers:
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert shares.given == []


async def test_close_in_the_step_in_which_a_flight_starts(flights: Flights[str, int, str]):
    """The task is cancelled before its first step: its callers must hear of it nevertheless."""
    work = Work()
    caller = joiner(flights, work)
    await asyncio.sleep(0)  # the caller has joined; the flight's task has not run
    flight = flights.get("paris")
    assert flight is not None
    assert flight.phase == ""
    await flights.close()
    assert len(flights) == 0
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(caller, 1)
    assert work.started == 0


async def test_a_cancelled_flight_does_not_end_the_one_that_came_after_it(flights: Flights[str, int, str]):
    """Its task is told that it ended one step later; by then the key may have a new flight."""
    first, second = Work(), Work()
    callers = [joiner(flights, first)]
    await steps()
    first.result.set_result(1)
    await asyncio.sleep(0)  # it has landed
    assert "paris" not in flights
    callers.append(joiner(flights, second))
    flights.start("paris", second, now_s=2.0)
    await steps()
    assert "paris" in flights
    second.result.set_result(2)
    assert await asyncio.gather(*callers) == ["paris=1#0", "paris=2#1"]


async def test_close_with_nothing_in_the_air(flights: Flights[str, int, str]):
    await flights.close()
    await flights.close()


async def test_close_waits_for_the_work_to_clean_up(flights: Flights[str, int, str]):
    cleaned = asyncio.Event()

    async def work(_flight: Flight[int, str]) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            await steps()
            cleaned.set()
        return 0

    flights.start("paris", work, now_s=0.0)
    await steps()
    await flights.close()
    assert cleaned.is_set()
    assert len(flights) == 0


async def test_work_that_fails_at_once(flights: Flights[str, int, str]):
    def work(_flight: Flight[int, str]) -> object:
        raise OSError("not even awaitable")

    with pytest.raises(OSError, match="not even awaitable"):
        await joiner(flights, work)
    assert len(flights) == 0


async def test_a_timeout_of_the_caller_is_a_cancellation(flights: Flights[str, int, str], shares: Shares):
    work = Work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await flights.join("paris", work, now_s=0.0)
    work.result.set_result(1)
    await steps()
    assert shares.given == []
    assert len(flights) == 0
