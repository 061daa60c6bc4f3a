"""Rows of the fault table: more than a server can do, while a stream of requests for other models goes on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from fault_models import FaultModels
from fault_stream import Stream
from load_client import Connection
from server_process import ServerProcess, running_server

MODELS = 6
FLOODING = 60


async def flood(server: ServerProcess, name: str, ended: asyncio.Event, statuses: list[int]) -> None:
    async with Connection(server.host, server.port) as connection:
        while not ended.is_set():
            answer = await connection.predict(name)
            statuses.append(answer.status)
            if answer.status != 200:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("memory", ["hot", "cold"])
async def test_one_model_is_flooded(
    memory: str, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = fault_models.write_many(MODELS)
    fault_models.write("flooded", predict_s=0.005, load_s=0.0 if memory == "hot" else 2.0)
    with running_server(tmp_path / "disk", **fault_models.settings, max_queue=40) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            if memory == "hot":
                await stream.beside(server.predict, "flooded")
            ended = asyncio.Event()
            statuses: list[int] = []
            async with asyncio.TaskGroup() as group:
                for _ in range(FLOODING):
                    group.create_task(flood(server, "flooded", ended, statuses))
                await stream.server_says(lambda: 503 in statuses, what="the flood is refused")
                stream.fault_begins()
                await stream.recovered()
                await stream.goes_on()
                ended.set()
        assert set(statuses) == {200, 503}
        fault_row(f"one {memory} model is flooded", stream)


async def test_half_requests_on_hundreds_of_connections(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = fault_models.write_many(MODELS)
    with running_server(tmp_path / "disk", **fault_models.settings, max_queue=40) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            half = b"POST /models/m0/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
            sockets = [socket.create_connection((server.host, server.port)) for _ in range(400)]
            try:
                stream.fault_begins()
                for number, each in enumerate(sockets):
                    each.sendall(half if number % 2 else half[:20])
                await stream.recovered()
                await stream.goes_on()
            finally:
                for each in sockets:
                    each.close()
        fault_row("400 clients that never end their requests", stream)
