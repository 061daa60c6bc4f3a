"""``hotset publish`` beside a server under load: new versions come whole, and one that was killed never comes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from load_client import Connection
from model_files import SIMPLE_PREDICTOR, write_predictor
from server_process import ServerProcess, running_server

CONNECTIONS = 4
LIMIT_S = 60.0
SLOW_BYTES = 96 << 20


def source(path: Path, version: int, *, extra_bytes: int = 0) -> Path:
    path.mkdir()
    (path / "value.json").write_text(json.dumps({"version": version}))
    with (path / "extra.bin").open("wb") as file:
        file.truncate(extra_bytes)
    return path


def hotset(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hotset", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done(*arguments: object) -> str:
    process = hotset(*arguments)
    out, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, error
    return out


def killed_midway(directory: Path, *arguments: object) -> None:
    """Kill the publisher once it has begun to upload into ``directory``."""
    process = hotset(*arguments)
    deadline = time.monotonic() + LIMIT_S
    while not [*directory.glob(".*.part")] and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was through before it could be killed"


class Clients:
    """Ask for ``latest`` without pause; every answer is of one version, and none goes back."""

    def __init__(self) -> None:
        self.newest = 0
        self.answers = 0

    async def one(self, server: ServerProcess, end: asyncio.Event) -> None:
        version = 0
        async with Connection(server.host, server.port) as connection:
            while not end.is_set():
                answer = await connection.predict("city")
                assert answer.status == 200, answer.body
                assert answer.json == {"version": answer.version}, "an answer of two versions"
                assert answer.version >= version
                version = answer.version
                self.newest = max(self.newest, version)
                self.answers += 1
                await asyncio.sleep(0.005)

    async def until(self, version: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while self.newest < version:
                await asyncio.sleep(0.02)


async def passes(server: ServerProcess, number: int) -> None:
    """Return when the sync loop has made so many passes more."""
    before = await asyncio.to_thread(server.metric, "hotset_sync_seconds_count")
    async with asyncio.timeout(LIMIT_S):
        while await asyncio.to_thread(server.metric, "hotset_sync_seconds_count") < before + number:
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("discovery", ["list", "index", "on_demand"])
async def test_what_is_published_is_served_whole_and_what_was_killed_is_not(
    tmp_path: Path, discovery: str
) -> None:
    root = tmp_path / "models"
    root.mkdir()
    predictor = write_predictor(tmp_path, SIMPLE_PREDICTOR)
    print(await asyncio.to_thread(done, "publish", source(tmp_path / "1", 1), root / "city"))
    if discovery == "index":
        await asyncio.to_thread(done, "index", root)
    settings = {
        "model_dir": str(root),
        "predictor": str(predictor),
        "sync_interval": "0.2s",
        "settle_time": "0.3s",
        "discovery": "on_demand" if discovery == "on_demand" else "list",
    }
    with running_server(tmp_path / "server", **settings) as server:
        clients, end = Clients(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(clients.one(server, end))
            try:
                await clients.until(1)
                await asyncio.to_thread(done, "publish", source(tmp_path / "2", 2), root / "city")
                await clients.until(2)
                killed = source(tmp_path / "3", 3, extra_bytes=SLOW_BYTES)
                await asyncio.to_thread(killed_midway, root / "city" / "3", "publish", killed, root / "city")
                await passes(server, 8)  # much longer than the settle time
                assert clients.newest == 2
                print(await asyncio.to_thread(done, "publish", killed, root / "city" / "3", "--overwrite"))
                await clients.until(3)
            finally:
                end.set()
        assert clients.answers > 0
        expected = {"list": "listing", "index": "index", "on_demand": "lookups"}[discovery]
        assert server.metric("hotset_sync_source", source=expected) == 1
