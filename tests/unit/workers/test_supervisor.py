"""That every place has a worker in it: their start, their deaths, their end."""

from __future__ import annotations

import asyncio

import pytest

from hotset.errors import ConfigError, UnavailableError, WorkerDiedError
from hotset.events import Event, EventBus, WorkerDied, WorkerStarted
from hotset.testing import FakeWorker, Gate, ManualClock, WorkerScript
from hotset.workers.base import DeathHandler, Worker
from hotset.workers.slot import STEADY_S, Slot
from hotset.workers.supervisor import Supervisor, restart_after_s
from waiting import until


class StartingWorker(FakeWorker):
    """One whose start a test can hold up or fail; it knows whether it was closed or killed."""

    def __init__(self, number: int, on_death: DeathHandler, bench: Bench) -> None:
        super().__init__(number, on_death, WorkerScript())
        self.is_closed = self.is_killed = False
        self._bench = bench

    async def start(self) -> None:
        await self._bench.gates.get(self.id, Gate()).pass_through()
        fault = self._bench.faults.pop(self.id, None)
        if fault is not None:
            raise fault

    async def close(self) -> None:
        await self._bench.closing.pass_through()
        self.is_closed = True

    def kill(self) -> None:
        self.is_killed = True


class Bench:
    def __init__(self, count: int = 1) -> None:
        self.clock = ManualClock()
        self.made: list[StartingWorker] = []
        self.gates: dict[int, Gate] = {}
        self.faults: dict[int, Exception] = {}
        self.closing = Gate()
        self.seen: list[Event] = []
        self.dead: list[tuple[int, str]] = []
        self.pauses: list[float] = []
        events = EventBus()
        events.subscribe(self.seen.append)
        self.supervisor = Supervisor(
            self._make,
            [Slot(number) for number in range(1, count + 1)],
            clock=self.clock,
            events=events,
            on_death=self._on_death,
            sleep=self._sleep,
        )

    def _make(self, number: int, on_death: DeathHandler) -> StartingWorker:
        self.made.append(StartingWorker(number, on_death, self))
        return self.made[-1]

    def _on_death(self, slot: Slot, worker: Worker, reason: str) -> None:
        assert slot.worker is None
        assert worker not in self.supervisor.workers
        self.dead.append((slot.number, reason))

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def held_up(self, number: int) -> Gate:
        """Starts in this place wait at the gate."""
        gate = self.gates[number] = Gate()
        gate.close()
        return gate

    @property
    def ups(self) -> list[int]:
        return [worker.id for worker in self.supervisor.workers]

    async def until_up(self, *numbers: int) -> None:
        await until(lambda: self.ups == list(numbers))

    def told(self) -> list[str]:
        return [event.reason for event in self.seen if isinstance(event, WorkerDied)]


async def test_every_worker_is_up_after_the_start() -> None:
    bench = Bench(3)
    await bench.supervisor.start()
    assert bench.ups == [1, 2, 3]
    assert [event.worker for event in bench.seen if isinstance(event, WorkerStarted)] == [1, 2, 3]
    assert not bench.supervisor.is_starting


@pytest.mark.parametrize("gated", [1, 3])
async def test_a_start_that_fails_leaves_none_that_comes_up_later(gated: int) -> None:
    bench = Bench(3)
    bench.faults[2] = ConfigError("predictor.py, line 3: no load_model")
    gate = bench.held_up(gated)
    with pytest.raises(ConfigError, match="line 3"):
        await bench.supervisor.start()
    gate.open()
    await bench.supervisor.close()
    assert bench.ups == []
    assert all(worker.is_closed for worker in bench.made)


async def test_a_dead_worker_is_told_and_replaced_under_its_number() -> None:
    bench = Bench(2)
    await bench.supervisor.start()
    dead = bench.made[0]
    dead.die("killed by signal 9")
    assert bench.dead == [(1, "killed by signal 9")], "at once"
    await bench.until_up(1, 2)
    assert dead.is_closed
    assert bench.supervisor.workers[0] is not dead
    dead.die("once more")
    assert len(bench.dead) == 1
    await bench.supervisor.close()


async def test_a_worker_that_keeps_dying_is_replaced_ever_more_slowly() -> None:
    bench = Bench()
    await bench.supervisor.start()
    for deaths in range(1, 5):
        bench.made[-1].die()
        await until(lambda deaths=deaths: len(bench.made) == deaths + 1 and bench.ups == [1])
    assert bench.pauses == [0.0, 0.1, 0.2, 0.4]
    bench.clock.advance(STEADY_S)
    bench.made[-1].die()
    await bench.until_up(1)
    assert bench.pauses[-1] == 0.0, "after a steady life it starts at once"


async def test_a_replacement_that_does_not_start_is_tried_again() -> None:
    bench = Bench()
    await bench.supervisor.start()
    bench.faults[1] = WorkerDiedError("not ready within 60 s")
    bench.made[0].die()
    await bench.until_up(1)
    assert len(bench.made) == 3
    assert bench.told() == ["did not start: not ready within 60 s"]
    assert all(worker.is_closed for worker in bench.made[:2])


def test_pauses_double_up_to_a_limit() -> None:
    assert [restart_after_s(deaths) for deaths in (0, 1, 2, 3)] == [0.0, 0.0, 0.1, 0.2]
    assert restart_after_s(1000) == 10.0


async def test_who_waits_hears_of_each_that_comes_up() -> None:
    bench = Bench(2)
    gate = bench.held_up(2)
    bench.supervisor.open(asyncio.Event().wait())
    await bench.supervisor.until(lambda: bench.ups, 30.0)
    both = asyncio.create_task(bench.supervisor.until(lambda: bench.ups == [1, 2], 30.0))
    await gate.arrived()
    assert not both.done()
    gate.open()
    await both
    await bench.supervisor.close()


async def test_nobody_waits_for_ever() -> None:
    bench = Bench()
    bench.held_up(1)
    bench.supervisor.open(asyncio.sleep(0))
    with pytest.raises(UnavailableError, match=r"no worker came up within 0\.01 s"):
        await bench.supervisor.until(lambda: bench.ups, 0.01)
    await bench.supervisor.close()


class TestOpening:
    """Workers that start in the background."""

    async def test_they_start_once_the_time_has_come(self) -> None:
        bench = Bench(2)
        time_has_come = asyncio.Event()
        bench.supervisor.open(time_has_come.wait())
        assert bench.supervisor.is_starting
        await asyncio.sleep(0)
        assert bench.made == []
        time_has_come.set()
        await until(lambda: not bench.supervisor.is_starting)
        assert bench.ups == [1, 2]
        await bench.supervisor.close()

    async def test_who_waits_for_one_is_reason_enough(self) -> None:
        bench = Bench()
        bench.supervisor.open(asyncio.Event().wait())
        await bench.supervisor.until(lambda: bench.ups, 30.0)
        await bench.supervisor.close()

    async def test_a_start_that_fails_is_tried_again_and_holds_up_no_other(self) -> None:
        bench = Bench(2)
        bench.faults[1] = WorkerDiedError("not ready within 60 s")
        bench.supervisor.open(asyncio.sleep(0))
        await bench.until_up(1, 2)
        assert bench.told() == ["did not start: not ready within 60 s"]
        await bench.supervisor.close()

    async def test_what_fails_to_start_is_not_starting_any_more(self) -> None:
        bench = Bench()
        bench.faults[1] = WorkerDiedError("not ready within 60 s")
        time_has_come = asyncio.Event()
        bench.supervisor.open(time_has_come.wait())
        assert bench.supervisor.is_starting
        time_has_come.set()
        await until(bench.told)
        assert (
            not bench.supervisor.is_starting
        )  # it is tried again, but a server without workers is not ready
        await bench.supervisor.close()

    async def test_who_is_closed_meanwhile_starts_none(self) -> None:
        bench = Bench()
        bench.supervisor.open(asyncio.Event().wait())
        await asyncio.sleep(0)
        await bench.supervisor.close()
        assert not bench.supervisor.is_starting
        assert bench.made == []


class TestEnd:
    async def test_it_ends_workers_and_replacements(self) -> None:
        bench = Bench(2)
        await bench.supervisor.start()
        gate = bench.held_up(1)
        bench.made[0].die()
        await gate.arrived()
        await bench.supervisor.close()
        await bench.supervisor.close()
        assert bench.ups == []
        assert all(worker.is_closed for worker in bench.made)

    async def test_a_worker_that_dies_meanwhile_is_neither_told_nor_replaced(self) -> None:
        bench = Bench()
        await bench.supervisor.start()
        await bench.supervisor.close()
        bench.made[0].die()
        assert bench.dead == []
        assert len(bench.made) == 1

    async def test_those_that_are_closing_can_still_be_killed(self) -> None:
        bench = Bench(2)
        await bench.supervisor.start()
        bench.closing.close()
        closing = asyncio.create_task(bench.supervisor.close())
        await bench.closing.arrived()
        bench.supervisor.kill()
        assert [worker.is_killed for worker in bench.made] == [True, True]
        bench.closing.open()
        await closing
