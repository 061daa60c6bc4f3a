"""Churn: 200 models asked for by Zipf's law while memory holds 20, so that loads and unloads go on all the time.

A section of ``run.py``. All models are on the disk tier before it begins; what is measured is the memory tier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from load import Generator
from models import request_for, write_models, zipf
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table
from rounds import Plan, Sample, measure
from subjects import Server, hotset

MODELS: Final = 200
IN_MEMORY: Final = 20
EXPONENT: Final = 1.0
CONNECTIONS: Final = 32
DRAWN: Final = 50_000


@dataclass(frozen=True, slots=True)
class Churn:
    """One round. ``hits`` counts the answers that memory gave at once."""

    sample: Sample
    answers: float
    hits: float
    loads: float


def run(generator: Generator, folder: Path, plan: Plan, *, tell: Callable[[str], None]) -> list[Churn]:
    """Measure hotset under churn."""
    models = folder / "models"
    write_models(models, MODELS)
    settings = {"model-cache-size": str(IN_MEMORY), "disk-model-cache-size": str(MODELS)}
    with hotset(models, folder / "server", request_for(0), settings=settings) as server:
        tell("churn, bringing all models to disk")
        for number in range(MODELS):
            server.ask(request_for(number))
        tell("churn")
        return [_round(generator, server, plan, seed=number) for number in range(plan.rounds)]


def _round(generator: Generator, server: Server, plan: Plan, *, seed: int) -> Churn:
    requests = [request_for(number) for number in islice(zipf(MODELS, exponent=EXPONENT, seed=seed), DRAWN)]
    before = counts(server.text("/metrics"))
    sample = measure(generator, "hotset", server, requests, connections=CONNECTIONS, seconds=plan.seconds)
    after = counts(server.text("/metrics"))
    return Churn(sample, *(now - then for now, then in zip(after, before, strict=True)))


def counts(page: str) -> tuple[float, float, float]:
    """Return the good answers, those at once from memory, and the loads that a metrics page tells of."""
    answers = hits = loads = 0.0
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "hotset_request_seconds_count":
                answers += sample.value
                hits += sample.value if sample.labels.get("tier") == "memory" else 0.0
            elif sample.name == "hotset_load_seconds_count":
                loads += sample.value
    return answers, hits, loads


def table(rounds: Sequence[Churn]) -> Table:
    """Return one line for each round."""
    title = f"Churn: {IN_MEMORY} of {MODELS} models in memory, Zipf {EXPONENT:g}, {CONNECTIONS} connections"
    grid = Table(title=title, title_justify="left")
    columns = ("round", "req/s", "p50 ms", "p99 ms", "CPU µs/req", "failed", "memory hits", "loads/s")
    for column in columns:
        grid.add_column(column, justify="right")
    for number, it in enumerate(rounds, start=1):
        result = it.sample.result
        cells: list[Any] = [
            number,
            f"{result.per_second:,.0f}",
            f"{result.p50_ms:.2f}",
            f"{result.p99_ms:.2f}",
            f"{it.sample.cpu_us:.0f}",
            result.failures,
            f"{it.hits / max(1.0, it.answers):.0%}",
            f"{it.loads / result.seconds:.0f}",
        ]
        grid.add_row(*map(str, cells))
    return grid
