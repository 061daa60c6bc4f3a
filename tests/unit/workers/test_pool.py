"""The pool: which worker a load goes to, what each carries, and who takes the place of a dead one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotset.errors import ConfigError, ErrorKind, LoadFailedError, UnavailableError, WorkerDiedError
from hotset.events import Event, EventBus, WorkerDied, WorkerStarted
from hotset.keys import ModelKey
from hotset.runtimes.ahead import Imports
from hotset.testing import FakeWorker, Gate, ManualClock, WorkerScript
from hotset.workers.base import DeathHandler, PredictCall
from hotset.workers.light_places import MOST_NOT_LIGHT, SLIGHT_BYTES
from hotset.workers.placement import WorkerLoad
from hotset.workers.pool import WorkerPool
from waiting import until

A, B, C = (ModelKey(name, 1) for name in "abc")


class StartingWorker(FakeWorker):
    """One whose start a test can hold up or fail; it knows whether it was closed."""

    def __init__(self, number: int, on_death: DeathHandler, bench: Bench) -> None:
        super().__init__(number, on_death, bench.script)
        self.is_closed = False
        self._bench = bench

    async def start(self) -> None:
        await self._bench.start_gates.get(self.id, Gate()).pass_through()
        fault = self._bench.start_faults.pop(self.id, None)
        if fault is not None:
            raise fault
        await super().start()

    async def close(self) -> None:
        self.is_closed = True
        await super().close()


class Bench:
    def __init__(self, count: int = 1, *, serving: int | None = None, hang_s: float = 300.0) -> None:
        self.script = WorkerScript()
        self.clock = ManualClock()
        self.made: list[StartingWorker] = []
        self.start_gates: dict[int, Gate] = {}
        self.start_faults: dict[int, Exception] = {}
        self.seen: list[Event] = []
        self.lost: list[int] = []
        self.pauses: list[float] = []
        self.rest = Gate()
        events = EventBus()
        events.subscribe(self.seen.append)
        self.pool = WorkerPool(
            self._make,
            count=count,
            serving=serving,
            clock=self.clock,
            events=events,
            hang_s=hang_s,
            on_lost=self._on_lost,
            sleep=self._sleep,
        )

    def _make(self, number: int, on_death: DeathHandler) -> StartingWorker:
        self.made.append(StartingWorker(number, on_death, self))
        return self.made[-1]

    def _on_lost(self, worker: int, _reason: str) -> int:
        self.lost.append(worker)
        return 3

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.rest.pass_through()

    def loads(self) -> list[tuple[int, int, int]]:
        return [(load.id, load.models, load.bytes) for load in self.pool.loads()]


@pytest.fixture
def path(tmp_path: Any) -> str:
    (tmp_path / "model.txt").write_text("contents")
    return str(tmp_path)


async def test_every_worker_is_up_after_the_start() -> None:
    bench = Bench(3)
    await bench.pool.start()
    assert [worker.id for worker in bench.pool.workers] == [1, 2, 3]
    assert bench.pool.size == 3
    assert [event.worker for event in bench.seen if isinstance(event, WorkerStarted)] == [1, 2, 3]


@pytest.mark.parametrize("gated", [1, 3])
async def test_a_worker_that_cannot_start_leaves_none_behind(gated: int) -> None:
    """Regression: one that came up after the failure of another stayed, and nobody closed it."""
    bench = Bench(3)
    bench.start_faults[2] = ConfigError("predictor.py, line 3: no load_model")
    bench.start_gates[gated] = Gate()
    bench.start_gates[gated].close()
    with pytest.raises(ConfigError, match="line 3"):
        await bench.pool.start()
    bench.start_gates[gated].open()
    await asyncio.sleep(0)
    assert bench.pool.workers == ()
    assert all(worker.is_closed for worker in bench.made)


async def test_a_load_goes_into_the_very_worker_that_is_named(path: str) -> None:
    bench = Bench(2)
    await bench.pool.start()
    for key in (A, B):
        assert (await bench.pool.load(key, path, worker=2)).worker.id == 2
    assert bench.loads() == [(1, 0, 0), (2, 2, 200)]


async def test_a_load_into_a_worker_that_is_not_up_fails_at_once(path: str) -> None:
    bench = Bench(2)
    await bench.pool.start()
    bench.rest.close()
    bench.made[1].die()
    with pytest.raises(UnavailableError, match="worker 2 is not up"):
        await bench.pool.load(A, path, worker=2)
    await bench.pool.close()


async def test_a_load_goes_where_most_room_is(path: str) -> None:
    bench = Bench(2)
    await bench.pool.start()
    bench.script.weights.update(a=500, b=100, c=100)
    for key in (A, B, C):
        await bench.pool.load(key, path)
    assert bench.loads() == [(1, 1, 500), (2, 2, 200)]


async def test_what_is_expected_counts_until_it_is_measured(path: str) -> None:
    bench = Bench(1)
    await bench.pool.start()
    bench.script.weights["a"] = 40
    gate = bench.script.gate("a")
    gate.close()
    loading = asyncio.create_task(bench.pool.load(A, path, expected_bytes=1000))
    await gate.arrived()
    assert bench.loads() == [(1, 1, 1000)]
    gate.open()
    resident = await loading
    assert bench.loads() == [(1, 1, 40)]
    await bench.pool.unload(resident)
    assert bench.loads() == [(1, 0, 0)]


async def test_a_load_that_fails_or_is_cancelled_counts_no_more(path: str) -> None:
    bench = Bench(1)
    await bench.pool.start()
    bench.script.load_faults["a"] = LoadFailedError("bad")
    with pytest.raises(LoadFailedError):
        await bench.pool.load(A, path, expected_bytes=10)
    gate = bench.script.gate("b")
    gate.close()
    loading = asyncio.create_task(bench.pool.load(B, path, expected_bytes=10))
    await gate.arrived()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert bench.loads() == [(1, 0, 0)]
    assert [load.loading for load in bench.pool.loads()] == [0]


async def test_handles_are_never_given_out_twice(path: str) -> None:
    bench = Bench(2)
    await bench.pool.start()
    residents = [await bench.pool.load(key, path) for key in (A, B, C)]
    bench.made[0].die()
    await until(lambda: len(bench.pool.workers) == 2)
    residents.append(await bench.pool.load(A, path))
    assert len({resident.handle for resident in residents}) == 4


async def test_a_resident_answers_under_its_own_handle(path: str) -> None:
    bench = Bench(1)
    await bench.pool.start()
    one, other = [await bench.pool.load(key, path) for key in (A, B)]
    assert (await other.predict(PredictCall(0, "", b""))).body == b"b@1|contents"
    assert (await one.predict(PredictCall(0, "", b""))).body == b"a@1|contents"


async def test_a_dead_worker_is_replaced_under_its_number(path: str) -> None:
    bench = Bench(2)
    await bench.pool.start()
    await bench.pool.load(A, path)
    dead = bench.made[0]
    dead.die("killed by signal 9")
    assert bench.lost == [1]
    assert [worker.id for worker in bench.pool.workers] == [2], "at once"
    await until(lambda: len(bench.pool.workers) == 2)
    assert [worker.id for worker in bench.pool.workers] == [1, 2]
    assert bench.pool.workers[0] is not dead
    assert dead.is_closed
    died = [event for event in bench.seen if isinstance(event, WorkerDied)]
    assert died == [WorkerDied(1, None, "killed by signal 9", 3)]
    assert bench.loads() == [(1, 0, 0), (2, 0, 0)]
    assert [status.restarts for status in bench.pool.statuses()] == [1, 0]


async def test_loads_wait_for_a_worker_to_come_up(path: str) -> None:
    bench = Bench(1)
    await bench.pool.start()
    bench.rest.close()
    bench.made[0].die()
    await bench.rest.arrived()
    loading = asyncio.create_task(bench.pool.load(A, path))
    await asyncio.sleep(0)
    assert not loading.done()
    bench.rest.open()
    assert (await loading).worker is bench.made[1]


async def test_a_load_that_no_worker_comes_up_for_is_not_the_model_s_fault(path: str) -> None:
    bench = Bench(1)
    await bench.pool.start()
    bench.rest.close()
    bench.made[0].die()
    await bench.rest.arrived()
    with pytest.raises(UnavailableError) as error:
        await bench.pool.load(A, path, wait_s=0.01)
    assert error.value.kind is ErrorKind.WORKER_DIED
    assert not isinstance(error.value, WorkerDiedError)
    await bench.pool.close()


async def test_what_was_in_a_dead_worker_is_unloaded_without_a_word(path: str) -> None:
    bench = Bench(1)
    await bench.pool.start()
    resident = await bench.pool.load(A, path)
    bench.made[0].die()
    await until(lambda: len(bench.pool.workers) == 1)
    await bench.pool.load(B, path)
    await bench.pool.unload(resident)
    assert bench.loads() == [(1, 1, 100)], "nothing is taken off the worker that took its place"


async def test_a_worker_whose_unload_hangs_is_given_up(path: str) -> None:
    bench = Bench(1, hang_s=0.01)
    await bench.pool.start()
    resident = await bench.pool.load(A, path)
    bench.script.unload_gate.close()
    await bench.pool.unload(resident)
    died = [event for event in bench.seen if isinstance(event, WorkerDied)]
    assert died == [WorkerDied(1, None, "the unload of a@1 took longer than 0.01 s", 3, "a@1")]
    await until(lambda: len(bench.pool.workers) == 1)
    assert bench.loads() == [(1, 0, 0)]


async def test_a_load_that_hangs_is_given_up(path: str) -> None:
    bench = Bench(1, hang_s=0.01)
    await bench.pool.start()
    bench.script.gate("a").close()
    with pytest.raises(LoadFailedError, match=r"not loaded within 0\.01 s"):
        await bench.pool.load(A, path)
    await until(lambda: len(bench.pool.workers) == 1)
    assert bench.loads() == [(1, 0, 0)]


async def test_a_load_under_way_in_a_worker_that_dies(path: str) -> None:
    bench = Bench(1)
    await bench.pool.start()
    gate = bench.script.gate("a")
    gate.close()
    loading = asyncio.create_task(bench.pool.load(A, path, expected_bytes=10))
    await gate.arrived()
    bench.made[0].die()
    with pytest.raises(WorkerDiedError):
        await loading
    await until(lambda: len(bench.pool.workers) == 1)
    assert bench.loads() == [(1, 0, 0)]


async def test_close_ends_workers_and_replacements() -> None:
    bench = Bench(2)
    await bench.pool.start()
    bench.start_gates[1] = Gate()
    bench.start_gates[1].close()
    bench.made[0].die()
    await bench.start_gates[1].arrived()
    await bench.pool.close()
    await bench.pool.close()
    assert bench.pool.workers == ()
    assert all(worker.is_closed for worker in bench.made)


async def test_a_worker_that_dies_while_it_is_closed_is_not_replaced() -> None:
    bench = Bench(1)
    await bench.pool.start()
    await bench.pool.close()
    bench.made[0].die()
    assert bench.lost == []
    assert len(bench.made) == 1


async def test_statuses_show_a_place_without_a_worker() -> None:
    bench = Bench(2)
    await bench.pool.start()
    bench.rest.close()
    bench.made[0].die()
    assert [(it.id, it.alive) for it in bench.pool.statuses()] == [(1, False), (2, True)]
    assert bench.pool.loads() == (WorkerLoad(2, 0, 0, 0),)
    assert bench.pool.queued == 0
    await bench.pool.close()


async def test_what_is_to_be_imported_is_told_to_all_that_are_up() -> None:
    bench = Bench(2)
    await bench.pool.start()
    bench.pool.import_ahead(Imports(shared=("sklearn",), own=("onnxruntime",)))
    assert bench.script.imported == ["sklearn", "onnxruntime"] * 2


async def test_a_load_has_workers_start_that_were_to_start_later(path: str) -> None:
    bench = Bench()
    bench.pool.open(asyncio.Event().wait())
    assert (await bench.pool.load(A, path)).worker.id == 1
    await bench.pool.close()


async def test_loads_stay_away_from_the_worker_that_predicts(path: str) -> None:
    bench = Bench(2)
    await bench.pool.start()
    hot = await bench.pool.load(A, path)
    for _ in range(5):
        bench.pool.loads()
        bench.clock.advance(1.0)
        for _ in range(100):
            await hot.predict(PredictCall(0, "json", b""))
    newcomers = [await bench.pool.load(ModelKey(f"m{number}", 1), path) for number in range(6)]
    assert {it.worker.id for it in newcomers} == {3 - hot.worker.id}


async def test_the_first_call_after_a_load_does_not_make_a_worker_busy(path: str) -> None:
    """Newcomers that are asked for once do not drive the next loads to where they disturb."""
    bench = Bench(2)
    await bench.pool.start()
    hot = await bench.pool.load(A, path)
    places = []
    for number in range(20):
        bench.clock.advance(0.1)
        for _ in range(3):
            await hot.predict(PredictCall(0, "json", b""))
        newcomer = await bench.pool.load(ModelKey(f"m{number}", 1), path)
        await newcomer.predict(PredictCall(0, "json", b""))
        places.append(newcomer.worker.id)
    assert set(places[3:]) == {3 - hot.worker.id}


async def test_loads_at_the_same_time_spread_over_workers_as_calm(path: str) -> None:
    bench = Bench(2)
    await bench.pool.start()
    gates = [bench.script.gate(name) for name in "ab"]
    for gate in gates:
        gate.close()
    loads = [asyncio.create_task(bench.pool.load(key, path)) for key in (A, B)]
    await until(lambda: sum(load.loading for load in bench.pool.loads()) == 2)
    assert [load.loading for load in bench.pool.loads()] == [1, 1]
    for gate in gates:
        gate.open()
    assert {it.worker.id for it in await asyncio.gather(*loads)} == {1, 2}
    assert [load.loading for load in bench.pool.loads()] == [0, 0]


async def test_what_is_known_to_be_light_goes_where_it_is_served(path: str) -> None:
    bench = Bench(3, serving=2)
    await bench.pool.start()
    bench.script.light = True
    large = [SLIGHT_BYTES + 1 + n for n in range(3)]
    first = [
        (await bench.pool.load(key, path, expected_bytes=n)).worker.id
        for n, key in zip(large, (A, B, C), strict=True)
    ]
    assert first == [1, 2, 3], "nobody knew"
    again = [(await bench.pool.load(key, path)).worker.id for key in (A, B, C, A, B, C)]
    assert set(again) == {1, 2}
    assert [bench.pool.suits(C, worker) for worker in (1, 2, 3, 4)] == [True, True, False, False]


async def test_what_is_as_small_as_what_was_light_is_taken_to_be_light(path: str) -> None:
    """Else small models that all fit into memory would be spread over all workers for good."""
    bench = Bench(3, serving=1)
    await bench.pool.start()
    bench.script.light = True
    names = [ModelKey(f"small-{number}", 1) for number in range(20)]
    assert {(await bench.pool.load(key, path, expected_bytes=100)).worker.id for key in names} == {1}
    large = [(await bench.pool.load(key, path, expected_bytes=1 << 20)).worker.id for key in (A, B)]
    assert large == [2, 3]
    assert [bench.pool.suits(C, worker, expected_bytes=100) for worker in (1, 2, 3)] == [True, False, False]
    bench.script.light = False
    assert (await bench.pool.load(A, path, expected_bytes=100)).worker.id == 1, "it was not, as it turned out"
    for number in range(1, MOST_NOT_LIGHT):
        other = await bench.pool.load(ModelKey(f"slow-{number}", 1), path, expected_bytes=100)
        assert other.worker.id == 1, "one is none of the others' fault"
    assert all(bench.pool.suits(C, worker, expected_bytes=100) for worker in (1, 2, 3))
    bench.script.light = True
    await bench.pool.load(names[0], path, expected_bytes=100)
    assert [bench.pool.suits(C, worker, expected_bytes=100) for worker in (1, 2, 3)] == [True, False, False]
    assert all(bench.pool.suits(A, worker, expected_bytes=100) for worker in (1, 2, 3)), "this one is known"


async def test_what_is_light_no_longer_goes_anywhere(path: str) -> None:
    bench = Bench(2, serving=1)
    await bench.pool.start()
    bench.script.light = True
    await bench.pool.load(A, path, worker=1)
    bench.script.light = False
    assert (await bench.pool.load(A, path)).worker.id == 1
    assert (await bench.pool.load(A, path)).worker.id == 2
    assert bench.pool.suits(A, 2)


async def test_what_is_light_takes_what_is_up(path: str) -> None:
    bench = Bench(2, serving=1)
    await bench.pool.start()
    bench.script.light = True
    await bench.pool.load(A, path, worker=2)
    bench.start_gates[1] = Gate()
    bench.start_gates[1].close()
    bench.made[0].die()
    assert (await bench.pool.load(A, path)).worker.id == 2
    bench.start_gates[1].open()


async def test_where_loads_are_wished_for_nothing_else_suits(path: str) -> None:
    bench = Bench(2)
    await bench.pool.start()
    bench.pool.wishes[A] = 2
    assert [bench.pool.suits(A, worker) for worker in (1, 2)] == [False, True]
    assert [bench.pool.suits(B, worker) for worker in (1, 2)] == [True, True]
