"""Races of the workers, each forced by name."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from hotset.errors import UnavailableError
from hotset.workers import wire
from hotset.workers.base import LoadReply
from hotset.workers.host import Held, Host
from waiting import until
from worker_fakes import FakePayloadServable, fake_kit, raw_call, spec
from worker_fixtures import LIMIT_S, Bench, call


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_load_cancelled_in_the_same_turn_in_which_its_reply_comes(bench: Bench) -> None:
    """The reply was taken, the caller never sees it: nobody but the worker can unload the model."""
    worker = bench.process_worker()
    async with bench.running(worker):
        marker = bench.path / "unloaded"
        loading = asyncio.ensure_future(worker.load(bench.spec(unloaded=str(marker))))
        deliver = worker._control._on_message

        def deliver_and_cancel(message: wire.ControlReply, payload: bytes) -> None:
            deliver(message, payload)
            if isinstance(message, wire.Loaded):
                loading.cancel()

        worker._control._on_message = deliver_and_cancel
        with pytest.raises(asyncio.CancelledError):
            await loading
        await until(marker.exists)


async def test_a_thread_workers_load_cancelled_in_the_same_turn_in_which_its_reply_comes(
    bench: Bench,
) -> None:
    worker = bench.thread_worker()
    async with bench.running(worker):
        marker = bench.path / "unloaded"
        loading = asyncio.ensure_future(worker.load(bench.spec(unloaded=str(marker))))
        deliver = worker._on_loaded

        def deliver_and_cancel(reply: asyncio.Future[LoadReply], handle: int, outcome: Any) -> None:
            deliver(reply, handle, outcome)
            loading.cancel()

        worker._on_loaded = deliver_and_cancel  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await loading
        await until(marker.exists)


async def test_a_predict_cancelled_in_the_same_turn_in_which_it_is_sent(bench: Bench) -> None:
    for worker in (bench.process_worker(), bench.thread_worker()):
        async with bench.running(worker):
            model = bench.spec()
            await worker.load(model)
            calls = [
                asyncio.ensure_future(worker.predict(call(model.handle, {"echo": n}))) for n in range(10)
            ]
            for cancelled in calls[::2]:
                cancelled.cancel()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            answered = [
                json.loads(one.body)["echo"] for one in outcomes if not isinstance(one, BaseException)
            ]
            assert answered == [1, 3, 5, 7, 9]
            await until(lambda worker=worker: worker.queued == 0)


def test_retire_while_a_prediction_runs_waits_for_the_last_one(tmp_path: Path) -> None:
    inside, go_on = threading.Barrier(3), threading.Event()

    def reply(payload: bytes, _: object) -> bytes:
        inside.wait(LIMIT_S)
        assert go_on.wait(LIMIT_S)
        return payload

    servable = FakePayloadServable(reply)
    host = Host(fake_kit(lambda _: servable))
    host.load(spec(tmp_path))
    predictions = [threading.Thread(target=host.predict, args=(raw_call(),)) for _ in range(2)]
    for prediction in predictions:
        prediction.start()
    inside.wait(LIMIT_S)

    idle: list[Held | None] = []
    host.retire(1, idle.append)
    assert idle == []
    with pytest.raises(UnavailableError):
        host.predict(raw_call())  # a late comer does not put it off
    again: list[Held | None] = []
    host.retire(1, again.append)
    assert again == [None]

    go_on.set()
    for prediction in predictions:
        prediction.join(LIMIT_S)
    assert len(idle) == 1
    assert idle[0] is not None
    host.release(idle[0])
    host.release(idle[0])
    assert servable.closed == 1


async def test_close_while_a_load_runs_and_another_is_queued(bench: Bench) -> None:
    for worker in (bench.process_worker(close_timeout_s=0.2), bench.thread_worker(close_timeout_s=0.2)):
        await worker.start()
        gate = bench.gate()
        loads = [
            asyncio.ensure_future(worker.load(bench.spec(load={"gate": str(gate.path)}))),
            *(asyncio.ensure_future(worker.load(bench.spec())) for _ in range(3)),
        ]
        await gate.reached()
        await worker.close()
        gate.open()
        outcomes = await asyncio.gather(*loads, return_exceptions=True)
        assert isinstance(outcomes[0], UnavailableError)
        assert bench.deaths == []


async def test_death_while_close_waits_is_not_reported(bench: Bench) -> None:
    worker = bench.process_worker(close_timeout_s=LIMIT_S)
    await worker.start()
    gate = bench.gate()
    model = bench.spec()
    await worker.load(model)
    waiting = asyncio.ensure_future(worker.predict(call(model.handle, {"gate": str(gate.path), "exit": 5})))
    await gate.reached()
    closing = asyncio.ensure_future(worker.close())
    with pytest.raises(UnavailableError):
        await waiting
    gate.open()
    await closing
    assert bench.deaths == []


async def test_close_that_is_cancelled_goes_on(bench: Bench) -> None:
    worker = bench.process_worker()
    await worker.start()
    closing = asyncio.ensure_future(worker.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await worker.close()
    assert worker._process is not None
    assert worker._process.exited.done()
