"""Rows of the fault table: a child that crashes, hangs or is killed, under a stream of requests for other models too."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fault_models import FaultModels
from fault_stream import Stream
from server_process import ServerProcess, running_server

MODELS = 6


def kill_one_with_models(server: ServerProcess) -> None:
    busiest = max(server.status()["server"]["workers"], key=lambda worker: worker["models"])
    assert busiest["models"] > 0
    os.kill(busiest["pid"], signal.SIGKILL)


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_child_is_killed(
    processes: int, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = fault_models.write_many(MODELS)
    with running_server(
        tmp_path / "disk", **fault_models.settings, processes_per_replica=processes, threads_per_process=2
    ) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            kill_one_with_models(server)
            await stream.recovered()
            await stream.goes_on()
        fault_row(f"a child of {processes} is killed", stream)
