"""Closed-loop load on one server: so many connections, each sending its next request when the last was answered.

``run.py`` and its sections call it. The load runs in a process of its own: ``wrk`` where it is installed, else
``asyncio_load.py``, which takes more of the machine itself. Nothing here knows what is measured.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

HERE: Final = Path(__file__).parent
GRACE_S: Final = 30


@dataclass(frozen=True, slots=True)
class Request:
    """One POST with a JSON body; neither part holds a tab or a line's end."""

    path: str
    body: str


@dataclass(frozen=True, slots=True)
class Job:
    """What to send, in this order again and again, and for how long."""

    port: int
    requests: tuple[Request, ...]
    connections: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """``refused`` counts answers that were no 2xx or 3xx, ``broken`` connections that failed or waited too long."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int

    @property
    def per_second(self) -> float:
        return (self.requests - self.refused) / self.seconds

    @property
    def failures(self) -> int:
        return self.refused + self.broken


class Generator(Protocol):
    """A program that sends a job's requests. Blocks until it has ended."""

    @property
    def description(self) -> str: ...

    def run(self, job: Job) -> Result:
        """Send the job's requests.

        Raises:
            RuntimeError: the program failed; the message is its own.
        """
        ...


class Wrk:
    """``wrk`` with one thread, for whole seconds. It counts a time-out where an answer takes longer than 10 s."""

    def __init__(self, program: str) -> None:
        self._program = program
        told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
        self.description = " ".join((told.stdout + told.stderr).splitlines()[0].split()[:2])

    def run(self, job: Job) -> Result:
        with tempfile.TemporaryDirectory(prefix="hotset-bench-") as folder:
            file = Path(folder) / "requests"
            file.write_text("".join(f"{it.path}\t{it.body}\n" for it in job.requests))
            options = ["-t1", f"-c{job.connections}", f"-d{max(1, round(job.seconds))}s", "--timeout", "10s"]
            script = ["-s", str(HERE / "wrk.lua"), f"http://127.0.0.1:{job.port}", "--", str(file)]
            return parse_wrk(_output([self._program, *options, *script], job.seconds + GRACE_S))


class AsyncioLoad:
    """The load generator of this directory, for machines without ``wrk``."""

    description = "asyncio_load.py (wrk was not found; this one takes more of the machine itself)"

    def run(self, job: Job) -> Result:
        program = [sys.executable, str(HERE / "asyncio_load.py")]
        told = _output(program, job.seconds + GRACE_S, given=json.dumps(asdict(job)))
        return Result(**json.loads(told))


def find_generator() -> Generator:
    """Return the best generator that this machine has."""
    program = shutil.which("wrk")
    return AsyncioLoad() if program is None else Wrk(program)


def parse_wrk(told: str) -> Result:
    """Return what ``wrk.lua`` printed.

    Raises:
        RuntimeError: there is no result in it.
    """
    lines = [line for line in told.splitlines() if line.startswith("RESULT ")]
    if len(lines) != 1:
        raise RuntimeError(f"expected one line with RESULT from wrk, found {len(lines)}: {told[-500:]!r}")
    found: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return Result(
        requests=found["requests"],
        seconds=found["duration"] / 1e6,
        p50_ms=found["p50"] / 1e3,
        p99_ms=found["p99"] / 1e3,
        refused=found["refused"],
        broken=found["broken"],
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value below which ``percent`` of ``ordered``, which ascends, lie; 0 where there is none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _output(command: Sequence[str], limit_s: float, *, given: str | None = None) -> str:
    ended = subprocess.run(command, input=given, capture_output=True, text=True, timeout=limit_s, check=False)
    if ended.returncode:
        raise RuntimeError(f"{command[0]} ended with status {ended.returncode}: {ended.stderr[-1000:]}")
    return ended.stdout
