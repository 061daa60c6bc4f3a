"""Peers that run: each started in a process group of its own, asked until it answers, and ended with all its children.

Called by ``rows.py``. It ends only processes that it started, by their ids.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from generators import GRACE_S, UNITS_IN_S, LoadGen, parse_loadgen
from load import Job, Request, Trace, raw_request
from peer import Peer, PeerRequest, Place
from subjects import LOCALHOST, Server

START_LIMIT_S: Final = 240
ERROR_LIMIT_S: Final = 60
"""For a server that answers, though with an error: some do so while they start."""

STOP_LIMIT_S: Final = 40
POLL_S: Final = 0.05
LOG_TAIL: Final = 2000
UNWANTED: Final = ("PYTHON", "HOTSET_", "RAY_", "MLSERVER_", "BENTOML_", "GRANIAN_")
"""Variables of the driver's environment that would configure what is measured."""

MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Weight:
    """Of all processes of a server: each page shared among its users (PSS), and what is theirs alone (USS)."""

    pss_mb: float
    uss_mb: float
    processes: int


@dataclass(frozen=True, slots=True)
class Started:
    """A peer that answers. ``start_s`` passed from its start to its first answer."""

    peer: Peer
    place: Place
    server: Server
    start_s: float

    def ask(self, request: PeerRequest, *, limit_s: float = 60.0) -> Any:
        """Send a request and return the JSON of its answer, or None where it is empty.

        Raises:
            OSError: it was refused (``urllib.error.HTTPError``) or not answered.
        """
        return ask(self.place.port, request, limit_s=limit_s)

    def predict(self, model: str) -> float:
        """Return what a model predicts for the row.

        Raises:
            OSError: as ``ask``.
        """
        return self.peer.value(self.ask(self.peer.request(model)))

    def first_prediction(self, model: str) -> float:
        """Return a model's prediction, once it is there: some answer before all their models are loaded.

        Raises:
            OSError: it did not answer well within ``ERROR_LIMIT_S``.
        """
        end_s = time.monotonic() + ERROR_LIMIT_S
        while True:
            try:
                return self.predict(model)
            except urllib.error.HTTPError:
                if time.monotonic() > end_s:
                    raise
                time.sleep(POLL_S)

    def weight(self) -> Weight:
        """Return what all its processes weigh now."""
        process = psutil.Process(self.server.pid)
        pss = uss = count = 0
        for it in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                found = it.memory_full_info()
                pss, uss, count = pss + found.pss, uss + found.uss, count + 1
        return Weight(pss / MB, uss / MB, count)


class Load(LoadGen):
    """The compiled generator, which sends whatever headers a request has. Blocks until it has ended."""

    @classmethod
    def of(cls, tracer: LoadGen) -> Load:
        """Use the program that a tracer uses."""
        return cls(tracer._program)  # noqa: SLF001 - of its own class

    def trace(self, job: Job) -> Trace:
        with tempfile.TemporaryDirectory(prefix="hotset-peers-") as folder:
            requests, samples = Path(folder) / "requests", Path(folder) / "samples"
            raw = [raw_with_headers(it) for it in job.requests]
            requests.write_bytes(b"".join(struct.pack("<I", len(it)) + it for it in raw))
            given = (job.port, job.connections, job.seconds, job.rate, requests, samples)
            told = subprocess.run(
                [str(self._program), *map(str, given)],
                stdout=subprocess.PIPE,
                text=True,
                timeout=job.seconds + GRACE_S,
                check=True,
            )
            table = np.fromfile(samples, dtype="<u4").reshape(-1, 3) / UNITS_IN_S
        return parse_loadgen(told.stdout, table)


def raw_with_headers(request: Request) -> bytes:
    """Return a request as it goes over the wire, with its headers."""
    raw = raw_request(request)
    if not isinstance(request, PeerRequest) or not request.headers:
        return raw
    line, rest = raw.split(b"\r\n", 1)
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
    return line + b"\r\n" + headers.encode() + rest


def ask(port: int, request: PeerRequest, *, limit_s: float) -> Any:
    """As ``Started.ask``."""
    headers = {"Content-Type": "application/json", **dict(request.headers)}
    url = f"http://{LOCALHOST}:{port}{request.path}"
    asked = urllib.request.Request(url, data=request.body.encode() or None, headers=headers)
    with urllib.request.urlopen(asked, timeout=limit_s) as answer:
        body = answer.read()
    return json.loads(body) if body else None


@contextmanager
def started(peer: Peer, place: Place, first: str) -> Iterator[Started]:
    """Run a peer for as long as the ``with`` block lasts; it is asked for ``first`` until it answers.

    Raises:
        RuntimeError: it ended, or did not answer in time; the message has the end of its log.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    launch = peer.launch(place)
    log = place.folder / "log.txt"
    bin_folder = place.python.parent
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(UNWANTED)},
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "VIRTUAL_ENV": str(bin_folder.parent),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **launch.environment,
    }
    begun_s = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            launch.command, env=environment, cwd=place.folder, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_answered(peer.request(first), place.port, process, log)
        yield Started(peer, place, Server(place.port, process.pid), time.monotonic() - begun_s)
    finally:
        _end(process)


def _wait_until_answered(
    request: PeerRequest, port: int, process: subprocess.Popen[bytes], log: Path
) -> None:
    end_s = time.monotonic() + START_LIMIT_S
    while True:
        try:
            ask(port, request, limit_s=10.0)
        except OSError as error:
            said = error.read()[:500] if isinstance(error, urllib.error.HTTPError) else b""
            if process.poll() is not None:
                raise RuntimeError(f"it ended with status {process.returncode}: {_tail(log)}") from error
            if said:
                end_s = min(end_s, time.monotonic() + ERROR_LIMIT_S)
            if time.monotonic() > end_s:
                raise RuntimeError(f"no good answer in time: {error} {said!r}: {_tail(log)}") from error
            time.sleep(POLL_S)
        else:
            return


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_TAIL:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server, and whatever it started and left behind."""
    children: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
    _, left = psutil.wait_procs(children, timeout=2)
    for it in left:
        with suppress(psutil.NoSuchProcess):
            it.kill()
    psutil.wait_procs(left, timeout=5)
    if process.poll() is None:
        process.kill()
        process.wait()
