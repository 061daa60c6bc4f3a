"""Servers under measurement: each a process of its own, started, asked once, and ended by its own process id.

``run.py`` and its sections call it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from load import Request

HERE: Final = Path(__file__).parent
START_LIMIT_S: Final = 300
STOP_LIMIT_S: Final = 30
LOCALHOST: Final = "127.0.0.1"
READY: Final = Request("/health/ready", "")
"""Answered once the store was listed."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of all processes together: what is theirs alone, and what is resident, in bytes."""

    uss: int
    rss: int


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers. It ends with the ``with`` block that made it."""

    port: int
    pid: int

    def ask(self, request: Request, *, limit_s: float = 60.0) -> Any:
        """Send one request (without a body: a GET) and return the JSON of its answer.

        Raises:
            OSError: it was refused (``urllib.error.HTTPError``) or not answered.
        """
        return self._json(request.path, data=request.body.encode() or None, limit_s=limit_s)

    def get(self, path: str) -> Any:
        """Return the JSON of a page.

        Raises:
            OSError: as ``ask``.
        """
        return self._json(path, data=None, limit_s=60.0)

    def text(self, path: str) -> str:
        """Return a page as text.

        Raises:
            OSError: as ``ask``.
        """
        with urllib.request.urlopen(f"http://{LOCALHOST}:{self.port}{path}", timeout=60.0) as answer:
            page: bytes = answer.read()
        return page.decode()

    def _json(self, path: str, *, data: bytes | None, limit_s: float) -> Any:
        url = f"http://{LOCALHOST}:{self.port}{path}"
        asked = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=limit_s) as answer:
            return json.load(answer)

    def cpu_s(self) -> float:
        """Return the processor time that the server and its children have used, those included that have ended."""
        total = 0.0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                it = process.cpu_times()
                total += it.user + it.system + it.children_user + it.children_system
        return total

    def memory(self) -> Memory:
        """Return the memory of the server and its children."""
        uss = rss = 0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                it = process.memory_full_info()
                uss, rss = uss + it.uss, rss + it.rss
        return Memory(uss, rss)

    def _processes(self) -> list[psutil.Process]:
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


@contextmanager
def bare(model: Path, first: Request) -> Iterator[Server]:
    """Run the bare uvicorn app with one model; ``first`` is asked until it is answered."""
    with _bare("model", str(model), first=first) as server:
        yield server


@contextmanager
def bare_cache(models: Path, size: int | None, first: Request) -> Iterator[Server]:
    """Run the bare uvicorn app with ``functools.lru_cache`` of ``size`` around ``joblib.load``."""
    with _bare("cache", str(models), str(size or 0), first=first) as server:
        yield server


@contextmanager
def bare_predictor(predictor: Path, workers: int, first: Request) -> Iterator[Server]:
    """Run the bare uvicorn app with a predictor's ``predict`` in ``workers`` processes."""
    with _bare("predictor", str(predictor), str(workers), first=first) as server:
        yield server


@contextmanager
def bare_raw(predictor: Path, first: Request) -> Iterator[Server]:
    """Run the bare uvicorn app with a predictor that takes its body as it came."""
    with _bare("raw", str(predictor), first=first) as server:
        yield server


@contextmanager
def _bare(*arguments: str, first: Request) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, str(HERE / "bare_app.py"), str(port), *arguments]
    with _running(command, port, first) as server:
        yield server


@contextmanager
def hotset(
    models: Path,
    folder: Path,
    first: Request,
    *,
    settings: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[Server]:
    """Run hotset with one child of one thread over ``models``; its disk tier is in ``folder``.

    ``under`` is a command that runs a program, such as a profiler's.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "model-dir": str(models),
        "disk-path": str(folder / "disk"),
        "port": str(port),
        "settle-time": "0s",
        "processes-per-replica": "1",
        "threads-per-process": "1",
        "log-level": "warning",
        **(settings or {}),
    }
    options = [f"--{name}={value}" for name, value in given.items()]
    command = [*under, sys.executable, "-m", "hotset", "serve", *options]
    with _running(command, port, READY, first) as server:
        yield server


@contextmanager
def _running(command: list[str], port: int, *first: Request) -> Iterator[Server]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment) as process:
        server = Server(port, process.pid)
        try:
            for request in first:
                _wait_until_answered(server, request, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_answered(server: Server, first: Request, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_LIMIT_S
    while True:
        try:
            server.ask(first)
        except OSError as error:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with status {process.returncode}") from error
            if time.monotonic() > end:
                raise RuntimeError(f"no answer within {START_LIMIT_S} s: {error}") from error
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port
