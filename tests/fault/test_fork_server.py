"""The fork server that dies, hangs, or cannot be used, and the children that live on; every fault is a real one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotset.workers import forkwire
from hotset.workers.forking import MOST_DEATHS, ForkServer
from hotset.workers.process import ProcessWorker
from hotset.workers.spawn import ChildProcess
from waiting import until
from worker_fixtures import LIMIT_S, Bench, call, open_files_kept

TESTS = Path(__file__).parent.parent


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@asynccontextmanager
async def fork_server(**options: Any) -> AsyncIterator[ForkServer]:
    server = ForkServer(**({"limit_s": LIMIT_S} | options))
    try:
        yield server
    finally:
        await server.close()


def pid_of(it: ForkServer | ProcessWorker) -> int:
    assert it.pid is not None
    return it.pid


def is_forked(child: ChildProcess | ProcessWorker) -> bool:
    assert child.pid is not None
    return psutil.Process(child.pid).cmdline()[:4] == list(forkwire.COMMAND)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def ended(child: ChildProcess) -> int:
    """A child ends when its control socket does."""
    child.control.close()
    child.data.close()
    return await asyncio.wait_for(child.exited, LIMIT_S)


async def replaced(server: ForkServer, pid: int) -> None:
    await until(lambda: server.pid not in (None, pid))


async def test_a_child_is_forked_and_is_the_gateways_own() -> None:
    with open_files_kept():
        async with fork_server() as server:
            child = await server.start_child()
            process = psutil.Process(child.pid)
            assert is_forked(child)
            assert process.ppid() == os.getpid()
            await until(lambda: process.name() == "hotset-child")
            assert psutil.Process(pid_of(server)).name() == "hotset-forks"
            assert await ended(child) == 0
    assert not psutil.pid_exists(child.pid)


async def test_a_killed_child_is_reported_like_any_other_and_the_next_one_comes(bench: Bench) -> None:
    async with fork_server() as server:
        async with bench.running(bench.process_worker(children=server)) as worker:
            assert is_forked(worker)
            os.kill(pid_of(worker), signal.SIGKILL)
            await asyncio.wait_for(bench.died.wait(), LIMIT_S)
            assert bench.deaths == ["killed by signal 9 (SIGKILL)"]
        async with bench.running(bench.process_worker(children=server)) as worker:
            assert is_forked(worker)


async def test_a_child_that_the_system_reaps_is_known_to_be_gone(bench: Bench) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with fork_server() as server, bench.running(bench.process_worker(children=server)) as worker:
            assert is_forked(worker)
            os.kill(pid_of(worker), signal.SIGKILL)
            await asyncio.wait_for(bench.died.wait(), LIMIT_S)
            assert bench.deaths == ["exited with status 0"]
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_children_serve_on_when_the_fork_server_is_killed(bench: Bench) -> None:
    with open_files_kept():
        async with fork_server() as server, bench.running(bench.process_worker(children=server)) as worker:
            gate = bench.gate()
            spec = bench.spec()
            await worker.load(spec)
            waiting = asyncio.ensure_future(worker.predict(call(spec.handle, {"gate": str(gate.path)})))
            await gate.reached()
            pid = pid_of(server)
            os.kill(pid, signal.SIGKILL)
            await replaced(server, pid)
            gate.open()
            await waiting
            await worker.predict(call(spec.handle))
            async with bench.running(bench.process_worker(children=server)) as second:
                assert is_forked(second)
        assert bench.deaths == []


async def test_a_fork_server_that_dies_while_a_child_is_asked_for(bench: Bench) -> None:
    async with fork_server() as server:
        await ended(await server.start_child())
        pid = pid_of(server)
        os.kill(pid, signal.SIGSTOP)
        asked = asyncio.ensure_future(server.start_child())
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        child = await asked
        assert not is_forked(child)  # from a fresh interpreter
        await ended(child)
        child = await server.start_child()
        assert is_forked(child)
        await ended(child)


async def test_none_is_started_after_the_close() -> None:
    server = ForkServer()
    await started(server)
    pid = pid_of(server)
    ending = server._server
    assert ending is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: ending.is_over)
    asked = asyncio.ensure_future(server.start_child())
    await asyncio.sleep(0)
    await server.close()
    await ended(await asked)
    assert server.pid is None


async def test_a_fork_server_that_does_not_answer_is_replaced() -> None:
    async with fork_server() as server:
        await ended(await server.start_child())
        pid = pid_of(server)
        os.kill(pid, signal.SIGSTOP)
        server._limit_s = 0.05
        child = await server.start_child()
        assert not is_forked(child)
        await ended(child)
        assert server.pid != pid
        await until(lambda: is_gone(pid))
        server._limit_s = LIMIT_S
        child = await server.start_child()
        assert is_forked(child)
        await ended(child)


def children() -> set[int | None]:
    """Return the process ids of this process's children, those that nobody has reaped included."""
    return {child.pid for child in psutil.Process().children()}


async def test_a_child_that_nobody_waits_for_any_more_is_killed_and_reaped() -> None:
    others = children()  # servers of other tests, which last
    with open_files_kept():
        async with fork_server() as server:
            await ended(await server.start_child())
            os.kill(pid_of(server), signal.SIGSTOP)
            asked = asyncio.ensure_future(server.start_child())
            await asyncio.sleep(0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            os.kill(pid_of(server), signal.SIGCONT)
            child = await server.start_child()  # orders are carried out in turn
            await ended(child)
            await until(lambda: children() - others == {server.pid})


async def test_one_that_always_dies_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with fork_server(command=(sys.executable, "-c", "raise SystemExit(3)")) as server:
        child = await server.start_child()
        assert not is_forked(child)
        await ended(child)
        await until(lambda: server._problem is not None)
        assert server.pid is None
        child = await server.start_child()
        await ended(child)
    assert f"it was lost {MOST_DEATHS} times: it exited with status 3" in caplog.text


async def test_a_module_whose_import_ends_the_process_is_not_imported_ahead_for_ever(
    tmp_path: Path, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos._exit(3)\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(4)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    async with fork_server(environment=environment) as server:
        server.import_ahead(["exits", "deadly"])
        await until(lambda: server._problem is not None)
        assert server.modules == ()
        async with bench.running(bench.process_worker(children=server)) as worker:
            spec = bench.spec()
            await worker.load(spec)
            await worker.predict(call(spec.handle))
    assert bench.deaths == []
    assert f"it was lost {MOST_DEATHS} times: it exited with status 3" in caplog.text


async def test_one_that_cannot_be_started_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    async with fork_server(command=("/no/such/program",)) as server:
        child = await server.start_child()
        assert not is_forked(child)
        await ended(child)
    assert "No such file" in caplog.text


async def test_a_module_whose_import_starts_threads_is_left_to_the_children(
    tmp_path: Path, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="hotset.workers.forking")
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    (tmp_path / "threaded.py").write_text(source)
    (tmp_path / "quiet.py").write_text("")
    (tmp_path / "broken.py").write_text("1 / 0")
    bench.predictor.write_text("""
import sys


class Predictor:
    def load_model(self, disk_path):
        return None

    def predict(self, model):
        return [name for name in ("threaded", "quiet", "broken") if name in sys.modules]
""")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    async with fork_server(environment=environment) as server:
        pid = pid_of(await started(server))
        server.import_ahead(["broken", "threaded", "quiet"])
        async with bench.running(bench.process_worker(children=server)) as worker:
            assert is_forked(worker)
            assert pid_of(server) == pid
            spec = bench.spec()
            await worker.load(spec)
            answers: list[bytes] = []

            async def both() -> bool:
                answers.append((await worker.predict(call(spec.handle))).body)
                return answers[-1] == b'["threaded","quiet"]'

            async with asyncio.timeout(LIMIT_S):
                while not await both():
                    await asyncio.sleep(0.005)
        assert server.modules == ("quiet", "broken", "threaded")
    assert "threaded is imported by each child for itself: its import starts threads" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def started(server: ForkServer) -> ForkServer:
    await ended(await server.start_child())
    return server


async def test_a_fork_server_with_threads_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = """
import sys, threading, time
from hotset.workers import forkserver
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
forkserver.main(sys.argv[1:])
"""
    (tmp_path / "server.py").write_text(source)
    async with fork_server(command=(sys.executable, str(tmp_path / "server.py"))) as server:
        child = await server.start_child()
        assert not is_forked(child)
        await ended(child)
    assert "a process with 2 threads cannot be forked" in caplog.text


async def test_fifty_restarts_leave_no_files_and_no_processes(bench: Bench) -> None:
    others = children()
    async with fork_server() as server:
        await started(server)
        fork_servers_files = len(list(Path(f"/proc/{pid_of(server)}/fd").iterdir()))
        with open_files_kept():
            for _ in range(50):
                child = await server.start_child()
                assert is_forked(child)
                child.kill()
                assert await asyncio.wait_for(child.exited, LIMIT_S) == -signal.SIGKILL
                child.control.close()
                child.data.close()
        assert len(list(Path(f"/proc/{pid_of(server)}/fd").iterdir())) == fork_servers_files
        assert children() - others == {server.pid}


async def test_a_child_has_only_its_own_sockets() -> None:
    async with fork_server() as server:
        children = [await server.start_child() for _ in range(3)]
        for child in children:
            await until(lambda child=child: psutil.Process(child.pid).name() == "hotset-child")
            links = [str(file.readlink()) for file in Path(f"/proc/{child.pid}/fd").iterdir()]
            assert sum(link.startswith("socket:") for link in links) == 2, links
        for child in children:
            await ended(child)


PARENT = """
import asyncio, sys
from pathlib import Path
from hotset.workers.forking import ForkServer
from worker_fixtures import Bench, call

async def main():
    bench = Bench(Path(sys.argv[1]))
    server = ForkServer()
    worker = bench.process_worker(children=server)
    await worker.start()
    spec = bench.spec()
    await worker.load(spec)
    busy = worker.predict(call(spec.handle, {"gate": sys.argv[2]}))
    print(worker.pid, server.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_neither_outlives_a_killed_gateway(bench: Bench) -> None:
    path = bench.path / "parent.py"
    path.write_text(PARENT)
    (bench.path / "bench").mkdir()
    gate = bench.gate()
    parent = subprocess.Popen(
        [sys.executable, str(path), str(bench.path / "bench"), str(gate.path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    try:
        assert parent.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(parent.stdout.readline), LIMIT_S)
        pids = [int(word) for word in line.split()]
        await gate.reached()
        assert not any(map(is_gone, pids))
        parent.kill()
        parent.wait()
        await until(lambda: all(map(is_gone, pids)))
    finally:
        gate.open()
        parent.kill()
        parent.wait()
        parent.stdout.close()


IMPORTS_NOTHING = """
import pickle
import sys
from pathlib import Path


class Predictor:
    def __init__(self):
        self.before = set(sys.modules)

    def load_model(self, disk_path):
        return pickle.loads((Path(disk_path) / "model.pkl").read_bytes())

    def predict(self, model, payload):
        value = float(model.predict(payload)[0])
        return {"value": value, "ahead": "sklearn.ensemble" in self.before, "new": len(set(sys.modules) - self.before)}
"""


@pytest.mark.slow
async def test_the_first_load_and_prediction_import_nothing(bench: Bench) -> None:
    from model_files import regressor

    bench.predictor.write_text(IMPORTS_NOTHING)
    spec = bench.spec()
    (Path(spec.path) / "model.pkl").write_bytes(regressor(4.0))
    async with fork_server() as server:
        server.import_ahead(["hotset.runtimes.sklearn_ahead"])
        async with bench.running(bench.process_worker(children=server)) as worker:
            assert is_forked(worker)
            await worker.load(spec)
            answer = await worker.predict(call(spec.handle, [[1.0]]))
            assert answer.body == b'{"value":4.0,"ahead":true,"new":0}'


def test_it_runs_on_uvloop_too(bench: Bench) -> None:
    import uvloop

    async def life() -> None:
        async with fork_server() as server:
            async with bench.running(bench.process_worker(children=server)) as worker:
                assert is_forked(worker)
                pid = pid_of(server)
                os.kill(pid, signal.SIGKILL)
                await replaced(server, pid)
            await ended(await server.start_child())

    uvloop.run(asyncio.sleep(0))  # its first loop opens files that stay
    with open_files_kept():
        uvloop.run(life())
