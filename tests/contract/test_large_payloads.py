"""Large bodies and answers, through shared memory and beside it: right, unmixed, and nothing left of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotset.payload import Encoded
from hotset.shared.arena import LARGE_BYTES, Arena, Payload
from hotset.shared.extents import GRAIN_BYTES
from hotset.shared.room import Room
from hotset.workers.base import PredictCall, Worker
from hotset.workers.process import ProcessWorker
from hotset.workers.thread import ThreadWorker
from shared_room import arena_of, opened_room
from waiting import until
from worker_fixtures import Bench

MIB = 1 << 20

PREDICTOR = '''
import hashlib


class Predictor:
    """A body says what to do in its first line; what it asks for depends on all of it."""

    def __init__(self):
        self.kept = []
        self.buffer = bytearray(4 << 20)

    def load_model(self, disk_path):
        return None

    def predict(self, model, payload: memoryview):
        assert isinstance(payload, memoryview) and payload.readonly
        verb, _, rest = bytes(payload[:40]).partition(b" ")
        return getattr(self, verb.decode())(payload, int(rest.split(b" ")[0]))

    def answer(self, payload, size):
        mark = hashlib.sha256(payload).digest()
        return (mark * (size // len(mark) + 1))[:size]

    def buffered(self, payload, size):
        self.buffer[:size] = self.answer(payload, size)
        return memoryview(self.buffer)[:size]

    def echo(self, payload, _):
        return payload

    def keep(self, payload, _):
        self.kept.append(payload[10:])
        return b"kept"

    def kept_so_far(self, payload, _):
        return hashlib.sha256(b"".join(self.kept)).digest()

    def forget(self, payload, _):
        self.kept.clear()
        return b"forgotten"
'''


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.predictor.write_text(PREDICTOR)
    return bench


@pytest.fixture(name="room")
async def _room() -> AsyncIterator[Room]:
    with opened_room(32 * MIB) as room:
        yield room


MakeWorker = Callable[..., Worker]


@pytest.fixture(params=["shared", "sent", "thread"])
def make_worker(request: pytest.FixtureRequest, bench: Bench, room: Room) -> MakeWorker:
    def make(*, threads: int = 1, bodies: Arena | None = None) -> Worker:
        if request.param == "thread":
            worker = bench.thread_worker(threads=threads)
            assert isinstance(worker, ThreadWorker)
            return worker
        options = bench.options(threads=threads)
        shared = (bodies or room.arena) if request.param == "shared" else None
        return ProcessWorker(7, options=options, on_death=bench.on_death, bodies=shared)

    return make


def in_segment(room: Room, body: bytes) -> Payload:
    """Return a body as the gateway has it: in shared memory if it is large and there is room now."""
    segment = arena_of(room).holding(body) if len(body) >= LARGE_BYTES else None
    return body if segment is None else segment


def asking(verb: str, size: int, *, body_bytes: int = 0, seed: int = 0) -> bytes:
    head = f"{verb} {size} ".encode()
    return head + random.Random(seed).randbytes(max(0, body_bytes - len(head)))


def call(handle: int, body: Payload) -> PredictCall:
    return PredictCall(handle, "native", body, "application/octet-stream")


def expected(body: bytes, size: int) -> bytes:
    mark = hashlib.sha256(body).digest()
    return (mark * (size // len(mark) + 1))[:size]


async def ask(worker: Worker, room: Room, handle: int, body: bytes) -> bytes:
    return bytes((await worker.predict(call(handle, in_segment(room, body)))).body)


SIZES = (1, 100, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 3 * LARGE_BYTES + 7, MIB + 1)


def some_size(draw: random.Random) -> int:
    return draw.choice((*SIZES, draw.randrange(1, 2 * MIB)))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("verb", ["answer", "buffered"])
async def test_any_sizes_both_ways_and_at_once_come_back_right_and_unmixed(
    bench: Bench, room: Room, make_worker: MakeWorker, verb: str, threads: int
) -> None:
    if verb == "buffered" and threads > 1:
        pytest.skip("one buffer for answers is no good with several threads, however they are sent")
    draw = random.Random(f"{verb} {threads}")
    async with bench.running(make_worker(threads=threads)) as worker:
        spec = bench.spec()
        await worker.load(spec)

        async def one(number: int) -> None:
            size = some_size(draw)
            body = asking(verb, size, body_bytes=some_size(draw), seed=number)
            assert await ask(worker, room, spec.handle, body) == expected(body, size), (len(body), size)

        for _ in range(6):
            await asyncio.gather(*map(one, range(10)))
        await until(lambda: arena_of(room).used == 0)


async def test_a_body_may_be_the_answer(bench: Bench, room: Room, make_worker: MakeWorker) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        for size in SIZES:
            body = asking("echo", 0, body_bytes=size + 20)
            assert await ask(worker, room, spec.handle, body) == body


async def test_what_user_code_keeps_stays_as_it_was(
    bench: Bench, room: Room, make_worker: MakeWorker
) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        kept = [asking("keep", 0, body_bytes=LARGE_BYTES * 2, seed=seed) for seed in range(3)]
        for body in kept:
            assert await ask(worker, room, spec.handle, body) == b"kept"
        for seed in range(5):
            await ask(worker, room, spec.handle, asking("answer", 1, body_bytes=2 * LARGE_BYTES, seed=seed))
        found = await ask(worker, room, spec.handle, b"kept_so_far 0 ")
        assert found == hashlib.sha256(b"".join(body[10:] for body in kept)).digest()
        await ask(worker, room, spec.handle, b"forget 0 ")
        await until(lambda: arena_of(room).used == 0)


async def test_answers_stay_as_they_are_while_others_come(
    bench: Bench, room: Room, make_worker: MakeWorker
) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        bodies = [asking("buffered", MIB, body_bytes=100, seed=seed) for seed in range(40)]
        answers: list[Encoded] = [await worker.predict(call(spec.handle, body)) for body in bodies]
        found = [
            bytes(answer.body) == expected(body, MIB) for answer, body in zip(answers, bodies, strict=True)
        ]
        assert all(found), "40 answers of 1 MiB, and room for 32"


async def test_an_answer_for_which_there_is_no_room_is_sent(
    bench: Bench, make_worker: MakeWorker, room: Room
) -> None:
    small = Room(4 * GRAIN_BYTES)
    small.open()
    async with bench.running(make_worker(bodies=small.arena)) as worker:
        spec = bench.spec()
        await worker.load(spec)
        for size in (LARGE_BYTES, 2 * LARGE_BYTES, 3 * LARGE_BYTES, LARGE_BYTES):
            body = asking("answer", size)
            assert await ask(worker, room, spec.handle, body) == expected(body, size)
    small.close()


async def test_a_call_that_nobody_waits_for_any_more_gives_its_memory_back(
    bench: Bench, room: Room, make_worker: MakeWorker
) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        for seed in range(40):
            body = in_segment(room, asking("answer", MIB, body_bytes=MIB, seed=seed))
            answering = asyncio.ensure_future(worker.predict(call(spec.handle, body)))
            del body
            await asyncio.sleep(0)
            answering.cancel()
            await until(lambda: worker.queued == 0 and arena_of(room).used == 0)


@pytest.mark.slow
async def test_a_thousand_large_calls_leave_nothing(bench: Bench, room: Room) -> None:
    worker = ProcessWorker(7, options=bench.options(), on_death=bench.on_death, bodies=room.arena)
    async with bench.running(worker):
        spec = bench.spec()
        await worker.load(spec)
        child, gateway = psutil.Process(worker.pid), psutil.Process()

        async def calls(count: int) -> None:
            for seed in range(count):
                size = LARGE_BYTES + seed * 1009 % MIB
                answer = await worker.predict(call(spec.handle, in_segment(room, b"echo 0 " + bytes(size))))
                assert len(answer.body) == size + 7

        def found() -> dict[str, Any]:
            return {
                "files": (child.num_fds(), gateway.num_fds()),
                "maps": (len(child.memory_maps(grouped=False)), len(gateway.memory_maps(grouped=False))),
            }

        await calls(100)
        before, resident = found(), child.memory_info().rss
        await calls(1000)
        await until(lambda: not worker._memory.lent)
        after = found()
        assert after["files"] == before["files"]
        assert all(now <= then + 5 for now, then in zip(after["maps"], before["maps"], strict=True))
        assert child.memory_info().rss < resident + 8 * MIB
        assert arena_of(room).used == 0
        assert os.fstat(arena_of(room).file).st_blocks * 512 <= 4 * MIB, "the same few pages, again and again"
