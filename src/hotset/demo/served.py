"""The server that the demo asks: ``hotset serve`` in a process of its own, ended with the demo by its process id."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from hotset.config_sources import ENVIRONMENT_PREFIX

USUAL_PORT: Final = 8500
START_LIMIT_S: Final = 60.0
END_LIMIT_S: Final = 15.0
_POLL_S: Final = 0.05


class ServerFailedError(Exception):
    """The server did not start, or ended by itself; the message holds the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Resident memory in bytes: of the server itself, and of the processes that hold the models."""

    server: int
    models: int


class Served:
    """A server that answers. Made by ``serving``."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def check_alive(self) -> None:
        """Raise ``ServerFailedError`` if the server ended."""
        status = self.process.poll()
        if status is not None:
            last = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
            raise ServerFailedError(
                f"the server ended by itself with status {status}; its last words:\n{last}"
            )

    def listens(self) -> bool:
        """Whether it is this server that has the port, and not one that somebody else started meanwhile."""
        return f"on http://127.0.0.1:{self.port}\n" in self.log.read_text(encoding="utf-8", errors="replace")

    def found_its_port_taken(self) -> bool:
        return self.process.poll() is not None and "cannot listen" in self.log.read_text(errors="replace")

    def footprint(self) -> Footprint:
        process = psutil.Process(self.process.pid)
        children = process.children(recursive=True)
        return Footprint(process.memory_info().rss, sum(child.memory_info().rss for child in children))


@contextmanager
def serving(flags: Sequence[str], *, log: Path, port: int | None = None) -> Iterator[Served]:
    """Start ``hotset serve`` with ``flags``, yield it once it is ready, and end it, whatever happens.

    Raises:
        ServerFailedError: it did not become ready within ``START_LIMIT_S``.
    """
    for choice in (port,) if port is not None else (USUAL_PORT, _free_port()):
        process = _started(flags, log, choice)
        try:
            served = Served(process, choice, log)
            if not _wait_ready(served, may_be_taken=choice != port and choice == USUAL_PORT):
                continue
            yield served
            return
        finally:
            _end(process)


def _started(flags: Sequence[str], log: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hotset", "serve", "--port", str(port), *flags]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)
    }
    with log.open("wb") as output:
        # A session of its own, so that Ctrl-C reaches the demo alone, which then ends the server in order.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )


def _wait_ready(served: Served, *, may_be_taken: bool) -> bool:
    """Return True once it is ready; False if ``may_be_taken`` and somebody else has its port."""
    limit_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit_s:
        if may_be_taken and served.found_its_port_taken():
            return False
        served.check_alive()
        if served.listens() and _is_ready(served.port):
            return True
        time.sleep(_POLL_S)
    raise ServerFailedError(f"the server was not ready within {START_LIMIT_S:g} s; its log: {served.log}")


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, and wait; past the limit, or at a second Ctrl-C, it is killed by its own id."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_LIMIT_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
