"""A fork server that runs before there is an event loop: it is taken over, or it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil

from hotset.config import load_settings
from hotset.replica import Replica
from hotset.workers.forking import ForkServer
from hotset.workers.headstart import StartedServer, head_start
from waiting import until
from worker_fixtures import LIMIT_S, open_files_kept


def signals_ignored_by(pid: int) -> int:
    """Return the mask of the signals that a process ignores."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))


async def test_its_children_are_the_gateways_own_and_it_ends_with_whoever_took_it() -> None:
    with open_files_kept(), head_start(wanted=True) as started:
        server = ForkServer(limit_s=LIMIT_S, started=started)
        child = await server.start_child()
        assert started is not None
        assert server.pid == started.process.pid
        assert psutil.Process(child.pid).ppid() == os.getpid()
        await server.close()
        assert not psutil.pid_exists(started.process.pid)
        child.control.close()
        child.data.close()
        await asyncio.wait_for(child.exited, LIMIT_S)


async def test_it_ends_with_a_replica_that_never_started(tmp_path: Path) -> None:
    settings = load_settings(None, {}, {"model_dir": str(tmp_path), "disk_path": str(tmp_path / "disk")})
    with head_start(wanted=True) as started:
        replica = Replica(settings, forks=started)
        await replica.stop()
        assert started is not None
        assert not psutil.pid_exists(started.process.pid)


async def test_what_nobody_takes_ends() -> None:
    with open_files_kept():
        with head_start(wanted=True) as started:
            assert started is not None
            pid = started.process.pid
            assert psutil.pid_exists(pid)
        assert not psutil.pid_exists(pid)


async def test_none_is_started_where_none_is_wanted() -> None:
    with head_start(wanted=False) as started:
        assert started is None


async def test_one_that_died_before_it_was_taken_is_replaced() -> None:
    started = StartedServer([sys.executable, "-c", ""])
    await until(lambda: psutil.Process(started.process.pid).status() == psutil.STATUS_ZOMBIE)
    server = ForkServer(limit_s=LIMIT_S, started=started)
    server.import_ahead(["json"])
    await until(lambda: server.pid not in (None, started.process.pid))
    child = await server.start_child()
    await server.close()
    child.control.close()
    child.data.close()
    await asyncio.wait_for(child.exited, LIMIT_S)


async def test_its_children_hear_of_their_own_children_whatever_it_inherited() -> None:
    """It starts before the gateway has put that right for itself."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        started = StartedServer()
    finally:
        signal.signal(signal.SIGCHLD, before)
    server = ForkServer(limit_s=LIMIT_S, started=started)
    child = await server.start_child()
    await until(lambda: psutil.Process(child.pid).name() == "hotset-child")
    assert not signals_ignored_by(child.pid) & 1 << (signal.SIGCHLD - 1)
    child.control.close()
    child.data.close()
    await asyncio.wait_for(child.exited, LIMIT_S)
    await server.close()
