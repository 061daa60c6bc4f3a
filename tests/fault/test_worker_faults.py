"""A child that dies, hangs or talks nonsense, at each point of its life; every fault is a real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotset.errors import ConfigError, WorkerDiedError
from hotset.workers.base import Worker
from hotset.workers.process import ProcessWorker
from waiting import until
from worker_fixtures import LIMIT_S, Bench, call, open_files_kept


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def is_gone(pid: int) -> bool:
    """Whether a process ended; who should reap an orphan may be slow to do it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def pid_of(worker: Worker) -> int:
    assert worker.pid is not None
    return worker.pid


async def died(bench: Bench) -> str:
    await asyncio.wait_for(bench.died.wait(), LIMIT_S)
    (reason,) = bench.deaths
    return reason


async def test_a_child_killed_while_idle_is_reported_once_and_reaped(bench: Bench) -> None:
    with open_files_kept():
        async with bench.running(bench.process_worker()) as worker:
            pid = pid_of(worker)
            os.kill(pid, signal.SIGKILL)
            assert await died(bench) == "killed by signal 9 (SIGKILL)"
            assert not psutil.pid_exists(pid)
            with pytest.raises(WorkerDiedError, match="SIGKILL"):
                await worker.predict(call(1))
            with pytest.raises(WorkerDiedError):
                await worker.load(bench.spec())
        assert len(bench.deaths) == 1


async def test_a_child_killed_in_predict_fails_all_that_waits_for_it(bench: Bench) -> None:
    async with bench.running(bench.process_worker()) as worker:
        gate = bench.gate()
        spec = bench.spec()
        await worker.load(spec)
        calls = [worker.predict(call(spec.handle, {"gate": str(gate.path)}))]
        await gate.reached()
        calls += [worker.predict(call(spec.handle)) for _ in range(20)]
        os.kill(pid_of(worker), signal.SIGKILL)
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, WorkerDiedError)
        assert await died(bench) == "killed by signal 9 (SIGKILL)"
        assert worker.queued == 0


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"kill": int(signal.SIGSEGV)}, "killed by signal 11 (SIGSEGV)"),
        ({"exit": 3}, "exited with status 3"),
    ],
)
@pytest.mark.parametrize("where", ["load", "predict"])
async def test_a_model_that_takes_the_child_with_it(
    bench: Bench, where: str, order: dict[str, Any], reason: str
) -> None:
    async with bench.running(bench.process_worker()) as worker:
        if where == "load":
            with pytest.raises(WorkerDiedError, match="worker process"):
                await worker.load(bench.spec(load=order))
        else:
            spec = bench.spec()
            await worker.load(spec)
            with pytest.raises(WorkerDiedError, match="worker process"):
                await worker.predict(call(spec.handle, order))
        assert await died(bench) == reason


async def test_answers_that_were_written_before_the_end_still_count(bench: Bench) -> None:
    async with bench.running(bench.process_worker(threads=2)) as worker:
        gate = bench.gate()
        spec = bench.spec()
        await worker.load(spec)
        ending = worker.predict(call(spec.handle, {"gate": str(gate.path), "exit": 0}))
        await gate.reached()
        answered = [worker.predict(call(spec.handle, {"echo": "x" * 100_000})) for _ in range(10)]
        await asyncio.gather(*answered)
        gate.open()
        with pytest.raises(WorkerDiedError, match="exited with status 0"):
            await ending
        await died(bench)


async def test_a_child_that_is_stopped_does_not_answer_pings_and_is_killed(bench: Bench) -> None:
    worker = bench.process_worker(ping_interval_s=0.1, ping_timeout_s=3600.0)
    async with bench.running(worker):
        spec = bench.spec()
        await worker.load(spec)
        child = psutil.Process(pid_of(worker))
        child.send_signal(signal.SIGSTOP)
        await until(lambda: child.status() == psutil.STATUS_STOPPED)
        waiting = worker.predict(call(spec.handle))
        assert await died(bench) == "was stopped by a signal, did not answer pings and was killed"
        with pytest.raises(WorkerDiedError, match="pings"):
            await waiting
        assert not psutil.pid_exists(pid_of(worker))


async def test_a_child_that_does_nothing_with_the_interpreter_in_its_hand_is_killed(bench: Bench) -> None:
    worker = bench.process_worker(ping_interval_s=0.1, ping_timeout_s=3600.0)
    async with bench.running(worker):
        worker._heartbeat._most_asleep = 8
        spec = bench.spec()
        await worker.load(spec)
        waiting = worker.predict(call(spec.handle, {"hold_s": 600}))
        assert await died(bench) == "did nothing for 1200 s, did not answer pings and was killed"
        with pytest.raises(WorkerDiedError, match="did nothing"):
            await waiting
        assert worker.suspects == {spec.handle}


async def test_a_child_that_computes_with_the_interpreter_in_its_hand_is_left_alone_for_longer(
    bench: Bench,
) -> None:
    """One power in C, of most of a second: no ping is answered before its end."""
    worker = bench.process_worker(ping_interval_s=0.05, ping_timeout_s=600.0, threads=1)
    async with bench.running(worker):
        spec = bench.spec()
        await worker.load(spec)
        answer = asyncio.ensure_future(worker.predict(call(spec.handle, {"power": 5_000_000})))
        heartbeat = worker._heartbeat
        await until(lambda: heartbeat.unanswered > 2)
        heartbeat._most_asleep = 2  # it would take no more than this, if it were taken for asleep
        await answer
    assert bench.deaths == []


async def test_a_child_that_answers_pings_lives_on(bench: Bench) -> None:
    worker = bench.process_worker(ping_interval_s=0.02, ping_timeout_s=10.0)
    async with bench.running(worker):
        gate = bench.gate()
        spec = bench.spec()
        await worker.load(spec)
        waiting = asyncio.ensure_future(worker.predict(call(spec.handle, {"gate": str(gate.path)})))
        await gate.reached()
        pinged: list[int] = []

        def pinged_again() -> bool:
            pinged.append(worker._heartbeat.unanswered)
            return pinged.count(0) >= 3 and max(pinged) >= 1

        await until(pinged_again)
        gate.open()
        await waiting
    assert bench.deaths == []


FORKING_PREDICTOR = """
import multiprocessing
import time


class Predictor:
    def load_model(self, disk_path):
        return None

    def predict(self, model):
        context = multiprocessing.get_context("fork")
        running = context.Event()
        helper = context.Process(target=run, args=(running,))
        helper.start()
        running.wait()
        helper.terminate()
        helper.join()
        return helper.exitcode


def run(running):
    running.set()
    time.sleep(600)
"""


@pytest.mark.parametrize("is_forked", [False, True])
async def test_what_the_users_code_forks_can_be_terminated(bench: Bench, is_forked: bool) -> None:
    bench.predictor.write_text(FORKING_PREDICTOR)
    async with bench.forking():
        worker = bench.forked_worker() if is_forked else bench.process_worker()
        async with bench.running(worker):
            spec = bench.spec()
            await worker.load(spec)
            answer = await asyncio.wait_for(worker.predict(call(spec.handle)), LIMIT_S)
            assert answer.body == str(-signal.SIGTERM).encode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_to_the_whole_group_are_left_to_the_gateway(
    bench: Bench, number: signal.Signals
) -> None:
    async with bench.running(bench.process_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        os.kill(pid_of(worker), number)
        assert await worker.predict(call(spec.handle))
    assert bench.deaths == []


def script(bench: Bench, text: str) -> tuple[str, ...]:
    path = bench.path / "child.py"
    path.write_text(text)
    return (sys.executable, str(path))


READY = """
import socket, sys
from hotset.workers import framing, wire
control, data = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
control.recv(65536)
control.sendall(framing.frame_head(wire.Ready()))
"""


async def fails_to_start(worker: ProcessWorker, match: str, error: type[Exception] = WorkerDiedError) -> None:
    with open_files_kept():
        with pytest.raises(error, match=match):
            await worker.start()
        if worker.pid is not None:
            assert not psutil.pid_exists(worker.pid)
        await worker.close()


async def test_a_child_that_never_says_ready_is_killed(bench: Bench) -> None:
    command = script(bench, "import time; time.sleep(600)")
    await fails_to_start(
        bench.process_worker(command=command, start_timeout_s=0.3), match="not ready within 0.3 s"
    )
    assert bench.deaths == []


async def test_a_child_that_ends_before_it_is_ready(bench: Bench) -> None:
    command = script(bench, "raise SystemExit(3)")
    await fails_to_start(
        bench.process_worker(command=command), match="before it was ready: it exited with status 3"
    )
    assert bench.deaths == []


async def test_a_child_that_closes_its_sockets_and_stays_is_killed(bench: Bench) -> None:
    command = script(
        bench, "import os, sys, time; [os.close(int(number)) for number in sys.argv[1:]]; time.sleep(600)"
    )
    await fails_to_start(bench.process_worker(command=command), match="killed by signal 9")


async def test_a_program_that_is_not_there(bench: Bench) -> None:
    await fails_to_start(bench.process_worker(command=(str(bench.path / "none"),)), match="could not start")


async def test_a_kit_that_is_not_there_is_a_matter_of_configuration(bench: Bench) -> None:
    await fails_to_start(
        bench.process_worker(kit="hotset.workers.standard:none"), match="none", error=ConfigError
    )


async def test_a_start_that_is_cancelled_leaves_nothing(bench: Bench) -> None:
    with open_files_kept():
        worker = bench.process_worker(command=script(bench, "import time; time.sleep(600)"))
        starting = asyncio.ensure_future(worker.start())
        await until(lambda: worker.pid is not None)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not psutil.pid_exists(pid_of(worker))
        await worker.close()


async def test_a_child_that_ends_in_the_middle_of_a_frame(bench: Bench) -> None:
    half = (
        READY + "data.recv(65536)\ndata.sendall(framing.frame_head(wire.Answer(1, '', ()), 100) + b'half')\n"
    )
    worker = bench.process_worker(command=script(bench, half))
    async with bench.running(worker):
        with pytest.raises(WorkerDiedError, match="exited with status 0"):
            await worker.predict(call(1))
        assert await died(bench) == "exited with status 0"


async def test_a_child_that_sends_what_is_no_frame_is_ended(bench: Bench) -> None:
    nonsense = READY + "import time\ndata.recv(65536)\ndata.sendall(bytes([255]) * 64)\ntime.sleep(600)\n"
    worker = bench.process_worker(command=script(bench, nonsense))
    async with bench.running(worker):
        with pytest.raises(WorkerDiedError):
            await worker.predict(call(1))
        assert await died(bench) == "killed by signal 9 (SIGKILL)"


async def test_a_child_that_does_not_read_makes_calls_wait_and_close_still_ends(bench: Bench) -> None:
    deaf = READY + "import time\ntime.sleep(600)\n"
    worker = bench.process_worker(command=script(bench, deaf), max_queued=8, close_timeout_s=0.2)
    with open_files_kept():
        await worker.start()
        large = call(1)
        large.body = b"x" * 1_000_000
        calls = [worker.predict(large) for _ in range(20)]
        assert worker.queued == 8
        await worker.close()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, Exception) for outcome in outcomes)


PARENT = """
import asyncio, sys
from pathlib import Path
from worker_fixtures import Bench, call

async def main():
    bench = Bench(Path(sys.argv[1]))
    worker = bench.process_worker()
    await worker.start()
    spec = bench.spec()
    await worker.load(spec)
    await worker.predict(call(spec.handle))
    busy = worker.predict(call(spec.handle, {"gate": sys.argv[2]})) if len(sys.argv) > 2 else None
    print(worker.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("busy", [False, True])
async def test_a_child_does_not_outlive_a_killed_parent(bench: Bench, busy: bool) -> None:
    path = bench.path / "parent.py"
    path.write_text(PARENT)
    (bench.path / "bench").mkdir()
    gate = bench.gate()
    parent = subprocess.Popen(
        [sys.executable, str(path), str(bench.path / "bench"), *([str(gate.path)] if busy else [])],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    try:
        assert parent.stdout is not None
        child = int(await asyncio.wait_for(asyncio.to_thread(parent.stdout.readline), LIMIT_S))
        if busy:
            await gate.reached()
        assert not is_gone(child)
        parent.kill()
        parent.wait()
        await until(lambda: is_gone(child))
    finally:
        gate.open()
        parent.kill()
        parent.wait()
        parent.stdout.close()


async def test_the_sockets_are_not_inherited_by_what_the_users_code_starts(bench: Bench) -> None:
    """An orphan of the user's with our sockets open would hide the child's end."""
    source = """
import subprocess, sys


class Predictor:
    def load_model(self, disk_path):
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)

    def predict(self, model, payload):
        return model.pid
"""
    bench.predictor.write_text(source)
    async with bench.running(bench.process_worker()) as worker:
        spec = bench.spec()
        await worker.load(spec)
        orphan = int((await worker.predict(call(spec.handle))).body)
        try:
            os.kill(pid_of(worker), signal.SIGKILL)
            assert await died(bench) == "killed by signal 9 (SIGKILL)"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)


def test_it_runs_on_uvloop_too(bench: Bench) -> None:
    import uvloop

    async def life() -> None:
        async with bench.running(bench.process_worker()) as worker:
            spec = bench.spec()
            await worker.load(spec)
            await asyncio.gather(
                *(worker.predict(call(spec.handle, {"echo": "x" * 100_000})) for _ in range(50))
            )
            os.kill(pid_of(worker), signal.SIGKILL)
            await died(bench)

    uvloop.run(asyncio.sleep(0))  # its first loop opens files that stay
    with open_files_kept():
        uvloop.run(life())
