"""Children that hold one model each: whose they are, when they end, and what is told of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hotset.errors import (
    ConfigError,
    ErrorKind,
    LoadFailedError,
    OverloadedError,
    UnavailableError,
    WorkerDiedError,
)
from hotset.events import Event, EventBus, WorkerDied, WorkerStarted
from hotset.keys import DiskFile, ModelKey
from hotset.testing import FakeWorker, Gate, ManualClock, WorkerScript
from hotset.workers.base import DeathHandler
from hotset.workers.intact import Files
from hotset.workers.own_children import OwnProcesses, unique_bytes
from hotset.workers.placement import OwnRule
from hotset.workers.pool import Resident, WorkerPool
from hotset.workers.standard import keeps_memory
from waiting import until

A, B, C = (ModelKey(name, 1) for name in "abc")
LARGE = 1000


class StartingWorker(FakeWorker):
    """One whose start a test can fail; it knows whether it was closed."""

    def __init__(self, number: int, on_death: DeathHandler, bench: Bench) -> None:
        super().__init__(number, on_death, bench.script)
        self.is_closed = False
        self._bench = bench

    async def start(self) -> None:
        if self.id > self._bench.pool.size and self._bench.start_fault is not None:
            raise self._bench.start_fault
        await super().start()

    async def close(self) -> None:
        await self._bench.close_gate.pass_through()
        self.is_closed = True
        await super().close()


class Bench:
    """A pool of two shared workers on fakes, in which what weighs more than 100 lives alone."""

    def __init__(
        self, *, everyone: bool = False, most: int = 2, keepers: tuple[str, ...] = (), hang_s: float = 300.0
    ) -> None:
        self.script = WorkerScript()
        self.made: list[StartingWorker] = []
        self.seen: list[Event] = []
        self.lost: list[int] = []
        self.prepared: list[Files] = []
        self.close_gate = Gate()
        self.start_fault: Exception | None = None
        self._keepers = keepers
        events = EventBus()
        events.subscribe(self.seen.append)
        rule = OwnRule(everyone=everyone, above_bytes=100, most=most)
        self.pool = WorkerPool(
            self._make,
            count=0 if everyone else 2,
            own=OwnProcesses(rule, self._keeps if keepers else None, self.prepared.append),
            clock=ManualClock(),
            events=events,
            hang_s=hang_s,
            on_lost=self._on_lost,
        )

    def _make(self, number: int, on_death: DeathHandler) -> StartingWorker:
        self.made.append(StartingWorker(number, on_death, self))
        return self.made[-1]

    def _on_lost(self, worker: int, _reason: str) -> int:
        self.lost.append(worker)
        return 1

    async def _keeps(self, path: str, files: Files) -> bool:
        return Path(path).name in self._keepers

    @property
    def alone(self) -> list[int]:
        return [status.id for status in self.pool.statuses() if status.model]

    def closed(self) -> list[bool]:
        return [worker.is_closed for worker in self.made]


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "model.txt").write_text("contents")
    return str(tmp_path)


async def opened(**options: Any) -> Bench:
    bench = Bench(**options)
    await bench.pool.start()
    return bench


async def test_small_models_share_and_a_large_one_lives_alone(path: str) -> None:
    bench = await opened()
    small = [await bench.pool.load(key, path, expected_bytes=100) for key in (A, B)]
    large = await bench.pool.load(C, path, expected_bytes=LARGE, files=(DiskFile("model.txt", 8),))
    assert {it.worker.id for it in small} == {1, 2}
    assert large.worker.id == 3
    assert bench.prepared == [(DiskFile("model.txt", 8),)]
    assert [worker.id for worker in bench.pool.workers] == [1, 2]
    assert [worker.id for worker in bench.pool.everyone] == [1, 2, 3]
    assert bench.pool.is_up(large.worker)
    assert [(it.id, it.models, it.model) for it in bench.pool.statuses()] == [
        (1, 1, ""), (2, 1, ""), (3, 1, "c@1"),
    ]  # fmt: skip
    started = [event for event in bench.seen if isinstance(event, WorkerStarted)]
    assert [(it.worker, it.key) for it in started] == [(1, None), (2, None), (3, C)]
    await bench.pool.close()
    assert all(bench.closed())


async def test_its_unload_ends_it_and_is_over_when_it_is_gone(path: str) -> None:
    bench = await opened()
    large = await bench.pool.load(A, path, expected_bytes=LARGE)
    bench.close_gate.close()
    unloading = asyncio.create_task(bench.pool.unload(large))
    await bench.close_gate.arrived()
    assert bench.script.live == {}  # the model's own hook came first
    assert not unloading.done()
    bench.close_gate.open()
    await unloading
    assert bench.alone == []
    assert bench.closed() == [False, False, True]
    assert bench.lost == []
    assert not bench.pool.is_up(large.worker)
    again = await bench.pool.load(B, path, expected_bytes=LARGE)
    assert again.worker.id == 3  # so that metrics do not grow with every load
    await bench.pool.close()


async def test_its_death_costs_its_model_alone(path: str) -> None:
    bench = await opened()
    for key in (A, B):
        await bench.pool.load(key, path, expected_bytes=LARGE)
    bench.made[2].die("killed by signal 9 (SIGKILL)")
    assert bench.lost == [3]
    died = [event for event in bench.seen if isinstance(event, WorkerDied)]
    assert [(it.worker, it.reason, it.lost_models) for it in died] == [(3, "killed by signal 9 (SIGKILL)", 1)]
    await until(lambda: bench.alone == [4])
    assert len(bench.made) == 4  # nobody takes its place before its model is loaded again
    await bench.pool.close()


async def test_what_was_in_one_that_died_counts_as_unloaded(path: str) -> None:
    bench = await opened()
    large = await bench.pool.load(A, path, expected_bytes=LARGE)
    bench.made[2].die()
    await until(lambda: bench.alone == [])
    await bench.pool.load(B, path, expected_bytes=LARGE)  # under the same number
    await bench.pool.unload(large)
    assert bench.alone == [3]
    await bench.pool.close()


async def test_a_load_that_fails_leaves_none_behind(path: str) -> None:
    bench = await opened()
    bench.script.load_faults["a"] = LoadFailedError("bad magic")
    with pytest.raises(LoadFailedError, match="bad magic"):
        await bench.pool.load(A, path, expected_bytes=LARGE)
    assert bench.alone == []
    assert bench.closed() == [False, False, True]
    await bench.pool.close()


async def test_one_that_dies_in_its_load_says_so(path: str) -> None:
    bench = await opened()
    gate = bench.script.gate("a")
    gate.close()
    loading = asyncio.create_task(bench.pool.load(A, path, expected_bytes=LARGE))
    await gate.arrived()
    bench.made[2].die("exited with status 1")
    with pytest.raises(WorkerDiedError, match="status 1"):
        await loading
    assert bench.alone == []
    await bench.pool.close()


async def test_a_load_that_nobody_wants_any_more_leaves_none_behind(path: str) -> None:
    bench = await opened()
    gate = bench.script.gate("a")
    gate.close()
    loading = asyncio.create_task(bench.pool.load(A, path, expected_bytes=LARGE))
    await gate.arrived()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await until(lambda: bench.alone == [])
    assert bench.made[2].is_closed
    await bench.pool.close()


async def test_a_load_that_hangs_is_ended_with_its_child(path: str) -> None:
    bench = await opened(hang_s=0.01)
    bench.script.gate("a").close()
    with pytest.raises(LoadFailedError, match="raise load_timeout"):
        await bench.pool.load(A, path, expected_bytes=LARGE)
    assert bench.alone == []
    assert bench.made[2].is_closed
    await bench.pool.close()


async def test_an_unload_that_hangs_is_ended_with_its_child(path: str) -> None:
    bench = await opened(hang_s=0.01)
    large = await bench.pool.load(A, path, expected_bytes=LARGE)
    bench.script.unload_gate.close()
    await bench.pool.unload(large)
    assert bench.alone == []
    assert bench.made[2].is_closed
    await bench.pool.close()


async def test_past_the_most_of_them_large_models_share(path: str) -> None:
    bench = await opened(most=1)
    await bench.pool.load(A, path, expected_bytes=LARGE)
    assert (await bench.pool.load(B, path, expected_bytes=LARGE)).worker.id <= 2
    await bench.pool.close()


async def test_what_must_not_share_waits_for_one_that_was_not_used_for_long(tmp_path: Path) -> None:
    bench = await opened(most=1, keepers=("gpu",))
    folder = tmp_path / "gpu"
    folder.mkdir()
    for name in ("model.yaml", "saved_model.pb"):
        (folder / name).write_text("x")
    files = (DiskFile("model.yaml", 1), DiskFile("saved_model.pb", 1))
    held: list[Resident] = [await bench.pool.load(A, str(folder), files=files)]
    ended = asyncio.Event()

    def make_room() -> bool:
        bench.pool.begin_unload(held.pop(), ended.set)
        return True

    assert bench.pool.own is not None
    bench.pool.own.make_room = make_room
    second = await bench.pool.load(B, str(folder), files=files)
    assert ended.is_set()
    assert bench.alone == [second.worker.id]
    bench.pool.own.make_room = lambda: False
    with pytest.raises(OverloadedError, match="max_own_processes") as refused:
        await bench.pool.load(C, str(folder), files=files, wait_s=0.01)
    assert refused.value.kind is ErrorKind.NO_ROOM
    await bench.pool.close()


async def test_where_none_can_be_started_a_large_model_shares(path: str) -> None:
    bench = await opened()
    bench.start_fault = WorkerDiedError("the system could not start a child process: no more of them")
    resident = await bench.pool.load(A, path, expected_bytes=LARGE)
    assert resident.worker.id <= 2
    assert bench.alone == []
    reasons = [event.reason for event in bench.seen if isinstance(event, WorkerDied)]
    assert reasons == ["did not start: the system could not start a child process: no more of them"]
    await bench.pool.close()


async def test_what_goes_into_a_certain_worker_goes_there(path: str) -> None:
    bench = await opened()
    assert (await bench.pool.load(A, path, expected_bytes=LARGE, worker=2)).worker.id == 2
    await bench.pool.close()


async def test_its_room_cannot_be_that_of_those_who_leave_a_shared_worker(path: str) -> None:
    """They may still be there when its own process is loaded; whoever asked for it waits for the room then."""
    bench = await opened()
    small = await bench.pool.load(A, path)
    with pytest.raises(OverloadedError, match="a child of its own"):
        await bench.pool.load(B, path, expected_bytes=LARGE, worker=1, after=(small.handle,))
    await bench.pool.close()


@pytest.mark.parametrize(
    ("file", "model_yaml", "expected"),
    [
        ("saved_model.pb", "device: cuda", True),
        ("model.keras", "device: cuda:1", True),
        ("saved_model.pb", "device: cpu", False),
        ("saved_model.pb", None, False),
        ("model.bin", "runtime: tensorflow\ndevice: cuda", True),
        ("model.onnx", "device: cuda", False),
        ("notes.txt", "device: cuda", False),
        ("saved_model.pb", "device: [", False),
    ],
)
def test_a_framework_says_where_it_keeps_memory(
    tmp_path: Path, file: str, model_yaml: str | None, expected: bool
) -> None:
    """What is wrong with a version is its load's to tell."""
    (tmp_path / file).write_text("x")
    if model_yaml is not None:
        (tmp_path / "model.yaml").write_text(model_yaml)
    files = tuple(DiskFile(path.name, path.stat().st_size) for path in tmp_path.iterdir())
    assert keeps_memory(str(tmp_path), files) is expected


class TestEveryModelAlone:
    async def test_there_are_no_others(self, path: str) -> None:
        bench = await opened(everyone=True)
        assert bench.pool.can_serve
        assert bench.pool.size == 0
        first, second = [await bench.pool.load(key, path) for key in (A, B)]
        assert [first.worker.id, second.worker.id] == [1, 2]
        await bench.pool.close()
        assert all(bench.closed())

    async def test_a_predictor_that_does_not_fit_is_told_at_the_start(self) -> None:
        bench = Bench(everyone=True)
        bench.start_fault = ConfigError("predictor.py, line 3: no load_model")
        with pytest.raises(ConfigError, match="line 3"):
            await bench.pool.start()
        assert bench.closed() == [True]

    async def test_one_that_cannot_be_started_is_not_the_models_fault(self, path: str) -> None:
        bench = await opened(everyone=True)
        bench.start_fault = WorkerDiedError("the child was not ready within 60 s")
        with pytest.raises(UnavailableError, match="no child process could be started for a@1") as told:
            await bench.pool.load(A, path)
        assert told.value.kind is ErrorKind.WORKER_DIED
        await bench.pool.close()


async def test_what_cannot_be_measured_is_as_the_load_says(path: str) -> None:
    assert unique_bytes(None) is None
    assert unique_bytes(2**22 + 1) is None
    bench = await opened()
    bench.script.weights["a"] = 77
    assert (await bench.pool.load(A, path, expected_bytes=LARGE)).reply.bytes == 77
    await bench.pool.close()
