"""Rows of the fault table: the process of one model is killed, where each has its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fault_models import FaultModels
from fault_stream import Stream
from server_process import running_server

MODELS = 4


async def test_the_process_of_one_model_is_killed(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = fault_models.write_many(MODELS)
    settings = {**fault_models.settings, "isolation": "own", "threads_per_process": 2}
    with running_server(tmp_path / "disk", **settings) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            (pid,) = [
                it["pid"] for it in server.status()["server"]["workers"] if it["model"] == f"{names[0]}@1"
            ]
            os.kill(pid, signal.SIGKILL)
            await stream.recovered()
            await stream.goes_on()
        assert [event["lost_models"] for event in server.events("worker_died")] == [1]
        fault_row("the process of one model is killed (isolation: own)", stream)
