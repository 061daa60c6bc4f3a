"""Rows of the fault table: the kernel's OOM killer, in a control group of the server's own. Nothing of it is pretended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fault_models import FaultModels
from fault_stream import Stream
from memory_cgroup import MemoryCgroup, NoCgroupError, memory_cgroup
from server_process import ServerProcess, end, start_server

MODELS = 6
BAD = "bad"
NO_WATERMARKS = {"memory_high": 1, "memory_critical": 1, "memory_stall": 0}
"""Here the kernel is to act; with them, models leave and others are refused while one takes all memory."""
LIMIT_BYTES = 700 * 1024 * 1024


@contextmanager
def confined(
    models: FaultModels, tmp_path: Path, **settings: object
) -> Iterator[tuple[ServerProcess, MemoryCgroup]]:
    """A server that may have so much memory with all its children; skips where no control group can be made."""
    try:
        with memory_cgroup("oom", limit_bytes=LIMIT_BYTES) as group:
            server = start_server(
                tmp_path / "disk", **models.settings, **NO_WATERMARKS, threads_per_process=2, **settings
            )
            try:
                group.add(server.pid)  # before it has any children: its interpreter has just begun
                server.wait_ready()
                yield server, group
            finally:
                end(server)
    except NoCgroupError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("where", ["predict", "load"])
async def test_the_system_ends_a_child_as_memory_runs_out(
    where: str, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = fault_models.write_many(MODELS)
    fault_models.write(BAD)
    with confined(fault_models, tmp_path) as (server, group):
        if where == "predict":
            assert server.predict(BAD).status == 200
        family = {server.pid, *(child.pid for child in psutil.Process(server.pid).children(recursive=True))}
        assert family <= group.pids()
        async with Stream(server, names) as stream:
            await stream.goes_on()
            fault_models.order(BAD, where, "fill")
            stream.fault_begins()
            asked = await stream.beside(server.predict, BAD)
            assert (asked.status, asked.json) == (200, {"is": BAD, "version": 1}), "it was tried once more"
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on()
        fault_row(f"a child is ended by the system's OOM killer in {where}", stream)
        assert group.oom_kills() >= 1
        (died,) = server.events("worker_died")
        assert "SIGKILL" in died["reason"]
        assert f"{BAD}@1" in died["at"]
        assert server.process.poll() is None


def test_children_are_to_be_ended_before_the_gateway(fault_models: FaultModels, tmp_path: Path) -> None:
    fault_models.write_many(1)
    server = start_server(tmp_path / "disk", **fault_models.settings)
    try:
        server.wait_ready()
        children = server.children()
        assert children
        gateway = score_of(server.pid)
        assert all(score_of(child.pid) == min(1000, gateway + 500) for child in children)
        others = {child.pid for child in psutil.Process(server.pid).children()} - {it.pid for it in children}
        assert all(score_of(pid) >= gateway for pid in others), (
            "the fork server is no better than the gateway"
        )
    finally:
        end(server)


def score_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
