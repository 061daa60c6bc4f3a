"""Interference: the p99 of a hot model at a steady rate while forests are loaded without pause, against without.

A section. Both subjects have room for fewer forests than are asked for in turn, so that every request for one is a load.
Compare the p99 only beside the rate of loads: who loads less disturbs less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from load import Job, Request, Result, Seconds, percentiles_ms
from models import forest_request, request_for, write_forests, write_models
from section import Bars, Grid, Options, Section, at_most
from subjects import Server, bare_cache, hotset

FORESTS: Final = 40
IN_MEMORY: Final = 8
RATE: Final = 200.0
CONNECTIONS: Final = 16
SECONDS: Final = 8.0
SECONDS_QUICK: Final = 4.0
HEAD_START_S: Final = 0.5
"""The loads begin before the requests that are measured, and end after them."""

OURS: Final = "hotset"
BARE: Final = "bare uvicorn, lru_cache"
PERCENTS: Final = (50, 90, 99, 99.9)


@dataclass(frozen=True, slots=True)
class Round:
    """One subject, alone or while others load: the hot model's times, and the loads of one second."""

    subject: str
    while_loading: bool
    took_s: Seconds
    result: Result
    loads_per_second: float
    failed_loads: int


def run(options: Options) -> Section:
    """Measure both subjects, alone and while others load, in turns."""
    models = options.folder / "models"
    write_models(models, 1)
    write_forests(models, FORESTS)
    settings = {"model-cache-size": str(IN_MEMORY), "disk-model-cache-size": str(FORESTS + 1)}
    first = request_for(0)
    with (
        hotset(models, options.folder / "hotset", first, settings=settings) as ours,
        bare_cache(models, IN_MEMORY, first) as bare,
    ):
        servers = {OURS: ours, BARE: bare}
        _warm(servers, options)
        rounds = [
            _round(options, name, server, while_loading=loading)
            for _ in range(options.plan.rounds)
            for name, server in servers.items()
            for loading in (False, True)
        ]
    return _section(rounds)


def _warm(servers: Mapping[str, Server], options: Options) -> None:
    options.tell("interference, bringing all forests to disk")
    for server in servers.values():
        for number in range(FORESTS):
            server.ask(forest_request(number))
        server.ask(request_for(0))


def _round(options: Options, name: str, server: Server, *, while_loading: bool) -> Round:
    options.tell(f"interference, {name}, {'while others load' if while_loading else 'alone'}")
    seconds = SECONDS_QUICK if options.quick else SECONDS
    hot = Job(server.port, (request_for(0),), CONNECTIONS, seconds, RATE)
    if not while_loading:
        trace = options.tracer.trace(hot)
        return Round(name, while_loading, trace.took_s, trace.result, 0.0, 0)
    forests = tuple(forest_request(number) for number in range(FORESTS))
    with ThreadPoolExecutor(1) as beside:
        loads = beside.submit(options.tracer.run, _loads(server, forests, seconds))
        trace = options.tracer.trace(_later(hot))
        loaded = loads.result()
    skip = trace.turn_s >= HEAD_START_S
    return Round(name, while_loading, trace.took_s[skip], trace.result, loaded.per_second, loaded.failures)


def _loads(server: Server, forests: tuple[Request, ...], seconds: float) -> Job:
    return Job(server.port, forests, 1, seconds + 2 * HEAD_START_S)


def _later(job: Job) -> Job:
    """The first part of a job that runs beside the loads is not counted."""
    return Job(job.port, job.requests, job.connections, job.seconds + HEAD_START_S, job.rate)


def _section(rounds: Sequence[Round]) -> Section:
    rows = [_row(rounds, name, loading) for name in (OURS, BARE) for loading in (False, True)]
    ratios = {name: p99_ratio(rounds, name) for name in (OURS, BARE)}
    p99 = {name: [_pooled(rounds, name, loading)[2] for loading in (False, True)] for name in (OURS, BARE)}
    return Section(
        title="Interference",
        about=(
            f"A hot model is asked {RATE:g} times a second (open loop, so that waiting counts) while another client asks for "
            f"{FORESTS} random forests in turn, of which {IN_MEMORY - 1} fit: each of its requests is a load, the next "
            "begins when the last has ended. All files are on disk. Percentiles are of all rounds together."
        ),
        grids=(
            Grid(
                "A hot model, open loop",
                (
                    "server",
                    "others",
                    "p50 ms",
                    "p90 ms",
                    "p99 ms",
                    "p99.9 ms",
                    "loads/s",
                    "failed",
                    "p99 to alone",
                ),
                tuple(rows),
            ),
        ),
        plots=(Bars("p99 of a hot model, ms", "ms", ("alone", "while others load"), p99),),
        goals=(at_most("hot p99 while others load without pause, to without", ratios[OURS], 1.5),),
        raw=[asdict(it) | {"took_s": [round(float(each), 7) for each in it.took_s]} for it in rounds],
    )


def _row(rounds: Sequence[Round], name: str, loading: bool) -> tuple[str, ...]:
    mine = [it for it in rounds if it.subject == name and it.while_loading == loading]
    times = (f"{it:.2f}" for it in _pooled(rounds, name, loading))
    loads = sum(it.loads_per_second for it in mine) / len(mine)
    failed = sum(it.result.failures + it.failed_loads for it in mine)
    return (
        name,
        "load" if loading else "rest",
        *times,
        f"{loads:.0f}" if loading else "",
        str(failed),
        f"{p99_ratio(rounds, name):.2f}" if loading else "",
    )


def _pooled(rounds: Sequence[Round], name: str, loading: bool) -> list[float]:
    took = [it.took_s for it in rounds if it.subject == name and it.while_loading == loading]
    return percentiles_ms(np.concatenate(took), PERCENTS)


def p99_ratio(rounds: Sequence[Round], name: str) -> float:
    """Return the p99 while others load to that without, each of all rounds together."""
    return _pooled(rounds, name, loading=True)[2] / max(_pooled(rounds, name, loading=False)[2], 1e-9)
