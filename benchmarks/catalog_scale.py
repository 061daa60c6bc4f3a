"""A catalog of a million models: memory, the event loop while a snapshot is applied, a pass with nothing changed, listing
in parallel, and a start with a stored snapshot. A section of ``run.py``; by itself: ``catalog_scale.py [--quick]``.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil
from section import Goal, Grid, Options, Section, at_most
from subjects import free_port

HERE: Final = Path(__file__).parent
MANY: Final = 1_000_000
FEWER: Final = 100_000
LOCAL: Final = 20_000
STARTS: Final = 5
LOOP_MS: Final = 5.0
VERDICTS: Final = {True: "ok   ", False: "MISS ", None: "noise"}
START_LIMIT_S: Final = 60.0
POLL_S: Final = 0.005
READY_S: Final = 1.0

Tell = Callable[[str], None]
Figures = Mapping[str, Any]


def run(options: Options) -> Section:
    """Measure everything; each part in a process of its own."""
    return section(measure(options.folder, quick=options.quick, tell=options.tell))


def measure(folder: Path, *, quick: bool, tell: Tell) -> Figures:
    """Return the raw figures."""
    many = FEWER if quick else MANY
    return {
        "models": many,
        "memory": _part("memory", many, tell=tell),
        "apply": _part("apply-once" if quick else "apply", many, tell=tell),
        "sync": _part("sync", FEWER, tell=tell),
        "local": _part("local", LOCAL, folder, tell=tell),
        "listing": _part("listing", FEWER, tell=tell),
        "start": _starts(folder, 3 if quick else STARTS, tell=tell),
    }


def _part(name: str, models: int, folder: Path | None = None, *, tell: Tell) -> Any:
    tell(f"catalog, {name}, {models:,} models")
    command = [sys.executable, str(HERE / "catalog_probe.py"), name, str(models)]
    if folder is not None:
        command += ["--folder", str(folder / name)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    if folder is not None and name != "keep":
        shutil.rmtree(folder / name)
    return json.loads(done.stdout.splitlines()[-1])


def _starts(folder: Path, times: int, *, tell: Tell) -> dict[str, Any]:
    """Of servers of an empty directory, with and without the snapshot of a large one: until they say that they are ready."""
    kept = _part("keep", FEWER, folder, tell=tell)
    tell(f"catalog, start, {FEWER:,} models")
    with_models, without = [], []
    (folder / "empty").mkdir()
    for _ in range(times):
        with_models.append(_start(folder / "keep" / "models", folder / "keep"))
        without.append(_start(folder / "empty", folder / "none"))
    return {"kept": kept, "ready": with_models, "ready_without": without}


def _start(models: Path, folder: Path) -> dict[str, float]:
    """``waited_s`` is how long the gateway's first thread was ready to run and had no processor."""
    port = free_port()
    settings = {"model-dir": models, "disk-path": folder / "disk", "port": port, "sync-interval": "0s"}
    options = [f"--{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "hotset", "serve", *options, "--log-level=error"]
    started_s = time.perf_counter()
    with subprocess.Popen(command) as process:
        try:
            _wait_until_ready(port, process)
            took_s = time.perf_counter() - started_s
            times = psutil.Process(process.pid).cpu_times()
            waited_ns = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1])
        finally:
            process.terminate()
            process.wait(30)
    return {"seconds": took_s, "waited_s": waited_ns / 1e9, "cpu_s": times.user + times.system}


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end_s and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_LIMIT_S)
        try:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # it does not listen yet
        finally:
            connection.close()
        time.sleep(POLL_S)
    raise RuntimeError(f"the server was not ready within {START_LIMIT_S} s; it ended with {process.poll()}")


def section(found: Figures) -> Section:
    """Return the figures as tables and goals."""
    apply, sync, start = found["apply"], found["sync"], found["start"]
    applied_ms = max(it["longest_ms"] for name, it in apply.items() if name.startswith("apply"))
    floor_ms = max(it["longest_ms"] for name, it in apply.items() if name.startswith("for"))
    pass_s = sync["pages as columns"]["cpu_s"] + sync["from obstore"]["listing_cpu_s"]
    return Section(
        title="A large catalog",
        about=(
            f"One version of one object for each model; {found['models']:,} models for memory and for the event loop, "
            f"{FEWER:,} for a pass and a start. What holds the loop up is the longest delay of a nap of half a "
            "millisecond, the best of three rounds (quick: one), less the time for which the process had no processor: so it is the "
            "process's own doing, of its loop and of the interpreter's lock in its threads. The store is made up in "
            "memory, so the network is not in it, except for the listing of a bucket that answers each page after 50 ms."
        ),
        grids=(
            _memory_grid(found),
            _loop_grid(apply),
            _pass_grid(sync, found["local"]),
            _listing_grid(found["listing"]),
            _start_grid(start),
        ),
        goals=(
            at_most("catalog, bytes per model", found["memory"]["bytes_per_model"], 250, unit=" B"),
            _loop_goal(found["models"], applied_ms, floor_ms),
            at_most(f"pass over {FEWER:,} unchanged models, CPU", pass_s, 0.5, unit=" s"),
            _start_goal(start["ready"]),
        ),
        raw=found,
    )


def _loop_goal(models: int, applied_ms: float, floor_ms: float) -> Goal:
    """Undecided where the machine alone did worse."""
    work = f"applying a snapshot of {models:,} models, loop held"
    if applied_ms > LOOP_MS and floor_ms > LOOP_MS:
        return Goal(work, f"≤ {LOOP_MS:g} ms", f"{applied_ms:.1f} ms, and {floor_ms:.1f} without it", None)
    return at_most(work, applied_ms, LOOP_MS, unit=" ms")


def _start_goal(starts: Sequence[Mapping[str, float]]) -> Goal:
    """Undecided where it would have been reached with a processor whenever it was wanted."""
    work = f"ready with {FEWER:,} models in the stored snapshot"
    best = min(starts, key=lambda it: it["seconds"])
    undisturbed_s = min(_undisturbed_s(it) for it in starts)
    if best["seconds"] > READY_S >= undisturbed_s:
        found = f"{best['seconds']:.2f} s, {undisturbed_s:.2f} less the waits for a processor"
        return Goal(work, f"≤ {READY_S:g} s", found, None)
    return at_most(work, best["seconds"], READY_S, unit=" s")


def _undisturbed_s(start: Mapping[str, float]) -> float:
    return start["seconds"] - start["waited_s"]


def _memory_grid(found: Figures) -> Grid:
    memory = found["memory"]
    return Grid(
        "Memory of the catalog, all included",
        ("", "bytes per model"),
        (
            ("after the first pass", f"{memory['after_first_pass']:.0f}"),
            ("after the second", f"{memory['bytes_per_model']:.0f}"),
            ("in the file of the snapshot", f"{found['start']['kept']['bytes_per_model']:.0f}"),
        ),
    )


def _loop_grid(apply: Figures) -> Grid:
    return Grid(
        "What holds the event loop up, ms",
        ("", "longest", "p99", "longest by the clock", "CPU, s"),
        tuple(
            (
                name,
                f"{it['longest_ms']:.1f}",
                f"{it['p99_ms']:.1f}",
                f"{it['longest_by_clock_ms']:.1f}",
                f"{it['cpu_s']:.2f}",
            )
            for name, it in apply.items()
        ),
        note="The comparisons say what this machine did meanwhile to a loop beside which nothing holds anything up.",
    )


def _pass_grid(sync: Figures, local: Figures) -> Grid:
    obstore, steps = sync["from obstore"], sync["steps"]
    share = FEWER / LOCAL
    return Grid(
        f"A pass over {FEWER:,} models with nothing changed, CPU in ms",
        ("", "CPU ms"),
        tuple(
            (name, f"{value * 1e3:.1f}")
            for name, value in (
                ("pass, given pages as columns", sync["pages as columns"]["cpu_s"]),
                ("pass, given pages of objects", sync["pages of objects"]["cpu_s"]),
                ("  of it: feeding the reader", steps["feed"]),
                ("  finishing, settling, comparing", steps["finish"] + steps["settle"] + steps["compare"]),
                ("  is it what is kept on disk", steps["is it what is kept on disk"]),
                ("listing by obstore, in memory", obstore["listing_cpu_s"]),
                ("the same, fed to the reader", obstore["listing_and_reading_cpu_s"]),
                (f"a local directory: walking it ({LOCAL:,} models, scaled)", local["walk_cpu_s"] * share),
                ("the whole pass over it", local["pass_cpu_s"] * share),
            )
        ),
    )


def _listing_grid(listing: Figures) -> Grid:
    alone = listing["one listing"]["seconds"]
    return Grid(
        f"Listing a bucket of {FEWER:,} objects, 50 ms a page",
        ("", "seconds", "requests", "CPU, s", "times as fast"),
        tuple(
            (
                name,
                f"{it['seconds']:.2f}",
                f"{it['requests']:.0f}",
                f"{it['cpu_s']:.2f}",
                f"{alone / it['seconds']:.1f}",
            )
            for name, it in listing.items()
        ),
    )


def _start_grid(start: Figures) -> Grid:
    rows = (("with the snapshot", start["ready"]), ("without one", start["ready_without"]))
    return Grid(
        f"From the start of the process until it is ready, {FEWER:,} models in the stored snapshot",
        ("", "best, s", "median, s", "less the waits for a processor, s", "CPU, s"),
        tuple(
            (
                name,
                f"{min(it['seconds'] for it in times):.2f}",
                f"{median(it['seconds'] for it in times):.2f}",
                f"{min(map(_undisturbed_s, times)):.2f}",
                f"{min(it['cpu_s'] for it in times):.2f}",
            )
            for name, times in rows
        ),
    )


def main() -> None:
    """Print every table and goal."""
    shared = Path("/dev/shm")
    scratch = shared if shared.is_dir() and os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="hotset-bench-", dir=scratch) as folder:
        found = section(
            measure(Path(folder), quick="--quick" in sys.argv, tell=lambda text: print(text, file=sys.stderr))
        )
    for grid in found.grids:
        print(f"\n{grid.title}")
        widths = [max(map(len, cells)) for cells in zip(grid.columns, *grid.rows, strict=True)]
        for row in (grid.columns, *grid.rows):
            print(
                "  ".join(
                    cell.ljust(width) if not index else cell.rjust(width)
                    for index, (cell, width) in enumerate(zip(row, widths, strict=True))
                )
            )
    print()
    for goal in found.goals:
        print(f"{VERDICTS[goal.holds]}  {goal.work}: {goal.found} (goal {goal.wanted})")


if __name__ == "__main__":
    main()
