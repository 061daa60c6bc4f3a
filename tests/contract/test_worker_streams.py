"""The contract of ``Worker`` for what ``predict`` does not answer at once: coroutines, and answers in parts."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hotset.errors import (
    ErrorKind,
    InvalidInputError,
    LoadFailedError,
    PredictFailedError,
    UnavailableError,
    UnsupportedError,
    WorkerDiedError,
)
from hotset.payload import Encoded, Rest, Streamed
from hotset.workers.answers import PIECE_BYTES, WINDOW
from hotset.workers.base import Worker
from hotset.workers.streamthreads import MOST
from waiting import until
from worker_fixtures import LIMIT_S, Bench, call

PREDICTOR = """
import asyncio
import os
import signal
import threading

from hotset import InvalidInputError, Stream

RAISED = {"value": ValueError, "memory": MemoryError, "input": InvalidInputError, "cancelled": asyncio.CancelledError}


class Predictor:
    def __init__(self):
        self.made = 0
        self.closed = 0
        self.inside = 0
        self.all_inside = asyncio.Event()
        self.go_on = threading.Event()

    def load_model(self, disk_path):
        return {}

    def predict(self, payload):
        do = payload["do"] if isinstance(payload["do"], str) else payload.pop("do")[0]  # over OIP an array
        if do == "count":
            return {"made": self.made, "closed": self.closed, "inside": self.inside}
        if do == "go on":
            self.go_on.set()
            return {}
        return getattr(self, do)(**{name: value for name, value in payload.items() if name != "do"})

    async def meet(self, count):
        self.inside += 1
        if self.inside == count:
            self.all_inside.set()
        await self.all_inside.wait()
        return {"met": count, "thread": threading.current_thread().name}

    async def wait(self):
        self.inside += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.closed += 1

    async def wait_for(self):
        self.inside += 1
        while not self.go_on.is_set():
            await asyncio.sleep(0.001)
        return {"waited": True}

    async def fail(self, kind):
        await asyncio.sleep(0)
        raise RAISED[kind]("as told")

    async def ping(self):
        return {"pong": [1.5]}

    async def text(self, count):
        return "x" * count

    def parts(self, parts, raises="", type=None, gate=False):
        return Stream(self._parts(parts, raises, gate), type) if type else self._parts(parts, raises, gate)

    async def later_parts(self, parts):
        return self._parts(parts, "", False)

    def listed(self, parts, type):
        return Stream(parts, type)

    def _parts(self, parts, raises, gate):
        try:
            for part in parts:
                self.made += 1
                yield bytes.fromhex(part[4:]) if isinstance(part, str) and part.startswith("hex:") else part
                if gate:
                    self.go_on.wait(20)
            if raises:
                raise RAISED[raises]("as told")
        finally:
            self.closed += 1

    async def async_parts(self, parts, raises=""):
        try:
            for part in parts:
                self.made += 1
                yield part
                await asyncio.sleep(0)
            if raises:
                raise RAISED[raises]("as told")
        finally:
            self.closed += 1

    def many(self, size=0):
        try:
            while True:
                self.made += 1
                yield "y" * size or str(self.made)
        finally:
            self.closed += 1

    async def async_many(self, size=0):
        try:
            while True:
                self.made += 1
                yield "y" * size or str(self.made)
        finally:
            await asyncio.sleep(0)
            self.closed += 1

    async def async_idle(self):
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            self.closed += 1

    def die(self):
        yield "first"
        self.go_on.wait(20)
        os.kill(os.getpid(), signal.SIGKILL)
        yield "second"
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.predictor.write_text(PREDICTOR)
    return bench


@pytest.fixture(params=["thread", "process"])
def make_worker(request: pytest.FixtureRequest, bench: Bench) -> Callable[..., Worker]:
    return getattr(bench, f"{request.param}_worker")


class Asked:
    """One loaded model, and short ways to ask it."""

    def __init__(self, worker: Worker, handle: int) -> None:
        self.worker = worker
        self.handle = handle

    async def answer(
        self, do: str, /, *, headers: Any = (), deadline_s: float = 0.0, **order: Any
    ) -> Encoded:
        deadline_s = deadline_s or time.monotonic() + LIMIT_S
        return await self.worker.predict(
            call(self.handle, {"do": do, **order}, headers=headers, deadline_s=deadline_s)
        )

    async def begun(self, do: str, /, **order: Any) -> tuple[Encoded, Rest]:
        answer = await self.answer(do, **order)
        assert isinstance(answer, Streamed)
        return answer, answer.rest

    async def whole(self, do: str, /, **order: Any) -> bytes:
        first, rest = await self.begun(do, **order)
        return bytes(first.body) + b"".join([part async for part in rest])

    async def count(self) -> Any:
        return json.loads((await self.answer("count")).body)

    async def counts(self, **expected: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not expected.items() <= (await self.count()).items():
                await asyncio.sleep(0.005)


@pytest_asyncio.fixture
async def asked(bench: Bench, make_worker: Callable[..., Worker]) -> AsyncIterator[Asked]:
    async with bench.running(make_worker(threads=1)) as worker:
        spec = bench.spec()
        await worker.load(spec)
        yield Asked(worker, spec.handle)


# Coroutines


async def test_coroutines_wait_side_by_side_beside_one_predict_thread(asked: Asked) -> None:
    answers = await asyncio.gather(*(asked.answer("meet", count=50) for _ in range(50)))
    found = [json.loads(answer.body) for answer in answers]
    assert {one["met"] for one in found} == {50}
    assert {one["thread"] for one in found} == {"hotset-async"}


async def test_a_coroutine_is_cancelled_at_its_deadline(asked: Asked) -> None:
    with pytest.raises(UnavailableError) as caught:
        await asked.answer("wait", deadline_s=time.monotonic() + 1.0)
    assert caught.value.kind is ErrorKind.DEADLINE
    await asked.counts(closed=1)


@pytest.mark.parametrize(
    ("kind", "expected", "words"),
    [
        ("value", PredictFailedError, "ValueError: as told"),
        ("input", InvalidInputError, "as told"),
        ("memory", UnavailableError, "out of memory"),
        ("cancelled", PredictFailedError, "CancelledError: as told"),
    ],
)
async def test_what_a_coroutine_raises_is_its_own_failure(
    asked: Asked, kind: str, expected: type[Exception], words: str
) -> None:
    with pytest.raises(expected, match=words):
        await asked.answer("fail", kind=kind)
    assert (await asked.count())["made"] == 0


async def test_a_model_is_not_released_while_a_coroutine_uses_it(bench: Bench, asked: Asked) -> None:
    other = bench.spec("other")
    await asked.worker.load(other)
    waiting = asyncio.ensure_future(asked.answer("wait_for"))
    await asked.counts(inside=1)
    unloaded = asyncio.ensure_future(asked.worker.unload(asked.handle))
    with pytest.raises(UnavailableError):
        while True:  # until it is unloaded for all others
            await asked.count()
    assert not unloaded.done()
    await Asked(asked.worker, other.handle).answer("go on")
    assert json.loads((await waiting).body) == {"waited": True}
    await unloaded


async def test_what_a_coroutine_returns_is_compressed_as_any_answer(asked: Asked) -> None:
    answer = await asked.answer("text", count=10_000, headers=(("accept-encoding", "gzip"),))
    assert ("content-encoding", "gzip") in tuple(answer.headers)
    assert gzip.decompress(answer.body) == b"x" * 10_000


# Parts


@pytest.mark.parametrize("do", ["parts", "async_parts", "later_parts"])
async def test_parts_come_in_order(asked: Asked, do: str) -> None:
    first, _ = await asked.begun(do, parts=["a", "b"])
    assert (first.body, first.content_type) == (b"a", "text/plain; charset=utf-8")
    assert await asked.whole(do, parts=[str(number) for number in range(100)]) == b"".join(
        b"%d" % number for number in range(100)
    )


async def test_the_first_part_comes_before_the_second_is_made_and_other_calls_are_answered(
    asked: Asked,
) -> None:
    """With one predict thread: a generator that waits keeps it from nothing."""
    first, rest = await asked.begun("parts", parts=["a", "b"], gate=True)
    assert first.body == b"a"
    assert (await asked.count())["made"] == 1
    await asked.answer("go on")
    assert [part async for part in rest] == [b"b"]
    await asked.counts(closed=1, made=2)


@pytest.mark.parametrize(
    ("parts", "events", "content_type", "body"),
    [
        (["ä", "b"], False, "text/plain; charset=utf-8", "äb".encode()),
        (["hex:00ff", "hex:0a"], False, "application/octet-stream", b"\x00\xff\x0a"),
        ([{"a": 1}, "b", None], False, "application/x-ndjson", b'{"a":1}\n"b"\nnull\n'),
        ([{"a": 1}, "b\r\nc\n", 2.5], True, "text/event-stream",
         b'data: {"a":1}\n\ndata: b\ndata: c\ndata: \n\ndata: 2.5\n\n'),
    ],
)  # fmt: skip
async def test_the_type_goes_by_the_first_part_and_by_what_the_client_asked(
    asked: Asked, parts: list[Any], events: bool, content_type: str, body: bytes
) -> None:
    headers = (("accept", "text/event-stream"),) if events else ()
    first, _ = await asked.begun("parts", parts=parts, headers=headers)
    assert first.content_type == content_type
    assert await asked.whole("parts", parts=parts, headers=headers) == body


async def test_a_type_that_predict_tells_is_the_one_that_counts(asked: Asked) -> None:
    events = (("accept", "text/event-stream"),)
    first, rest = await asked.begun("parts", parts=["a", "b"], type="text/csv", headers=events)
    assert (first.content_type, first.body) == ("text/csv", b"a")
    rest.close()
    assert await asked.whole("listed", parts=[{"a": 1}, 2], type="text/event-stream") == (
        b'data: {"a":1}\n\ndata: 2\n\n'
    )
    for wrong in (5, "text/csv\r\nx-y: z", "text/ä", " "):
        with pytest.raises(PredictFailedError, match="expected a content type such as"):
            await asked.answer("listed", parts=["a"], type=wrong)
    with pytest.raises(PredictFailedError, match="expected an iterable for a stream's parts, found: int"):
        await asked.answer("listed", parts=5, type="text/csv")


async def test_a_stream_without_parts_is_an_empty_answer(asked: Asked) -> None:
    answer = await asked.answer("parts", parts=[])
    assert (type(answer), answer.body) == (Encoded, b"")
    answer = await asked.answer("async_parts", parts=[], headers=(("accept", "text/event-stream"),))
    assert (type(answer), answer.content_type) == (Encoded, "text/event-stream")


async def test_a_large_part_is_cut_and_comes_whole(asked: Asked) -> None:
    size = 3 * PIECE_BYTES + 7
    first, rest = await asked.begun("many", size=size)
    pieces = [bytes(first.body)]
    while sum(map(len, pieces)) < 2 * size:
        pieces.append(await anext(rest))
    rest.close()
    assert max(map(len, pieces)) == PIECE_BYTES
    assert b"".join(pieces)[: 2 * size] == b"y" * 2 * size


@pytest.mark.parametrize("do", ["parts", "async_parts"])
async def test_what_is_raised_before_the_first_part_is_the_answer(asked: Asked, do: str) -> None:
    with pytest.raises(InvalidInputError, match="as told"):
        await asked.answer(do, parts=[], raises="input")


@pytest.mark.parametrize("do", ["parts", "async_parts"])
async def test_what_is_raised_behind_the_first_part_comes_behind_it(asked: Asked, do: str) -> None:
    first, rest = await asked.begun(do, parts=["a", "b"], raises="value")
    assert first.body == b"a"
    assert await anext(rest) == b"b"
    with pytest.raises(PredictFailedError, match="ValueError: as told"):
        await anext(rest)
    assert (await asked.count())["made"] == 2


async def test_a_part_that_the_answer_cannot_carry_breaks_it_off(asked: Asked) -> None:
    _, rest = await asked.begun("parts", parts=["a", {"b": 1}])
    with pytest.raises(PredictFailedError, match="str or bytes, as the first one was; found: dict"):
        await anext(rest)
    await asked.counts(closed=1)


async def test_a_protocol_without_streams_says_so_and_has_coroutines(asked: Asked) -> None:
    def of_oip(do: str) -> Any:
        tensor = {"name": "do", "shape": [1], "datatype": "BYTES", "data": [do]}
        order = call(asked.handle, {"inputs": [tensor]}, deadline_s=time.monotonic() + LIMIT_S)
        order.codec = "oip"
        return asked.worker.predict(order)

    for do in ("many", "async_many"):
        with pytest.raises(UnsupportedError, match="a stream, which this protocol cannot carry"):
            await of_oip(do)
    (output,) = json.loads((await of_oip("ping")).body)["outputs"]
    assert (output["name"], output["data"]) == ("pong", [1.5])


# Who sets the pace, and who goes away


@pytest.mark.parametrize("do", ["many", "async_many"])
async def test_the_maker_waits_for_the_client(asked: Asked, do: str) -> None:
    """How many were made is told by the predictor itself; with the one part that waits for room."""
    _, rest = await asked.begun(do)
    await asked.counts(made=1 + WINDOW + 1)
    for _ in range(3 * WINDOW):
        await anext(rest)
    await until_made(asked, at_least=1 + 3 * WINDOW)
    assert (await asked.count())["made"] <= 1 + 4 * WINDOW + 1
    rest.close()
    await asked.counts(closed=1)
    made = (await asked.count())["made"]
    assert (await asked.count())["made"] == made


async def until_made(asked: Asked, *, at_least: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while (await asked.count())["made"] < at_least:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("do", ["many", "async_many", "async_idle"])
async def test_a_client_that_goes_away_closes_it_and_the_model_can_leave(asked: Asked, do: str) -> None:
    _, rest = await asked.begun(do)
    unloaded = asyncio.ensure_future(asked.worker.unload(asked.handle))
    with pytest.raises(UnavailableError):
        while True:
            await asked.count()
    assert not unloaded.done()
    rest.close()
    async with asyncio.timeout(LIMIT_S):
        await unloaded
    with pytest.raises(StopAsyncIteration):
        while True:
            await anext(rest)


async def test_one_that_nobody_waits_for_any_more_is_closed_when_it_begins(asked: Asked) -> None:
    waiting = asyncio.ensure_future(asked.answer("async_many"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asked.counts(closed=1)


async def test_more_generators_than_threads_all_have_their_turn(asked: Asked) -> None:
    first = await asyncio.gather(*(asked.begun("parts", parts=["a", "b"], gate=True) for _ in range(MOST)))
    others = [asyncio.ensure_future(asked.whole("parts", parts=["c"])) for _ in range(5)]
    assert (await asked.count())["made"] == MOST
    assert not any(other.done() for other in others)
    await asked.answer("go on")
    for _, rest in first:
        assert [part async for part in rest] == [b"b"]
    assert await asyncio.gather(*others) == [b"c"] * 5


@pytest.mark.parametrize("do", ["many", "async_many", "async_idle"])
async def test_a_worker_that_closes_ends_its_streams(
    bench: Bench, make_worker: Callable[..., Worker], do: str
) -> None:
    async with bench.running(make_worker(threads=1)) as worker:
        spec = bench.spec()
        await worker.load(spec)
        _, rest = await Asked(worker, spec.handle).begun(do)
        waits = asyncio.ensure_future(Asked(worker, spec.handle).answer("wait"))
        await Asked(worker, spec.handle).counts(inside=1)
        await worker.close()
        with pytest.raises(WorkerDiedError):
            while True:
                await anext(rest)
        with pytest.raises(WorkerDiedError):
            await waits


async def test_a_child_that_dies_in_the_middle_breaks_off_its_streams(bench: Bench) -> None:
    async with bench.running(bench.process_worker(threads=2)) as worker:
        spec = bench.spec()
        await worker.load(spec)
        asked = Asked(worker, spec.handle)
        first, rest = await asked.begun("die")
        assert first.body == b"first"
        with suppress(WorkerDiedError):  # it may die before it has answered
            await asked.answer("go on")
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            await anext(rest)
        await until(lambda: bench.deaths)
        rest.close()
    assert signal.SIGKILL.name in bench.deaths[0]


@pytest.mark.parametrize("do", ["parts", "async_parts"])
async def test_warm_up_samples_run_to_their_end(bench: Bench, do: str) -> None:
    """Of versions with code of their own: for the server's predictor there are none."""
    good, bad = bench.spec("good"), bench.spec("bad")
    samples: list[Any] = [{"do": do, "parts": ["a", "b"]}, {"do": "later_parts", "parts": ["c"]}]
    samples.append({"do": "text", "count": 2})
    write_version(good.path, samples)
    write_version(bad.path, [*samples, {"do": do, "parts": ["d"], "raises": "value"}])
    async with bench.running(bench.process_worker(threads=1, predictor=None)) as worker:
        await worker.load(good)
        assert (await Asked(worker, good.handle).count())["made"] == 3
        with pytest.raises(LoadFailedError, match="ValueError: as told"):
            await worker.load(bad)


def write_version(directory: str, samples: list[Any]) -> None:
    (Path(directory) / "predictor.py").write_text(PREDICTOR)
    (Path(directory) / "model.yaml").write_text(json.dumps({"warmup": samples}))
