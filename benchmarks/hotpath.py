"""The hot path: hotset with one child of one thread against a bare uvicorn app that holds the same model.

A section of ``run.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from load import Generator
from models import model_file, request_for, write_models
from rich.table import Table
from rounds import WARM_UP, Plan, Sample, of, ratio, summary, take_turns
from subjects import Server, bare, hotset

HOTSET: Final = "hotset"
BARE: Final = "bare uvicorn"
LEVELS: Final = (1, 8, 32, 128)


def run(generator: Generator, folder: Path, plan: Plan, *, tell: Callable[[str], None]) -> list[Sample]:
    """Measure both servers at every level.

    Raises:
        RuntimeError: they do not give the same answer.
    """
    models = folder / "models"
    write_models(models, 1)
    request = request_for(0)
    with hotset(models, folder / HOTSET, request) as ours, bare(model_file(models, 0), request) as theirs:
        _check_same_answer(ours, theirs)
        servers = {HOTSET: ours, BARE: theirs}
        take_turns(generator, servers, request, connections=8, plan=WARM_UP)
        samples: list[Sample] = []
        for connections in LEVELS:
            tell(f"hot path, {connections} connections")
            samples += take_turns(generator, servers, request, connections=connections, plan=plan)
        return samples


def _check_same_answer(ours: Server, theirs: Server) -> None:
    answers = [server.ask(request_for(0)) for server in (ours, theirs)]
    if answers[0] != answers[1]:
        raise RuntimeError(f"the two servers do not answer the same: {answers}")


def table(samples: Sequence[Sample]) -> Table:
    """Return the medians, and the ratio of requests per second."""
    grid = Table(title="Hot path: one row of ten features, LinearRegression", title_justify="left")
    for column in ("connections", "server", "req/s", "p50 ms", "p99 ms", "CPU µs/req", "failed", "ratio"):
        grid.add_column(column, justify="left" if column == "server" else "right")
    for connections in dict.fromkeys(it.connections for it in samples):
        ours, theirs = of(samples, HOTSET, connections), of(samples, BARE, connections)
        for name, rounds in ((HOTSET, ours), (BARE, theirs)):
            it = summary(rounds)
            grid.add_row(
                str(connections),
                name,
                f"{it.per_second:,.0f}",
                f"{it.p50_ms:.2f}",
                f"{it.p99_ms:.2f}",
                f"{it.cpu_us:.0f}",
                str(it.failures),
                f"{ratio(ours, theirs):.2f}" if name == HOTSET else "",
                end_section=name == BARE,
            )
    return grid
