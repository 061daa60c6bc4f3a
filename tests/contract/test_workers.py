"""The contract of ``Worker``, on threads and on child processes, fresh and forked, with the user's code and files on disk."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hotset.errors import (
    ConfigError,
    ErrorKind,
    InvalidInputError,
    LoadFailedError,
    OverloadedError,
    PredictFailedError,
    UnavailableError,
    WorkerDiedError,
)
from hotset.workers.base import Worker
from waiting import until
from worker_fixtures import LIMIT_S, Bench, call, open_files_kept


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest_asyncio.fixture(params=["thread", "process", "forked"])
async def make_worker(request: pytest.FixtureRequest, bench: Bench) -> AsyncIterator[Callable[..., Worker]]:
    async with bench.forking() if request.param == "forked" else nullcontext():
        yield getattr(bench, f"{request.param}_worker")


async def test_a_model_is_loaded_asked_and_unloaded(bench: Bench, make_worker: Callable[..., Worker]) -> None:
    async with bench.running(make_worker(predictor_config={"greeting": "salut"})) as worker:
        marker = bench.path / "unloaded"
        spec = bench.spec("paris", heap=64 << 20, unloaded=str(marker))

        reply = await worker.load(spec)
        assert reply.runtime == "predictor"
        assert reply.signature.platform == "python"
        assert reply.wants >= {"payload", "headers", "query_params"}
        assert 60 << 20 < reply.bytes < 80 << 20

        answer = await worker.predict(
            call(spec.handle, {"echo": [1, "ä"]}, query_string="a=1", headers=(("x-y", "z"),))
        )
        assert answer.content_type == "application/json"
        assert json.loads(answer.body) == {
            "model": "paris",
            "echo": [1, "ä"],
            "greeting": "salut",
            "query": {"a": "1"},
            "headers": {"x-y": "z"},
            "name": "paris",
            "version": 1,
        }

        await worker.unload(spec.handle)
        assert marker.read_text() == "unloaded"
        with pytest.raises(UnavailableError):
            await worker.predict(call(spec.handle))
        await worker.unload(spec.handle)  # unknown handles are fine


async def test_a_hundred_calls_at_once_each_get_their_own_model_and_payload(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker(threads=3)) as worker:
        specs = [bench.spec(name) for name in ("paris", "rome", "oslo")]
        await asyncio.gather(*(worker.load(spec) for spec in specs))
        asked = [(specs[number % 3], number) for number in range(100)]
        answers = await asyncio.gather(
            *(worker.predict(call(spec.handle, {"echo": number})) for spec, number in asked)
        )
        got = [(answer["model"], answer["echo"]) for answer in (json.loads(one.body) for one in answers)]
        assert got == [(spec.name, number) for spec, number in asked]
        assert worker.queued == 0


async def test_a_large_body_goes_and_comes_back_whole(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        texts = [letter * 5_000_000 for letter in "abc"]
        answers = await asyncio.gather(*(worker.predict(call(spec.handle, {"echo": text})) for text in texts))
        assert [json.loads(answer.body)["echo"] for answer in answers] == texts


async def test_a_call_whose_deadline_passed_in_the_queue_is_not_predicted(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        with pytest.raises(UnavailableError) as caught:
            await worker.predict(call(spec.handle, {"raise": "value"}, deadline_s=time.monotonic() - 1.0))
        assert caught.value.kind is ErrorKind.DEADLINE
        assert await worker.predict(call(spec.handle, deadline_s=time.monotonic() + LIMIT_S))


async def test_executions_are_counted_while_a_version_comes_and_goes(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker()) as worker:
        assert list(await worker.executions("")) == []
        for handle in (0, 1):
            spec = bench.spec("paris")
            await worker.load(spec)
            for number in range(3):
                await worker.predict(call(spec.handle, {"echo": number}))
            with pytest.raises(PredictFailedError):
                await worker.predict(call(spec.handle, {"raise": "value"}))
            (told,) = await worker.executions("paris")
            assert (told.name, told.version) == ("paris", spec.version)
            (alone,) = told.executions
            assert (alone.size, alone.count) == (1, 3 * (handle + 1)), "what failed is none"
            assert alone.seconds > 0
            await worker.unload(spec.handle)
        assert list(await worker.executions("rome")) == []
        assert len(await worker.executions("")) == 1


async def test_a_call_that_runs_past_its_deadline_is_answered_all_the_same(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker()) as worker:
        gate, spec = bench.gate(), bench.spec()
        await worker.load(spec)
        late = worker.predict(call(spec.handle, {"gate": str(gate.path)}, deadline_s=time.monotonic() + 2.0))
        await gate.reached()
        with pytest.raises(UnavailableError) as caught:
            await late
        assert caught.value.kind is ErrorKind.DEADLINE
        assert worker.queued == 1, "it still keeps its worker busy"
        gate.open()
        assert await worker.predict(call(spec.handle))
        assert worker.queued == 0


@pytest.mark.parametrize(
    ("payload", "error", "kind", "text"),
    [
        ({"raise": "value"}, PredictFailedError, ErrorKind.PREDICT_FAILED, "ValueError: as told"),
        ({"raise": "exit"}, PredictFailedError, ErrorKind.PREDICT_FAILED, "SystemExit: as told"),
        ({"raise": "memory"}, UnavailableError, ErrorKind.OUT_OF_MEMORY, "out of memory"),
    ],
)
async def test_a_predict_that_raises_fails_its_own_call_alone(
    bench: Bench,
    make_worker: Callable[..., Worker],
    payload: Any,
    error: type[Exception],
    kind: ErrorKind,
    text: str,
) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        bad, good = await asyncio.gather(
            worker.predict(call(spec.handle, payload)),
            worker.predict(call(spec.handle, {"echo": 1})),
            return_exceptions=True,
        )
        assert type(bad) is error
        assert bad.kind is kind
        assert text in str(bad)
        assert "Traceback" not in str(bad)
        assert json.loads(good.body)["echo"] == 1


async def test_a_body_that_is_no_json_is_the_clients_fault(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        broken = call(spec.handle, content_type="application/json")
        broken.body = b"{"
        with pytest.raises(InvalidInputError):
            await worker.predict(broken)


@pytest.mark.parametrize(
    ("cause", "kind"), [("value", ErrorKind.LOAD_FAILED), ("memory", ErrorKind.OUT_OF_MEMORY)]
)
async def test_a_load_that_raises_fails_and_others_go_on(
    bench: Bench, make_worker: Callable[..., Worker], cause: str, kind: ErrorKind
) -> None:
    async with bench.running(make_worker()) as worker:
        bad, good = bench.spec("bad", load={"raise": cause}), bench.spec("good")
        failed, _ = await asyncio.gather(worker.load(bad), worker.load(good), return_exceptions=True)
        assert type(failed) is LoadFailedError
        assert failed.kind is kind
        assert "as told" in str(failed)
        assert await worker.predict(call(good.handle))
        with pytest.raises(UnavailableError):
            await worker.predict(call(bad.handle))


async def test_a_missing_directory_fails_the_load(bench: Bench, make_worker: Callable[..., Worker]) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec()
        (Path(spec.path) / "model.json").unlink()
        Path(spec.path).rmdir()
        with pytest.raises(LoadFailedError, match="found none"):
            await worker.load(spec)


async def test_a_load_that_takes_long_delays_neither_predictions_nor_another_load(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker()) as worker:
        gate = bench.gate()
        slow, quick = bench.spec("slow", load={"gate": str(gate.path)}), bench.spec("quick")
        loading = asyncio.ensure_future(worker.load(slow))
        await gate.reached()
        await worker.load(quick)
        assert await worker.predict(call(quick.handle))
        await worker.unload(quick.handle)
        assert not loading.done()
        gate.open()
        await loading
        assert await worker.predict(call(slow.handle))


async def test_a_predict_that_takes_long_delays_no_other_model_where_there_are_two_threads(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker(threads=2)) as worker:
        gate = bench.gate()
        slow, quick = bench.spec("slow"), bench.spec("quick")
        await asyncio.gather(worker.load(slow), worker.load(quick))
        waiting = asyncio.ensure_future(worker.predict(call(slow.handle, {"gate": str(gate.path)})))
        await gate.reached()
        for _ in range(20):
            await worker.predict(call(quick.handle))
        assert not waiting.done()
        assert worker.queued == 1
        gate.open()
        await waiting


async def test_a_cancelled_load_leaves_no_model_behind(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker()) as worker:
        gate, marker = bench.gate(), bench.path / "unloaded"
        spec = bench.spec(load={"gate": str(gate.path)}, unloaded=str(marker))
        loading = asyncio.ensure_future(worker.load(spec))
        await gate.reached()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        gate.open()
        await until(marker.exists)


async def test_a_cancelled_predict_counts_until_it_ends_and_its_model_is_unloaded_after_it(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker(threads=2)) as worker:
        gate, marker = bench.gate(), bench.path / "unloaded"
        spec, other = bench.spec(unloaded=str(marker)), bench.spec("other")
        await asyncio.gather(worker.load(spec), worker.load(other))
        waiting = asyncio.ensure_future(worker.predict(call(spec.handle, {"gate": str(gate.path)})))
        await gate.reached()
        waiting.cancel()
        unloading = asyncio.ensure_future(worker.unload(spec.handle))
        await worker.unload(other.handle)  # after it in the same queue, and not held up by it
        assert worker.queued == 1
        assert not unloading.done()
        assert not marker.exists()
        gate.open()
        await unloading
        await until(lambda: worker.queued == 0)
        assert marker.exists()


async def test_a_load_comes_in_behind_those_that_leave(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    """It is asked for together with the unload, and its model is never there at the same time."""
    async with bench.running(make_worker()) as worker:
        gate = bench.gate()
        leaving = bench.spec("leaving", unload={"gate": str(gate.path)})
        await worker.load(leaving)
        unloading = asyncio.ensure_future(worker.unload(leaving.handle))
        behind = replace(bench.spec("behind"), after=(leaving.handle,))
        told: list[bool] = []
        loading = asyncio.ensure_future(worker.load(behind))
        loading.add_done_callback(lambda _: told.append(unloading.done()))
        await gate.reached()
        await worker.load(bench.spec("other"))  # asked for after it
        assert not loading.done()
        gate.open()
        await asyncio.wait_for(loading, LIMIT_S)
        assert told == [True], "the unload is told first"
        assert await worker.predict(call(behind.handle))


async def test_a_load_behind_a_model_in_use_is_refused(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker()) as worker:
        gate = bench.gate()
        busy = bench.spec("busy")
        await worker.load(busy)
        waiting = asyncio.ensure_future(worker.predict(call(busy.handle, {"gate": str(gate.path)})))
        await gate.reached()
        waiting.cancel()
        unloading = asyncio.ensure_future(worker.unload(busy.handle))
        behind = replace(bench.spec("behind"), after=(busy.handle,))
        with pytest.raises(OverloadedError, match="still in use"):
            await worker.load(behind)
        gate.open()
        await unloading
        assert await worker.load(behind)


async def test_an_unload_hook_that_raises_hurts_nobody(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    async with bench.running(make_worker()) as worker:
        spec = bench.spec(unload_raises=True)
        await worker.load(spec)
        await worker.unload(spec.handle)
        again = bench.spec()
        await worker.load(again)
        assert await worker.predict(call(again.handle))


async def test_close_fails_what_is_in_flight_and_runs_the_hooks_of_idle_models(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    with open_files_kept():
        worker = make_worker(close_timeout_s=0.5)
        await worker.start()
        gate, marker = bench.gate(), bench.path / "unloaded"
        busy, idle = bench.spec("busy"), bench.spec("idle", unloaded=str(marker))
        await asyncio.gather(worker.load(busy), worker.load(idle))
        waiting = asyncio.ensure_future(worker.predict(call(busy.handle, {"gate": str(gate.path)})))
        await gate.reached()
        await asyncio.gather(worker.close(), worker.close())
        with pytest.raises(WorkerDiedError, match="was closed"):
            await waiting
        assert marker.exists()
        assert worker.queued == 0
        assert bench.deaths == []
        for refused in (worker.predict(call(idle.handle)), worker.load(bench.spec()), worker.unload(1)):
            with pytest.raises(WorkerDiedError):
                await refused
        await worker.close()
        gate.open()


async def test_before_the_start_every_verb_is_refused(
    bench: Bench, make_worker: Callable[..., Worker]
) -> None:
    worker = make_worker()
    for refused in (worker.predict(call(1)), worker.load(bench.spec()), worker.unload(1)):
        with pytest.raises(WorkerDiedError, match="not started"):
            await refused
    await worker.close()


async def test_too_many_waiting_calls_are_refused(bench: Bench, make_worker: Callable[..., Worker]) -> None:
    async with bench.running(make_worker(max_queued=3)) as worker:
        gate = bench.gate()
        spec = bench.spec()
        await worker.load(spec)
        calls = [worker.predict(call(spec.handle, {"gate": str(gate.path)}))]
        await gate.reached()
        calls += [worker.predict(call(spec.handle)) for _ in range(3)]
        with pytest.raises(OverloadedError):
            await calls[3]
        gate.open()
        await asyncio.gather(*calls[:3])
        assert await worker.predict(call(spec.handle))


@pytest.mark.parametrize(
    "source", ["class Predictor:\n    pass\n", "import nowhere_to_be_found\n", "class ("]
)
async def test_a_predictor_that_does_not_fit_is_refused_at_the_start(
    bench: Bench, make_worker: Callable[..., Worker], source: str
) -> None:
    bench.predictor.write_text(source)
    with open_files_kept():
        worker = make_worker()
        with pytest.raises(ConfigError, match="predictor"):
            await worker.start()
        await worker.close()
    assert bench.deaths == []
