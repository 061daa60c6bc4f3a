"""``make bench-peers``: the same work against other servers, each in an environment of its own, with hotset beside it.

Prints hotset's factor against each peer on each row that the peer can run, says what a peer cannot do and why, and keeps
raw figures and reports below ``bench-results/``. ``--only triton`` takes some peers, ``--rows churn`` some rows,
``--quick`` one short round of each; ``--candidates`` measures the configurations from which each peer's best was taken.
Ends with 1 if something failed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Final

import machine
from adapters import bare, bentoml, litserve, mlserver, ray_serve, triton
from environments import packages, python_of
from generators import find_tracer
from peer import Peer, Row
from report import Report, is_figures, keep
from rich.console import Console
from rich.table import Table
from rows import FULL, MEASURED, QUICK, Bench, Scope
from section import Grid, Section
from server import Load
from side_by_side import Outcome, sections

RESULTS: Final = Path("bench-results")
WIDTH: Final = 190
"""Columns where the output goes to a file."""

MODULES: Final = (bare, mlserver, ray_serve, bentoml, litserve, triton)
NOT_SHOWN: Final = (
    "Not shown: accelerators, large models, networks, more than one machine; what a peer does beside serving. The generator "
    "runs on the same cores. Both servers of a row are up at once, and take turns. Compare figures of one run only."
)


def main() -> int:
    """Measure the peers that are asked for, print the tables, and write everything down."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    load = Load.of(find_tracer(RESULTS / "programs"))
    peers = [it for it in _peers(candidates=asked.candidates) if not asked.only or it.key in asked.only]
    rows = (
        [Row.HOT]
        if asked.candidates
        else [it for it in MEASURED if not asked.rows or it.name.lower() in asked.rows]
    )
    about = machine.described() | {
        "load": load.description,
        "load average at the start": machine.load_average(),
        "run": "quick: one short round each" if asked.quick else "rounds that take turns, medians",
    }
    for name, value in about.items():
        console.print(f"[bold]{name}[/bold]: {value}")
    begun_s, others = time.monotonic(), machine.Others()
    outcomes: list[Outcome] = []
    stamp = time.strftime("peers-%Y%m%d-%H%M%S")
    for peer in peers:
        outcomes.append(_measure(peer, rows, QUICK if asked.quick else FULL, load, console))
        spent = {
            "load average at the end": machine.load_average(),
            "processors that others took": f"{others.share():.0%}",
            "took": f"{time.monotonic() - begun_s:.0f} s",
        }
        files = _keep(outcomes, about | spent, stamp)
    for section in sections(outcomes).values():
        console.print(f"\n[bold]{section.title}[/bold]\n{section.about}")
        for grid in section.grids:
            console.print(_table(grid))
    console.print(NOT_SHOWN, style="dim")
    for name, value in spent.items():
        console.print(f"[bold]{name}[/bold]: {value}")
    for file in files:
        console.print(f"kept: {file}")
    return 1 if any(it.failed for it in outcomes) else 0


def _peers(*, candidates: bool) -> list[Peer]:
    return [peer for module in MODULES for peer in (module.CANDIDATES if candidates else module.CHOSEN)]


def _measure(peer: Peer, rows: Sequence[Row], scope: Scope, load: Load, console: Console) -> Outcome:
    """Measure one peer; a row that fails is told and does not keep the others from being measured."""
    outcome = Outcome(peer, packages(peer.environment))
    with console.status("…") as status:
        status.update(f"{peer.title}: environment")
        try:
            python = python_of(peer.environment)
        except (RuntimeError, OSError) as error:
            console.print(f"{peer.title}: {error}", markup=False)
            outcome.failed.update(dict.fromkeys(rows, str(error)))
            return outcome
        for row in rows:
            if row in peer.cannot:
                continue
            begun_s, others = time.monotonic(), machine.Others()
            with tempfile.TemporaryDirectory(prefix="hotset-peers-") as folder:
                bench = Bench(scope, Path(folder), load, peer, python, status.update)
                try:
                    outcome.found[row] = MEASURED[row](bench)
                except Exception as error:  # noqa: BLE001 - the last border: it is told, and the others go on
                    outcome.failed[row] = f"{type(error).__name__}: {error}"[:1500]
                    console.print(traceback.format_exc(), markup=False)
            outcome.others[row] = others.share()
            console.print(
                f"{peer.title}: {row.value}, {time.monotonic() - begun_s:.0f} s, "
                f"{outcome.others[row]:.0%} of the processors went to others"
            )
    return outcome


def _keep(outcomes: Sequence[Outcome], about: Mapping[str, str], stamp: str) -> Sequence[Path]:
    """Write down what there is so far, so that a run that is cut short leaves what it measured."""
    found = sections(outcomes)
    raw = {
        it.peer.key: {
            row.value: {"others": it.others[row], "figures": _plain(each.figures), "raw": _plain(each.raw)}
            for row, each in it.found.items()
        }
        for it in outcomes
    }
    found["raw"] = Section(title="Raw figures", about="In the JSON file beside this one.", grids=(), raw=raw)
    failed = {f"{it.peer.title}, {row.value}": reason for it in outcomes for row, reason in it.failed.items()}
    return keep(Report(about, found, failed), RESULTS, stamp)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left", caption=grid.note or None)
    for number, column in enumerate(grid.columns):
        table.add_column(column, justify="right" if is_figures(grid, number) else "left")
    for row in grid.rows:
        table.add_row(*row)
    return table


def _arguments() -> argparse.Namespace:
    known = [it.key for it in (*_peers(candidates=False), *_peers(candidates=True))]
    rows = [it.name.lower() for it in MEASURED]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(dict.fromkeys(known)),
        metavar="NAME",
        help=f"of {', '.join(dict.fromkeys(known))}",
    )
    parser.add_argument("--rows", nargs="+", choices=rows, metavar="ROW", help=f"of {', '.join(rows)}")
    parser.add_argument("--candidates", action="store_true", help="the hot row for every configuration tried")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
