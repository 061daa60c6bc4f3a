"""Single flight under every order of joins, steps, cancellations, endings and closings that Hypothesis finds."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hotset.residency.flight import Flight, Flights

keys = st.sampled_from(["paris", "rome"])


@dataclass(eq=False)
class Share:
    """One caller's part; ``returned`` counts how often it came back through ``give_back``."""

    key: str
    work: Work
    returned: int = 0


@dataclass(eq=False)
class Work:
    """One leader's work: it ends when the test says so."""

    key: str
    machine: FlightMachine
    ending: asyncio.Future[None]
    started: int = 0
    running: bool = False
    cancelled: bool = False

    async def __call__(self, flight: Flight[Work, Share]) -> Work:
        assert not any(work.running for work in self.machine.works if work.key == self.key)
        self.started += 1
        self.running = True
        try:
            await self.ending
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.running = False
        return self


@dataclass(eq=False)
class Caller:
    key: str
    task: asyncio.Task[Share]
    gone: bool = False  # the test cancelled it


class NoShareError(Exception):
    """What ``share`` raises when the test has broken it."""


class BrokenWorkError(Exception):
    """What a work raises when the test says so."""


@dataclass(eq=False)
class Given:
    shares: list[Share] = field(default_factory=list)
    is_broken: bool = False


class FlightMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.complaints: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.given = Given()
        self.works: list[Work] = []
        self.callers: list[Caller] = []
        self.closing: list[asyncio.Task[None]] = []
        self.flights: Flights[str, Work, Share] = Flights(share=self.share, give_back=self.give_back)

    def share(self, key: str, work: Work) -> Share:
        if self.given.is_broken:
            raise NoShareError
        self.given.shares.append(Share(key, work))
        return self.given.shares[-1]

    def give_back(self, share: Share) -> None:
        share.returned += 1

    def work(self, key: str) -> Work:
        self.works.append(Work(key, self, self.loop.create_future()))
        return self.works[-1]

    # What happens

    @rule(key=keys, count=st.integers(1, 3))
    def join(self, key: str, count: int) -> None:
        for _ in range(count):
            work = self.work(key)
            self.callers.append(Caller(key, self.loop.create_task(self.flights.join(key, work, now_s=0.0))))

    @rule(key=keys)
    def start_in_the_background(self, key: str) -> None:
        async def begin() -> None:
            self.flights.start(key, self.work(key), now_s=0.0)

        self.loop.run_until_complete(begin())

    @rule()
    def step(self) -> None:
        """Exactly one turn of the loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @rule(key=keys, fails=st.booleans(), steps=st.integers(0, 2), data=st.data())
    def end_and_cancel_one_a_few_steps_later(
        self, key: str, fails: bool, steps: int, data: st.DataObject
    ) -> None:
        """Where the races are: around the step in which the shares are handed over."""
        self.join(key, 2)
        self.settle()
        for work in [work for work in self.works if work.running and work.key == key]:
            self.finish(work, fails)
        for _ in range(steps):
            self.step()
        if any(not caller.task.done() for caller in self.callers):
            self.cancel_a_caller(data)

    @rule()
    def settle(self) -> None:
        for _ in range(10):
            self.step()

    @precondition(lambda self: any(work.running for work in self.works))
    @rule(data=st.data(), fails=st.booleans())
    def end(self, data: st.DataObject, fails: bool) -> None:
        self.finish(data.draw(st.sampled_from([work for work in self.works if work.running])), fails)

    def finish(self, work: Work, fails: bool) -> None:
        if not work.ending.done():
            if fails:
                work.ending.set_exception(BrokenWorkError())
            else:
                work.ending.set_result(None)

    @precondition(lambda self: any(not caller.task.done() for caller in self.callers))
    @rule(data=st.data())
    def cancel_a_caller(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from([c for c in self.callers if not c.task.done()]))
        caller.gone = caller.task.cancel()

    @precondition(lambda self: len(self.flights))
    @rule(data=st.data())
    def cancel_a_flight(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([key for key in ("paris", "rome") if key in self.flights]))
        flight = self.flights.get(key)
        assert flight is not None
        assert flight.task is not None
        flight.task.cancel()

    @rule()
    def close(self) -> None:
        self.closing.append(self.loop.create_task(self.flights.close()))

    @rule(is_broken=st.booleans())
    def break_or_mend_the_share(self, is_broken: bool) -> None:
        self.given.is_broken = is_broken

    # What always holds

    @invariant()
    def one_work_for_a_key(self) -> None:
        for key in ("paris", "rome"):
            running = [work for work in self.works if work.key == key and work.running]
            assert len(running) <= 1
            assert not running or key in self.flights
        assert all(work.started <= 1 for work in self.works)

    @invariant()
    def a_share_is_with_its_caller_or_back_once(self) -> None:
        kept = [share for share in map(self.result_of, self.callers) if share is not None]
        assert len(kept) == len(set(kept))
        for share in self.given.shares:
            assert share.returned + (share in kept) <= 1

    @invariant()
    def who_waits_is_still_there(self) -> None:
        """No future of a caller that is gone stays behind."""
        waiting = sum(len(flight.waiters) for flight in map(self.flights.get, ("paris", "rome")) if flight)
        assert waiting <= sum(1 for caller in self.callers if not caller.task.done())

    def result_of(self, caller: Caller) -> Share | None:
        task = caller.task
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.given.is_broken = False
        for _ in range(4):  # flights that waited for their first step begin, end, and are followed by none
            self.settle()
            for work in self.works:
                if work.running and not work.ending.done():
                    work.ending.set_result(None)
        self.settle()
        try:
            self.all_is_settled()
        finally:
            self.loop.close()

    def all_is_settled(self) -> None:
        assert len(self.flights) == 0
        assert all(task.done() for task in self.closing)
        for caller in self.callers:
            assert caller.task.done(), "a caller was forgotten"
            self.check_outcome(caller)
        kept = [self.result_of(caller) for caller in self.callers]
        for share in self.given.shares:
            assert share.returned + (share in kept) == 1
        del kept
        self.callers.clear()
        gc.collect()
        assert not self.complaints

    def check_outcome(self, caller: Caller) -> None:
        task = caller.task
        if task.cancelled():
            ended_early = self.closing or any(work.cancelled or not work.started for work in self.works)
            assert caller.gone or ended_early
        elif (error := task.exception()) is not None:
            assert isinstance(error, BrokenWorkError | NoShareError)
        else:
            assert task.result().key == caller.key


TestFlightMachine = FlightMachine.TestCase
TestFlightMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
