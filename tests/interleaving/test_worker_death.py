"""The end of a child, told in an order that lets a failed request be tried again with success."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from hotset.errors import ErrorKind, UnavailableError, WorkerDiedError
from worker_fixtures import LIMIT_S, Bench, call


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_no_call_fails_before_the_death_is_told(bench: Bench) -> None:
    """Regression: between the closed socket and the reaped child calls failed at once, and so did their retries."""
    worker = bench.process_worker()
    async with bench.running(worker), asyncio.timeout(LIMIT_S):
        model = bench.spec()
        await worker.load(model)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        while not bench.deaths:
            answer = asyncio.ensure_future(worker.predict(call(model.handle)))
            await asyncio.sleep(0)
            if answer.done() and answer.exception() is not None:
                assert bench.deaths, "the retry of this call would have found the same worker"
            answer.add_done_callback(lambda it: it.cancelled() or it.exception())


async def test_a_load_that_comes_while_the_child_ends_is_not_blamed_for_it(bench: Bench) -> None:
    worker = bench.process_worker()
    async with bench.running(worker), asyncio.timeout(LIMIT_S):
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        while not worker._is_ending:
            await asyncio.sleep(0)
        with pytest.raises(UnavailableError) as error:
            await worker.load(bench.spec())
        assert error.value.kind is ErrorKind.WORKER_DIED
        assert not isinstance(error.value, WorkerDiedError), (
            "that would mean that it had been given the model"
        )
        assert bench.deaths


async def test_a_close_while_the_child_ends_fails_what_waits(bench: Bench) -> None:
    worker = bench.process_worker()
    async with bench.running(worker), asyncio.timeout(LIMIT_S):
        model = bench.spec()
        await worker.load(model)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        while not worker._is_ending:
            await asyncio.sleep(0)
        answer = asyncio.ensure_future(worker.predict(call(model.handle)))
        await worker.close()
        with pytest.raises(WorkerDiedError):
            await answer
