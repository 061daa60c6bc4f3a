"""A child that dies, or goes wrong, with large bodies and answers in shared memory."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hotset.errors import ConfigError, WorkerDiedError
from hotset.shared.arena import LARGE_BYTES, Segment
from hotset.shared.room import Room
from hotset.workers.base import PredictCall
from hotset.workers.process import ProcessWorker
from shared_room import arena_of, opened_room
from waiting import until
from worker_fixtures import LIMIT_S, Bench, open_files_kept

MIB = 1 << 20

PREDICTOR = '''
import pathlib


class Predictor:
    """Waits at a gate where there is one, then answers with what it was asked for."""

    def load_model(self, disk_path):
        return pathlib.Path(disk_path) / "gate"

    def predict(self, model, payload: memoryview):
        if model.exists():
            model.read_bytes()
        return bytes(payload)
'''


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.predictor.write_text(PREDICTOR)
    return bench


@pytest.fixture(name="room")
async def _room() -> AsyncIterator[Room]:
    with opened_room(8 * MIB) as room:
        yield room


def segment(room: Room, data: bytes) -> Segment:
    found = arena_of(room).holding(data)
    assert found is not None
    return found


def worker_over(bench: Bench, room: Room, **options: object) -> ProcessWorker:
    return ProcessWorker(7, options=bench.options(**options), on_death=bench.on_death, bodies=room.arena)


def call(handle: int, body: Segment | bytes) -> PredictCall:
    return PredictCall(handle, "native", body, "application/octet-stream")


async def test_a_child_killed_with_bodies_in_hand_holds_none_of_them(bench: Bench, room: Room) -> None:
    with open_files_kept():
        worker = worker_over(bench, room)
        async with bench.running(worker):
            spec = bench.spec()
            os.mkfifo(Path(spec.path) / "gate")
            await worker.load(spec)
            calls = [worker.predict(call(spec.handle, segment(room, bytes(MIB)))) for _ in range(4)]
            await until(lambda: arena_of(room).used == 4 * MIB)
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, WorkerDiedError)
            assert arena_of(room).used == 0


async def test_a_body_is_tried_again_in_another_child(bench: Bench, room: Room) -> None:
    first, second = worker_over(bench, room), worker_over(bench, room)
    body = segment(room, b"a" * MIB)
    async with bench.running(first), bench.running(second):
        stuck, good = bench.spec("stuck"), bench.spec("good")
        os.mkfifo(Path(stuck.path) / "gate")
        await first.load(stuck)
        await second.load(good)
        answering = first.predict(call(stuck.handle, body))
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError):
            await answering
        answer = await second.predict(call(good.handle, body))
        assert answer.body == b"a" * MIB


async def test_an_answer_outlives_the_child_that_gave_it(bench: Bench, room: Room) -> None:
    worker = worker_over(bench, room)
    async with bench.running(worker):
        spec = bench.spec()
        await worker.load(spec)
        answer = await worker.predict(call(spec.handle, segment(room, b"b" * MIB)))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await asyncio.wait_for(bench.died.wait(), LIMIT_S)
        assert isinstance(answer.body, memoryview)
        assert answer.body == b"b" * MIB
        del answer  # nobody is left to be told


async def test_a_worker_closed_with_bodies_in_hand_holds_none_of_them(bench: Bench, room: Room) -> None:
    worker = worker_over(bench, room, close_timeout_s=0.2)
    await worker.start()
    spec = bench.spec()
    os.mkfifo(Path(spec.path) / "gate")
    await worker.load(spec)
    answering = worker.predict(call(spec.handle, segment(room, bytes(MIB))))
    await worker.close()
    with pytest.raises(WorkerDiedError):
        await answering
    assert arena_of(room).used == 0


CHILD = """
import os, socket, sys, time
from hotset.workers import framing, wire
control, data = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
_, files, _, _ = socket.recv_fds(control, 65536, 2)
control.sendall(framing.frame_head(wire.Ready()))
data.recv(65536)
"""


def scripted(bench: Bench, room: Room, text: str) -> ProcessWorker:
    path = bench.path / "child.py"
    path.write_text(CHILD + text + "\ntime.sleep(600)\n")
    return worker_over(bench, room, command=(sys.executable, str(path)), close_timeout_s=0.2)


@pytest.mark.parametrize("place", ["(0, 1 << 40)", "(-5, 10)", "(0, 0)", "(1 << 62, 1 << 62)"])
async def test_a_child_whose_answer_is_nowhere_is_ended(bench: Bench, room: Room, place: str) -> None:
    answer = f"data.sendall(framing.frame_head(wire.Answer(1, '', (), wire.Place(*{place}))))"
    worker = scripted(bench, room, answer)
    async with bench.running(worker):
        with pytest.raises(WorkerDiedError):
            await worker.predict(call(1, segment(room, bytes(LARGE_BYTES))))
        await asyncio.wait_for(bench.died.wait(), LIMIT_S)
        assert bench.deaths == ["killed by signal 9 (SIGKILL)"]
        assert arena_of(room).used == 0


async def test_a_child_that_says_too_much_is_gone_does_no_harm(bench: Bench, room: Room) -> None:
    text = """
for number in (1, 1, 99, 1):
    data.sendall(framing.frame_head(wire.Freed(number)))
data.sendall(framing.frame_head(wire.Answer(1, 'text/plain', ()), 4) + b'good')
"""
    worker = scripted(bench, room, text)
    async with bench.running(worker):
        answer = await worker.predict(call(1, segment(room, bytes(LARGE_BYTES))))
        assert answer.body == b"good"


async def test_a_child_that_cannot_map_the_memory_says_so(bench: Bench) -> None:
    """As under a limit on address space; the child's own limit is set by its kit's module."""
    (bench.path / "limited.py").write_text(
        "import resource\n"
        "from hotset.workers.standard import standard_kit\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), used + (2 << 30)))\n"
    )
    room = Room(4 << 30)
    room.open()
    worker = worker_over(
        bench,
        room,
        kit="limited:standard_kit",
        environment={**os.environ, "PYTHONPATH": f"{bench.path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    with pytest.raises(ConfigError, match="memory for large payloads could not be mapped"):
        await worker.start()
    await worker.close()
    room.close()


async def test_a_gateway_without_files_left_says_so(
    bench: Bench, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_size: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("hotset.workers.payload_memory.create_file", none_left)
    worker = worker_over(bench, room)
    with open_files_kept():
        with pytest.raises(WorkerDiedError, match=r"could be shared with the child: .*Too many open files"):
            await worker.start()
        await worker.close()
