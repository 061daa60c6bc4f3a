"""``make bench``: what hotset costs, section by section, beside a bare uvicorn app or bare Python that does the same work.

Prints every table, and keeps raw figures and reports below ``bench-results/``. ``--quick`` takes under three minutes;
``--only hot churn`` runs those sections alone. Ends with 1 if a section failed; a goal that is missed is no failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

import machine
from generators import find_closed, find_tracer
from load import Generator, Tracer
from report import NOT_SHOWN, Report, goals_grid, is_figures, keep
from rich.console import Console
from rich.table import Table
from section import Grid, Options, Run, Section

RESULTS: Final = Path("bench-results")
MANY_DIRECTORIES: Final = frozenset({"lookup"})
"""In memory where there is room: 100,000 small directories take a disk minutes to remove."""

SCRATCH_BYTES: Final = 1 << 30
WIDTH: Final = 150
"""Columns where the output goes to a file."""

SECTIONS: Final = (
    "hot",
    "churn",
    "interference",
    "cold",
    "rollover",
    "memory",
    "payload",
    "processes",
    "lookup",
    "catalog_scale",
)
"""Modules of this directory, each with a ``run`` as in ``section.Run``."""


def main() -> int:
    """Run the sections that are asked for, print their tables, and write everything down."""
    asked = _arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    tracer = find_tracer(RESULTS / "programs")
    closed = find_closed(tracer)
    about = machine.described() | {
        "load": f"{closed.description} for the closed loop, {tracer.description} for the open one",
        "load average at the start": machine.load_average(),
        "run": "quick: one short round each" if asked.quick else "rounds that take turns, medians",
    }
    for name, value in about.items():
        console.print(f"[bold]{name}[/bold]: {value}")
    started_s, others = time.monotonic(), machine.Others()
    sections, failed, took = _measured(
        asked.only or list(SECTIONS), console, closed, tracer, quick=asked.quick
    )
    about["load average at the end"] = machine.load_average()
    each = ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items())
    about["took"] = f"{time.monotonic() - started_s:.0f} s: {each}"
    about["processors that others took"] = f"{others.share():.0%}"
    report = Report(about, sections, failed)
    for name in list(about)[-3:]:
        console.print(f"[bold]{name}[/bold]: {about[name]}")
    if report.goals:
        console.print(_table(goals_grid(report.goals)))
    console.print(NOT_SHOWN, style="dim")
    for file in keep(report, RESULTS, time.strftime("%Y%m%d-%H%M%S")):
        console.print(f"kept: {file}")
    return 1 if failed else 0


def _measured(
    names: Sequence[str], console: Console, closed: Generator, tracer: Tracer, *, quick: bool
) -> tuple[dict[str, Section], dict[str, str], dict[str, float]]:
    """Run sections, and time them; one that fails is told and does not keep the others from being measured."""
    sections: dict[str, Section] = {}
    failed: dict[str, str] = {}
    took: dict[str, float] = {}
    with console.status("…") as status:
        for name in names:
            started_s = time.monotonic()
            with _scratch(name) as folder:
                try:
                    run: Run = import_module(name).run
                    section = run(Options(quick, folder, closed, tracer, status.update))
                except Exception:  # noqa: BLE001 - the last border: it is told, and the others go on
                    failed[name] = traceback.format_exc()
                    console.print(f"{name} failed\n{failed[name]}", markup=False)
                    continue
            sections[name] = section
            took[name] = time.monotonic() - started_s
            console.print(f"\n[bold]{section.title}[/bold]\n{section.about}")
            for grid in section.grids:
                console.print(_table(grid))
    return sections, failed, took


@contextmanager
def _scratch(name: str) -> Iterator[Path]:
    """Make a directory for a section, on a disk, as what is cold should be."""
    shared = Path("/dev/shm")
    fits = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free >= SCRATCH_BYTES
    in_memory = name in MANY_DIRECTORIES and fits
    with tempfile.TemporaryDirectory(prefix="hotset-bench-", dir=shared if in_memory else None) as folder:
        yield Path(folder)


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left", caption=grid.note or None)
    for number, column in enumerate(grid.columns):
        table.add_column(column, justify="right" if is_figures(grid, number) else "left")
    for row in grid.rows:
        table.add_row(*row)
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round of everything, under three minutes"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), metavar="NAME", help=f"of {', '.join(SECTIONS)}"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
