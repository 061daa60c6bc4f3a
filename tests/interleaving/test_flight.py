"""The races of a flight, each forced by name: the order of steps is chosen by the test and not by luck."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import pytest

from hotset.events import Cause
from hotset.keys import ModelKey, ModelRef
from hotset.residency.flight import Flight, Flights
from hotset.tiers.ledger import Capacity, Entry, Weight
from hotset.tiers.memory import Lease, MemoryTier

PARIS = ModelKey("paris", 1)


class Loading:
    """A memory tier and its flights, as the manager joins them: the work commits, the share is a lease."""

    def __init__(self) -> None:
        self.tier: MemoryTier[str] = MemoryTier(Capacity(models=1))
        self.flights: Flights[ModelKey, Entry[ModelKey, str], Lease[str]] = Flights(
            share=lambda _, entry: self.tier.lease_entry(entry), give_back=Lease.release
        )
        self.fetched = asyncio.Event()
        self.loads = 0

    async def work(self, _flight: Flight[Entry[ModelKey, str], Lease[str]]) -> Entry[ModelKey, str]:
        self.loads += 1
        await self.fetched.wait()
        reservation = self.tier.reserve(PARIS, Weight(), lambda: None)
        self.tier.advance()
        return self.tier.commit(reservation, "the model")

    def caller(self) -> asyncio.Task[Lease[str]]:
        return asyncio.create_task(self.flights.join(PARIS, self.work, now_s=0.0))

    @property
    def leases(self) -> int:
        self.tier.check_invariants()
        return self.tier.statistics().leases

    async def until_landed(self) -> None:
        """Return in the step in which the flight ended: after its task's last step, before any caller has run.

        What is ready runs in the order in which it became so: the work's task, this test, then the callers.
        """
        await until(lambda: self.loads > 0)
        self.fetched.set()
        await step()
        assert PARIS not in self.flights


async def step() -> None:
    await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(20):
        if condition():
            return
        await step()
    raise AssertionError("it did not come to that")


@pytest.fixture
async def loading() -> AsyncIterator[Loading]:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield (loading := Loading())
    await loading.flights.close()
    assert loading.leases == 0
    gc.collect()
    assert not complaints


async def test_lease_is_taken_in_the_step_in_which_the_flight_ends(loading: Loading):
    """Whoever acts right after the commit, even before the callers run, finds the entry leased."""
    callers = [loading.caller() for _ in range(3)]
    await loading.until_landed()
    assert not any(caller.done() for caller in callers)
    assert loading.leases == 3
    for lease in await asyncio.gather(*callers):
        lease.release()


async def test_an_eviction_between_landing_and_the_callers_waits_for_their_leases(loading: Loading):
    callers = [loading.caller() for _ in range(2)]
    await step()
    await loading.until_landed()
    assert loading.tier.evict(PARIS, Cause.EXPLICIT)
    assert loading.tier.advance() == []
    first, second = await asyncio.gather(*callers)
    assert first.value == second.value == "the model"
    first.release()
    assert loading.tier.advance() == []
    second.release()
    (entry,) = loading.tier.advance()
    loading.tier.freed(entry)
    assert loading.tier.usage == Weight(0, 0)


async def test_the_leader_is_cancelled_before_its_work_starts(loading: Loading):
    leader = loading.caller()
    await step()  # it has joined, and the work's task has not had its first step
    assert PARIS in loading.flights
    assert loading.loads == 0
    leader.cancel()
    waiter = loading.caller()
    await step()
    loading.fetched.set()
    (await waiter).release()
    assert loading.loads == 1
    assert leader.cancelled()


async def test_the_leader_is_cancelled_before_it_has_joined(loading: Loading):
    leader = loading.caller()
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    assert loading.loads == 0
    assert len(loading.flights) == 0


async def test_the_leader_is_cancelled_while_its_work_runs(loading: Loading):
    leader, waiter = loading.caller(), loading.caller()
    await step()
    await step()
    assert loading.loads == 1
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    loading.fetched.set()
    (await waiter).release()
    assert loading.loads == 1


async def test_a_caller_cancelled_after_the_share_was_handed_over_gives_it_back(loading: Loading):
    gone, stays = loading.caller(), loading.caller()
    await loading.until_landed()
    assert loading.leases == 2
    gone.cancel()  # its future has a result; its task has not run since
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert loading.leases == 1
    (await stays).release()


async def test_a_caller_cancelled_in_the_step_before_landing_gets_no_share(loading: Loading):
    gone, stays = loading.caller(), loading.caller()
    await step()
    await step()
    loading.fetched.set()
    gone.cancel()  # both in one step: the work's task is woken, but has not run
    with pytest.raises(asyncio.CancelledError):
        await gone
    (await stays).release()
    assert loading.leases == 0


async def test_a_caller_cancelled_in_the_step_in_which_the_work_fails_keeps_the_loop_silent(loading: Loading):
    async def failing(_flight: Flight[Entry[ModelKey, str], Lease[str]]) -> Entry[ModelKey, str]:
        loading.loads += 1
        await loading.fetched.wait()
        raise OSError("corrupt")

    loading.work = failing  # type: ignore[method-assign]
    caller = loading.caller()
    await step()
    await loading.until_landed()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_caller_that_times_out_with_its_share_in_hand_gives_it_back(loading: Loading):
    async def impatient() -> None:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            (await loading.flights.join(PARIS, loading.work, now_s=0.0)).release()
            reached.append(True)

    limits: list[asyncio.Timeout] = []
    reached: list[bool] = []
    caller = asyncio.create_task(impatient())
    await until(lambda: loading.loads > 0)
    loading.fetched.set()
    # The limit is reached between the work's last step and the caller's next one: what the timer would call.
    asyncio.get_running_loop().call_soon(limits[0]._on_timeout)
    with pytest.raises(TimeoutError):
        await caller
    assert not reached
    assert loading.leases == 0


async def test_a_caller_that_comes_in_the_step_after_landing_finds_memory_and_no_flight(loading: Loading):
    caller = loading.caller()
    await step()
    await loading.until_landed()
    assert PARIS not in loading.flights
    lease = loading.tier.lease(ModelRef("paris", 1), 1.0)
    assert lease is not None
    lease.release()
    (await caller).release()
    assert loading.loads == 1


async def test_evicted_in_the_step_of_landing_so_that_no_share_can_be_made(loading: Loading):
    """The work itself takes its entry out again (the store deleted it meanwhile): nobody may hang."""

    async def deleted_meanwhile(_flight: Flight[Entry[ModelKey, str], Lease[str]]) -> Entry[ModelKey, str]:
        entry = await Loading.work(loading, _flight)
        loading.tier.evict(PARIS, Cause.DELETED)
        return entry

    loading.work = deleted_meanwhile  # type: ignore[method-assign]
    callers = [loading.caller() for _ in range(2)]
    await step()
    loading.fetched.set()
    answers = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 5)
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]
    for entry in loading.tier.advance():
        loading.tier.freed(entry)


async def test_closing_while_a_share_is_handed_over_keeps_it(loading: Loading):
    caller = loading.caller()
    await step()
    await loading.until_landed()
    await loading.flights.close()
    lease = await caller
    assert lease.value == "the model"
    lease.release()


async def test_closing_in_the_step_in_which_the_work_could_go_on_cancels_it(loading: Loading):
    caller = loading.caller()
    await step()
    await step()
    loading.fetched.set()
    await loading.flights.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert loading.leases == 0
    assert loading.tier.entries() == ()
