"""``make profile``: where the time of one request goes, in the gateway and in the child, as tables in Markdown.

Three views of the same hot request, under closed-loop load: what each process takes of it by the system's own books;
by file and function of Python, sampled by py-spy; by shared object, the kernel included, sampled by perf where it is
installed. With ``--callgrind``, machine instructions by shared object and function as well, counted by valgrind: exact,
and slow. Samples are turned into microseconds with the first figure, so that the profilers' own cost is left out.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import machine
import psutil
from generators import find_tracer
from load import Job, Result, Tracer
from models import request_for, write_models
from report import markdown_table
from run import RESULTS
from section import Grid
from subjects import LOCALHOST, Server, hotset

GATEWAY: Final = "gateway"
CHILD: Final = "child"
CONNECTIONS: Final = 32
SECONDS: Final = 8.0
RATE_HZ: Final = 250
FILES_SHOWN: Final = 14
FUNCTIONS_SHOWN: Final = 12
OBJECTS_SHOWN: Final = 10
WARM_REQUESTS: Final = 50
COUNTED_REQUESTS: Final = 300

LOOP: Final = ("asyncio/runners.py", "uvloop/__init__.py")
IN_THE_LOOP: Final = "event loop, HTTP parser and system calls (uvloop, httptools: no Python on the stack)"
_FRAME: Final = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(:\d+)?\)$")
_CALLGRIND_OBJECT: Final = re.compile(r"^(?P<called>c?)ob=(?P<id>\(\d+\))(?: (?P<name>.+))?$")
_CALLGRIND_COST: Final = re.compile(r"^[\d+*-]\S* \d+$")
_PERF_LINE: Final = re.compile(r"^\s*(?P<percent>[\d.]+)%\s+(?P<object>\S.*?)\s*$")


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the server and the thread in it that works. ``us`` is what it takes for one request."""

    name: str
    pid: int
    thread: int
    us: float


def main() -> None:
    """Profile and print."""
    asked = _arguments()
    tracer = find_tracer(RESULTS / "programs")
    for name, value in machine.described().items():
        print(f"* {name}: {value}")
    with tempfile.TemporaryDirectory(prefix="hotset-profile-") as scratch:
        folder = Path(scratch)
        models = folder / "models"
        write_models(models, asked.models)
        if asked.callgrind:
            _callgrind(folder, models)
            return
        with hotset(models, folder / "hotset", request_for(0), settings={"preload": "all"}) as server:
            job = Job(
                server.port, tuple(map(request_for, range(asked.models))), asked.connections, asked.seconds
            )
            tracer.run(job)
            result, processes = _books(tracer, job, server)
            _print_books(result, processes, asked)
            for process in processes:
                stacks = _spied(tracer, job, process, folder)
                _print(by_file(stacks, process), by_function(stacks, process))
            for process in processes:
                objects = _perf(tracer, job, process, folder)
                if objects:
                    _print(by_object(objects, process))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--models", type=int, default=1, help="asked in turn; all in memory")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each view of each process")
    parser.add_argument(
        "--callgrind", action="store_true", help="count machine instructions instead (minutes)"
    )
    return parser.parse_args()


def _books(tracer: Tracer, job: Job, server: Server) -> tuple[Result, list[Process]]:
    """Return what gateway and child take for one request without any profiler."""
    gateway, *others = _family(server)
    before = {it.pid: _cpu_s(it) for it in (gateway, *others)}
    threads = {it.pid: _thread_times(it) for it in (gateway, *others)}
    result = tracer.run(job)
    spent = {it.pid: _cpu_s(it) - before[it.pid] for it in (gateway, *others)}
    child = max(others, key=lambda it: spent[it.pid])
    return result, [
        Process(name, it.pid, _busiest(it, threads[it.pid]), spent[it.pid] * 1e6 / result.answers)
        for name, it in ((GATEWAY, gateway), (CHILD, child))
    ]


def _family(server: Server) -> list[psutil.Process]:
    gateway = psutil.Process(server.pid)
    return [gateway, *gateway.children(recursive=True)]


def _thread_times(process: psutil.Process) -> dict[int, float]:
    return {it.id: it.user_time + it.system_time for it in process.threads()}


def _busiest(process: psutil.Process, before: Mapping[int, float]) -> int:
    """Return the thread that has worked most since then."""
    now = _thread_times(process)
    return max(now, key=lambda thread: now[thread] - before.get(thread, 0.0))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _print_books(result: Result, processes: Sequence[Process], asked: argparse.Namespace) -> None:
    rows = [(it.name, f"{it.us:.1f}") for it in processes]
    rows.append(("together", f"{sum(it.us for it in processes):.1f}"))
    title = (
        f"Processor time of one request ({asked.connections} connections, {asked.models} models, "
        f"{result.per_second:,.0f} req/s)"
    )
    _print(Grid(title, ("process", "µs"), tuple(rows)))


def _spied(tracer: Tracer, job: Job, process: Process, folder: Path) -> Counter[tuple[str, ...]]:
    """Return how often each stack of Python frames was seen at work, the outermost first."""
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        raise SystemExit("py-spy was not found; install it with: pip install 'hotset[profile]'")
    file = folder / f"{process.name}.raw"
    command = [
        program, "record", "--pid", str(process.pid), "--threads", "--format", "raw", "--function", "--full-filenames",
        "--rate", str(RATE_HZ), "--duration", str(int(job.seconds)), "--output", str(file),
    ]  # fmt: skip
    if process.name == CHILD:
        command.append(
            "--gil"
        )  # else the wait for the next frame, in a blocking read, would be taken for work
    _beside_load(tracer, job, command)
    return parse_stacks(file.read_text(), thread=process.thread)


def _beside_load(tracer: Tracer, job: Job, command: Sequence[str]) -> None:
    longer = Job(job.port, job.requests, job.connections, job.seconds + 2)
    with ThreadPoolExecutor(1) as beside:
        load = beside.submit(tracer.run, longer)
        time.sleep(0.5)
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        load.result()
    if ended.returncode:
        raise RuntimeError(f"{command[0]} ended with status {ended.returncode}: {ended.stderr[-1000:]}")


def parse_stacks(raw: str, *, thread: int) -> Counter[tuple[str, ...]]:
    """Return py-spy's folded stacks of one thread; it takes others for busy that wait."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.splitlines():
        frames, _, count = line.rpartition(" ")
        root, *stack = frames.split(";")
        if root.startswith(f"thread ({thread})") and stack:
            stacks[tuple(stack)] += int(count)
    return stacks


def by_file(stacks: Mapping[tuple[str, ...], int], process: Process) -> Grid:
    """Return the time in each file itself, without what it called."""
    seen: Counter[str] = Counter()
    for stack, count in stacks.items():
        seen[file_of(stack[-1])] += count
    return _grid(f"{process.name}: by file", "file", seen, process, FILES_SHOWN)


def by_function(stacks: Mapping[tuple[str, ...], int], process: Process) -> Grid:
    """Return the time in each function of Python itself, without what it called."""
    seen: Counter[str] = Counter()
    for stack, count in stacks.items():
        file = file_of(stack[-1])
        if file != IN_THE_LOOP:
            seen[f"{file}: {_function(stack[-1])}"] += count
    share = sum(seen.values()) / max(1, sum(stacks.values()))
    python = replace(process, us=process.us * share)
    return _grid(f"{process.name}: functions of Python", "function", seen, python, FUNCTIONS_SHOWN)


def file_of(frame: str) -> str:
    """Return a frame's file below its package; what is below the event loop's own start is the loop."""
    found = _FRAME.match(frame)
    file = found["file"] if found else frame
    for root in ("/site-packages/", "/src/"):
        file = file.rpartition(root)[2]
    file = re.sub(r"^.*/python3\.\d+/", "", file)
    return IN_THE_LOOP if file in LOOP else file


def _function(frame: str) -> str:
    found = _FRAME.match(frame)
    return found["function"] if found else frame


def _grid(title: str, column: str, seen: Counter[str], process: Process, shown: int) -> Grid:
    total = seen.total() or 1
    top = seen.most_common(shown)
    rows = [(name, f"{count / total * process.us:.1f}", f"{count / total:.0%}") for name, count in top]
    rest = total - sum(count for _, count in top)
    if rest > 0:
        rows.append(("all others", f"{rest / total * process.us:.1f}", f"{rest / total:.0%}"))
    return Grid(title, (column, "µs", "share"), tuple(rows), note=f"{total} samples")


def _perf(tracer: Tracer, job: Job, process: Process, folder: Path) -> Counter[str]:
    """Return the share of each shared object and of the kernel, in hundredths of a percent; nothing without perf."""
    program = shutil.which("perf")
    if program is None:
        print("\nperf was not found: no table by shared object.")
        return Counter()
    file = folder / f"{process.name}.perf"
    duration = str(int(job.seconds))
    _beside_load(
        tracer,
        job,
        [
            program,
            "record",
            "-q",
            "-F",
            "999",
            "-o",
            str(file),
            "-p",
            str(process.pid),
            "--",
            "sleep",
            duration,
        ],
    )
    told = subprocess.run(
        [program, "report", "-i", str(file), "--stdio", "--sort", "dso", "-g", "none"],
        capture_output=True,
        text=True,
        check=True,
    )
    return parse_perf(told.stdout)


def parse_perf(told: str) -> Counter[str]:
    """Return what ``perf report --sort dso`` says, in hundredths of a percent."""
    found = filter(None, map(_PERF_LINE.match, told.splitlines()))
    return Counter({it["object"]: round(float(it["percent"]) * 100) for it in found})


def by_object(objects: Counter[str], process: Process) -> Grid:
    """Return the time in each shared object."""
    grid = _grid(f"{process.name}: by shared object", "object", objects, process, OBJECTS_SHOWN)
    return Grid(grid.title, grid.columns, grid.rows)


def _print(*grids: Grid) -> None:
    for grid in grids:
        print(f"\n**{grid.title}**" + (f" ({grid.note})" if grid.note else ""))
        print(f"\n{markdown_table(grid)}")


def _callgrind(folder: Path, models: Path) -> None:
    """Count the machine instructions of requests that come one by one."""
    under = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--log-file=/dev/null"]
    out = folder / "callgrind"
    out.mkdir()
    under.append(f"--callgrind-out-file={out}/%p")
    settings = {"start-timeout": "300s", "preload": "all"}
    with hotset(models, folder / "hotset", request_for(0), settings=settings, under=under) as server:
        pids = [it.pid for it in _family(server)]
        client = http.client.HTTPConnection(LOCALHOST, server.port, timeout=60)
        _ask(client, WARM_REQUESTS)
        _dump(pids)  # what the start took; counting begins anew behind it
        _ask(client, COUNTED_REQUESTS)
        _dump(pids)
        client.close()
        gateway, *others = [_counted(out / f"{pid}.2") for pid in pids]
    for name, seen in ((GATEWAY, gateway), (CHILD, max(others, key=Counter.total))):
        print(f"\n**{name}: {seen.total() / COUNTED_REQUESTS:,.0f} machine instructions a request**\n")
        print(markdown_table(_instructions(name, seen)))


def _ask(client: http.client.HTTPConnection, count: int) -> None:
    request = request_for(0)
    for _ in range(count):
        client.request("POST", request.path, request.body, {"Content-Type": "application/json"})
        client.getresponse().read()


def _dump(pids: Sequence[int]) -> None:
    for pid in pids:
        subprocess.run(["callgrind_control", "--dump", str(pid)], capture_output=True, timeout=60, check=True)


def _counted(dump: Path) -> Counter[str]:
    return parse_callgrind(dump.read_text()) if dump.exists() else Counter()


def parse_callgrind(dump: str) -> Counter[str]:
    """Return instructions by shared object from a dump, without those of calls.

    ``callgrind_annotate`` does not: what was on the stack when a dump began it counts with all that it called.
    """
    seen: Counter[str] = Counter()
    names: dict[str, str] = {}
    current, is_call = "", False
    for line in dump.splitlines():
        if found := _CALLGRIND_OBJECT.match(line):
            if found["name"]:
                names[found["id"]] = Path(found["name"]).name
            if not found["called"]:
                current = names[found["id"]]
        elif line.startswith("calls="):
            is_call = True
        elif _CALLGRIND_COST.match(line):
            if not is_call:
                seen[current] += int(line.split()[1])
            is_call = False
    return seen


def _instructions(name: str, seen: Counter[str]) -> Grid:
    rows = [
        (each, f"{count / COUNTED_REQUESTS:,.0f}", f"{count / seen.total():.0%}")
        for each, count in seen.most_common(OBJECTS_SHOWN)
    ]
    return Grid(name, ("object", "instructions", "share"), tuple(rows))


if __name__ == "__main__":
    main()
