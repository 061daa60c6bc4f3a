"""``make bench``: prints what hotset costs, beside a bare uvicorn app with the same model, and keeps the raw results.

``--quick`` takes one round of two seconds each; ``--only hotpath`` runs one section.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import churn
import hotpath
import lookup
from load import Generator, find_generator
from rich.console import Console
from rich.table import Table
from rounds import Plan

RESULTS: Final = Path("bench-results")
SCRATCH_BYTES: Final = 256 << 20
WIDTH: Final = 110
"""Columns where the output goes to a file."""

FULL: Final = Plan(rounds=3, seconds=5)
QUICK: Final = Plan(rounds=1, seconds=2)
PACKAGES: Final = (
    "hotset",
    "uvicorn",
    "uvloop",
    "httptools",
    "msgspec",
    "numpy",
    "scikit-learn",
)
NOT_SHOWN: Final = (
    "Not shown: hotset uses two processes (gateway and child) where the bare app uses one; the CPU column counts "
    "both. The load generator runs on the same machine, in a closed loop: a slow server is asked less often, so "
    "percentiles tell of the requests that were sent and not of an arrival rate. Loopback only; one small model, "
    "so the share of HTTP and JSON is large. Compare figures of one run only."
)

Tell = Callable[[str], None]


def machine() -> dict[str, str]:
    """Return what the figures depend on: the machine and the versions."""
    load = ", ".join(f"{it:.1f}" for it in os.getloadavg())
    return {
        "cpu": f"{_processor()}, {os.cpu_count()} cores, load {load}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _hotpath(generator: Generator, folder: Path, plan: Plan, tell: Tell) -> tuple[Any, Table]:
    samples = hotpath.run(generator, folder, plan, tell=tell)
    return [asdict(it) for it in samples], hotpath.table(samples)


def _lookup(generator: Generator, folder: Path, plan: Plan, tell: Tell) -> tuple[Any, Table]:
    samples = lookup.run(generator, folder, plan, tell=tell)
    alone = lookup.run_alone(folder, tell=tell)
    return {"requests": [asdict(it) for it in samples], "alone_ns": alone}, lookup.table(samples, alone)


def _churn(generator: Generator, folder: Path, plan: Plan, tell: Tell) -> tuple[Any, Table]:
    rounds = churn.run(generator, folder, plan, tell=tell)
    return [asdict(it) for it in rounds], churn.table(rounds)


SECTIONS: Final = {"hotpath": _hotpath, "lookup": _lookup, "churn": _churn}


def main() -> None:
    """Run the sections that are asked for, print their tables, and write the raw results down."""
    asked = _arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    generator = find_generator()
    plan = QUICK if asked.quick else FULL
    about = machine() | {"load generator": generator.description}
    about["plan"] = f"{plan.rounds} rounds of {plan.seconds:g} s, medians"
    for name, value in about.items():
        console.print(f"[bold]{name}[/bold]: {value}")
    raw: dict[str, Any] = {"about": about}
    with (
        tempfile.TemporaryDirectory(prefix="hotset-bench-", dir=_scratch()) as folder,
        console.status("…") as status,
    ):
        for name in asked.only or SECTIONS:
            raw[name], table = SECTIONS[name](generator, Path(folder) / name, plan, status.update)
            console.print(table)
    console.print(NOT_SHOWN, style="dim")
    console.print(f"Raw results: {_keep(raw)}")


def _scratch() -> str | None:
    """Return a directory in memory where there is one: 100,000 small directories take a disk minutes to remove."""
    memory = Path("/dev/shm")
    if (
        not memory.is_dir()
        or not os.access(memory, os.W_OK)
        or shutil.disk_usage(memory).free < SCRATCH_BYTES
    ):
        return None
    return str(memory)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="these sections alone")
    return parser.parse_args()


def _keep(raw: dict[str, Any]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    file.write_text(json.dumps(raw, indent=1))
    return file


if __name__ == "__main__":
    main()
