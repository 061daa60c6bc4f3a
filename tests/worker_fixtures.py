"""A predictor file, version directories and gates for the tests of workers: all real, on disk."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hotset.workers.base import LoadSpec, PredictCall, Worker
from hotset.workers.forking import ForkServer
from hotset.workers.process import ProcessWorker
from hotset.workers.process_options import ProcessOptions
from hotset.workers.standard import standard_kit
from hotset.workers.thread import ThreadWorker

LIMIT_S = 30.0
"""For waits that end by an event: past it the test is wrong, and fails."""

PREDICTOR = """
import ctypes
import json
import os
import pathlib
import signal
import sys
import time


class Predictor:
    def __init__(self, config):
        self.greeting = config.get("greeting", "hello")

    def load_model(self, disk_path):
        model = json.loads((pathlib.Path(disk_path) / "model.json").read_text())
        self._do(model.get("load") or {})
        model["heap"] = bytearray(model.get("heap", 0))
        return model

    def predict(self, model, payload, query_params, headers, model_name, model_version):
        self._do(payload)
        return {
            "model": model["name"],
            "echo": payload.get("echo"),
            "greeting": self.greeting,
            "query": query_params,
            "headers": headers,
            "name": model_name,
            "version": model_version,
        }

    def unload_model(self, model):
        self._do(model.get("unload") or {})
        if "unloaded" in model:
            pathlib.Path(model["unloaded"]).write_text("unloaded")
        if model.get("unload_raises"):
            raise RuntimeError("no")

    def _do(self, order):
        if "gate" in order:
            with open(order["gate"]) as gate:
                gate.read()
        if "raise" in order:
            raise {"value": ValueError, "memory": MemoryError, "exit": SystemExit}[order["raise"]]("as told")
        if "kill" in order:
            os.kill(os.getpid(), order["kill"])
            time.sleep(60)
        if "exit" in order:
            os._exit(order["exit"])
        if "hold_s" in order:
            ctypes.PyDLL(None).sleep(order["hold_s"])
        if "power" in order:
            3 ** order["power"]
"""


class Gate:
    """A named pipe: one reader in user code stops there; ``reached`` waits for that, ``open`` lets it go on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._writers: list[int] = []

    async def reached(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not self._writers:
                try:
                    self._writers.append(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
                except OSError as error:
                    if error.errno != errno.ENXIO:  # no reader yet
                        raise
                    await asyncio.sleep(0.005)

    def open(self) -> None:
        for writer in self._writers:
            os.close(writer)
        self._writers.clear()


@dataclass
class Bench:
    """A directory with a predictor and models, and the workers made over it."""

    path: Path
    deaths: list[str] = field(default_factory=list)
    died: asyncio.Event = field(default_factory=asyncio.Event)
    gates: list[Gate] = field(default_factory=list)
    fork_server: ForkServer | None = None
    _handles: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)

    def __post_init__(self) -> None:
        self.predictor = self.path / "predictor.py"
        self.predictor.write_text(PREDICTOR)

    def spec(self, name: str = "paris", **model: Any) -> LoadSpec:
        handle = self._handles()
        directory = self.path / f"{name}-{handle}"
        directory.mkdir()
        (directory / "model.json").write_text(json.dumps({"name": name, **model}))
        return LoadSpec(handle, name, 1, str(directory))

    def gate(self) -> Gate:
        gate = Gate(self.path / f"gate-{len(self.gates)}")
        self.gates.append(gate)
        return gate

    def options(self, **changes: Any) -> ProcessOptions:
        return replace(
            ProcessOptions(
                predictor=str(self.predictor), start_timeout_s=LIMIT_S, ping_interval_s=1.0, log_level="error"
            ),
            **changes,
        )

    def process_worker(self, **changes: Any) -> ProcessWorker:
        return ProcessWorker(7, options=self.options(**changes), on_death=self.on_death)

    def forked_worker(self, **changes: Any) -> ProcessWorker:
        """A child from the bench's fork server."""
        return self.process_worker(children=self.fork_server, **changes)

    @asynccontextmanager
    async def forking(self) -> AsyncIterator[None]:
        """Have a fork server."""
        self.fork_server = ForkServer(limit_s=LIMIT_S)
        self.fork_server.import_ahead(["json"])  # which starts it
        try:
            yield
        finally:
            await self.fork_server.close()

    def thread_worker(self, **options: Any) -> ThreadWorker:
        config = options.pop("predictor_config", {})
        return ThreadWorker(
            7, kit=lambda: standard_kit(str(self.predictor), config), on_death=self.on_death, **options
        )

    def on_death(self, reason: str) -> None:
        self.deaths.append(reason)
        self.died.set()

    @asynccontextmanager
    async def running(self, worker: Worker) -> AsyncIterator[Worker]:
        await worker.start()
        try:
            yield worker
        finally:
            for gate in self.gates:
                gate.open()
            await worker.close()


def call(handle: int, payload: Any = None, **fields: Any) -> PredictCall:
    return PredictCall(handle, "native", json.dumps({} if payload is None else payload).encode(), **fields)


@contextmanager
def open_files_kept() -> Any:
    """Fail if more file descriptors are open after the block than before."""
    before = _open_files()
    yield
    after = _open_files()
    assert len(after) <= len(before), f"leaked file descriptors: {after.items() - before.items()}"


def _open_files() -> dict[str, str]:
    found = {}
    for file in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that the listing itself uses
            found[file.name] = str(file.readlink())
    # A thread that a test holds at a gate has that gate open; in thread mode it outlives the worker, as promised.
    return {name: target for name, target in found.items() if "/gate-" not in target}
