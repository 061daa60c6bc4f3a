"""The programs that send requests, each a process of its own without a Python interpreter to share.

``run.py`` finds them once. ``wrk`` makes the closed loop where it is installed. ``loadgen.c``, built here with the
machine's C compiler or with the one that the package ``ziglang`` brings, has the open loop too, and makes both where
there is no ``wrk``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from load import Generator, Job, Result, Trace, Tracer, percentiles_ms, raw_request

HERE: Final = Path(__file__).parent
SOURCE: Final = HERE / "loadgen.c"
GRACE_S: Final = 30
COMPILERS: Final = ("cc", "gcc", "clang")
OPTIONS: Final = ("-O2", "-std=gnu11", "-o")
PERCENTS: Final = (50, 90, 99, 99.9, 100)
UNITS_IN_S: Final = 1e7
"""The program counts in units of 100 ns."""


class LoadGen:
    """``loadgen.c``: closed and open loop, every request's time."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self.description = "loadgen.c (compiled, one thread)"

    def run(self, job: Job) -> Result:
        return self.trace(job).result

    def trace(self, job: Job) -> Trace:
        with tempfile.TemporaryDirectory(prefix="hotset-bench-") as folder:
            requests, samples = Path(folder) / "requests", Path(folder) / "samples"
            raw = [raw_request(it) for it in job.requests]
            requests.write_bytes(b"".join(struct.pack("<I", len(it)) + it for it in raw))
            given = (job.port, job.connections, job.seconds, job.rate, requests, samples)
            told = _output([str(self._program), *map(str, given)], job.seconds + GRACE_S, at_once=True)
            table = np.fromfile(samples, dtype="<u4").reshape(-1, 3) / UNITS_IN_S
        return parse_loadgen(told, table)


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
            before_s = _children_cpu_s()
            told = _output([self._program, *options, *script], job.seconds + GRACE_S)
        return parse_wrk(told, cpu_s=_children_cpu_s() - before_s)


def find_tracer(keep: Path) -> Tracer:
    """Build ``loadgen.c`` below ``keep``, or take what was built from the same source.

    Raises:
        RuntimeError: there is no compiler, or it failed.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    program = keep / f"loadgen-{platform.machine()}-{digest}"
    if not program.exists():
        keep.mkdir(parents=True, exist_ok=True)
        built = keep / f"{program.name}.{os.getpid()}"
        _output([*_compiler(), *OPTIONS, str(built), str(SOURCE)], 300)
        built.rename(program)
    return LoadGen(program)


def find_closed(tracer: Tracer) -> Generator:
    """Return ``wrk`` where it is installed, else the program that was built."""
    program = shutil.which("wrk")
    return tracer if program is None else Wrk(program)


def _compiler() -> list[str]:
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    if found is not None:
        return [found]
    if find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise RuntimeError(
        f"expected a C compiler ({', '.join(COMPILERS)}) or the package ziglang to build {SOURCE.name}, found none; "
        "install one, or run: pip install 'hotset[bench]'"
    )


def parse_loadgen(told: str, table: np.ndarray[Any, np.dtype[np.float64]]) -> Trace:
    """Return what the program printed and the times that it wrote down: turn, took, late."""
    found: dict[str, Any] = json.loads(told)
    turn_s, took_s, late_s = (np.ascontiguousarray(column) for column in table.T)
    p50, p90, p99, p999, most = percentiles_ms(took_s, PERCENTS)
    result = Result(
        requests=found["requests"],
        seconds=found["seconds"],
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=most,
        refused=found["refused"],
        broken=found["broken"],
        unsent=found["unsent"],
        own_cpu=found["cpu_s"] / found["seconds"],
        own_late_ms=percentiles_ms(late_s, [99])[0],
    )
    return Trace(result, turn_s, took_s)


def parse_wrk(told: str, *, cpu_s: float) -> Result:
    """Return what ``wrk.lua`` printed.

    Raises:
        RuntimeError: there is no result in it.
    """
    lines = [line for line in told.splitlines() if line.startswith("RESULT ")]
    if len(lines) != 1:
        raise RuntimeError(f"expected one line with RESULT from wrk, found {len(lines)}: {told[-500:]!r}")
    found: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    seconds = found["duration"] / 1e6
    return Result(
        requests=found["requests"] + found["broken"],  # wrk itself counts what was answered
        seconds=seconds,
        p50_ms=found["p50"] / 1e3,
        p90_ms=found["p90"] / 1e3,
        p99_ms=found["p99"] / 1e3,
        p999_ms=found["p999"] / 1e3,
        max_ms=found["max"] / 1e3,
        refused=found["refused"],
        broken=found["broken"],
        own_cpu=cpu_s / seconds,
    )


def _children_cpu_s() -> float:
    """Return the processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _output(command: Sequence[str], limit_s: float, *, at_once: bool = False) -> str:
    """Run a program to its end. ``at_once``: where that is allowed, it never waits for a processor, as the clients of a
    server that have a machine of their own do not: else its own waiting would count as the server's."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        if at_once and sys.platform == "linux":
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(program.pid, os.SCHED_RR, os.sched_param(1))
        try:
            told, complaint = program.communicate(timeout=limit_s)
        except BaseException:
            program.kill()
            raise
    if program.returncode:
        raise RuntimeError(f"{command[0]} ended with status {program.returncode}: {complaint[-1000:]}")
    return told
