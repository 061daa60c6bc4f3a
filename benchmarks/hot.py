"""The hot path: hotset with one child of one thread against a bare uvicorn app with the same models. A section.

Closed loop at 1 to 128 connections, asking one model, and 200 models in turn; then the open loop at rates that are
parts of what the bare app reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from load import Request
from models import model_file, request_for, write_models
from rounds import COLUMNS, OPEN_COLUMNS, Sample, Subject, of, ratio, summary, take_turns, warm_up
from section import Bars, Goal, Grid, Lines, Options, Plan, Section, at_least
from subjects import Server, bare, bare_cache, hotset

MODELS: Final = 200
LEVELS: Final = (1, 8, 32, 128)
LEVELS_QUICK: Final = (1, 32)
MANY: Final = 32
"""The connections of the goals and of the open loop."""

OURS_ONE: Final = "hotset, one model"
BARE_ONE: Final = "bare uvicorn, one model"
OURS_ALL: Final = f"hotset, {MODELS} models"
BARE_ALL: Final = f"bare uvicorn, {MODELS} models in a dict"
NAMES: Final = (OURS_ONE, BARE_ONE, OURS_ALL, BARE_ALL)

RATES: Final = (0.5, 0.75, 0.9, 1.5, 2.5)
RATES_QUICK: Final = (0.5, 0.9)
OPEN_CONNECTIONS: Final = 128
OPEN_PLAN: Final = Plan(rounds=2, seconds=4)
BARE_CAN: Final = 1.0
"""Above this part of its own limit the bare app is not asked: its times would only tell how long it was asked."""

P50_LIMIT_US: Final = 120


def run(options: Options) -> Section:
    """Measure all four subjects."""
    with _subjects(options) as subjects:
        warm_up(options.closed, subjects, plan=options.plan)
        closed: list[Sample] = []
        for connections in LEVELS_QUICK if options.quick else LEVELS:
            options.tell(f"hot, {connections} connections")
            closed += take_turns(options.closed, subjects, connections=connections, plan=options.plan)
        capacity = summary(of(closed, BARE_ONE, MANY)).per_second
        opened = _open(options, subjects, capacity)
    return Section(
        title="Hot path",
        about=(
            "One row of ten features to scikit-learn LinearRegressions that are in memory. The closed loop shows what is "
            "reached; its times are those of requests that were sent when the server was ready for them. The open loop "
            "sends at a rate and counts the time from a request's turn. hotset uses two processes, a gateway and a "
            "child, where the bare app uses one; the CPU column counts both. The generator runs on the same cores: its "
            "column says what it took of one."
        ),
        grids=(_closed_grid(closed), _open_grid(opened, capacity)),
        plots=(
            Bars(
                "Requests per second by connections, closed loop",
                "req/s",
                tuple(map(str, _levels(closed))),
                _bars(closed),
            ),
            Lines("Open loop: p99 by rate", "requests per second", "p99, ms", _lines(opened), log=True),
        ),
        goals=_goals(closed),
        raw={"closed": [asdict(it) for it in closed], "open": [asdict(it) for it in opened]},
    )


@contextmanager
def _subjects(options: Options) -> Iterator[dict[str, Subject]]:
    models = options.folder / "models"
    write_models(models, MODELS)
    first = request_for(0)
    every = tuple(request_for(number) for number in range(MODELS))
    options.tell("hot, starting the servers")
    with (
        hotset(models, options.folder / "hotset", first, settings={"preload": "all"}) as ours,
        bare(model_file(models, 0), first) as one,
        bare_cache(models, None, first) as many,
    ):
        _check_same_answers(first, ours, one, many)
        for server in (ours, many):
            for request in every:
                server.ask(request)
        asked = ((ours, (first,)), (one, (first,)), (ours, every), (many, every))
        yield {name: Subject(*it) for name, it in zip(NAMES, asked, strict=True)}


def _check_same_answers(request: Request, *servers: Server) -> None:
    answers = [server.ask(request) for server in servers]
    if any(answer != answers[0] for answer in answers):
        raise RuntimeError(f"the servers do not answer the same: {answers}")


def _open(options: Options, subjects: Mapping[str, Subject], capacity: float) -> list[Sample]:
    samples: list[Sample] = []
    for part in RATES_QUICK if options.quick else RATES:
        options.tell(f"hot, open loop at {part:.0%} of what the bare app reached")
        asked = {
            name: subjects[name]
            for name in (OURS_ONE, BARE_ONE, OURS_ALL)
            if part <= BARE_CAN or name != BARE_ONE
        }
        rate = part * capacity
        plan = options.plan if options.quick else OPEN_PLAN
        samples += take_turns(options.tracer, asked, connections=OPEN_CONNECTIONS, plan=plan, rate=rate)
    return samples


def _closed_grid(samples: Sequence[Sample]) -> Grid:
    rows = [
        (
            str(connections),
            name,
            *summary(of(samples, name, connections)).cells(),
            *_to_bare(samples, name, connections),
        )
        for connections in _levels(samples)
        for name in NAMES
    ]
    return Grid(
        "Closed loop", ("connections", "server", *COLUMNS, "req/s to bare", "CPU to bare"), tuple(rows)
    )


def _to_bare(samples: Sequence[Sample], name: str, connections: int) -> tuple[str, str]:
    """Return requests per second and processor time to the bare app's; the latter holds on a busy machine too."""
    other = {OURS_ONE: BARE_ONE, OURS_ALL: BARE_ALL}.get(name)
    if other is None:
        return "", ""
    ours, theirs = of(samples, name, connections), of(samples, other, connections)
    return f"{ratio(ours, theirs):.2f}", f"{ratio(ours, theirs, of_what=lambda it: it.cpu_us):.2f}"


def _open_grid(samples: Sequence[Sample], capacity: float) -> Grid:
    at_rates = {it.rate: [other for other in samples if other.rate == it.rate] for it in samples}
    rows = [
        (f"{rate:,.0f}", f"{rate / capacity:.0%}", name, *summary(of(at_rate, name)).open_cells())
        for rate, at_rate in at_rates.items()
        for name in dict.fromkeys(it.subject for it in at_rate)
    ]
    return Grid(
        f"Open loop, up to {OPEN_CONNECTIONS} connections",
        ("asked req/s", "of bare's limit", "server", *OPEN_COLUMNS),
        tuple(rows),
    )


def _bars(samples: Sequence[Sample]) -> dict[str, list[float | None]]:
    levels = _levels(samples)
    return {name: [summary(of(samples, name, level)).per_second for level in levels] for name in NAMES}


def _levels(samples: Sequence[Sample]) -> list[int]:
    return list(dict.fromkeys(it.connections for it in samples))


def _lines(samples: Sequence[Sample]) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for name in dict.fromkeys(it.subject for it in samples):
        mine = of(samples, name)
        rates = dict.fromkeys(it.rate for it in mine)
        lines[name] = [(rate, summary([it for it in mine if it.rate == rate]).p99_ms) for rate in rates]
    return lines


def _goals(samples: Sequence[Sample]) -> tuple[Goal, ...]:
    ours, bares = of(samples, OURS_ONE, MANY), of(samples, BARE_ONE, MANY)
    single, alone = summary(of(samples, OURS_ONE, 1)), summary(of(samples, BARE_ONE, 1))
    more_us = (single.p50_ms - alone.p50_ms) * 1e3
    p99 = ratio(ours, bares, of_what=lambda it: it.result.p99_ms)
    return (
        at_least(f"hot, {MANY} connections: requests per second to the bare app's", ratio(ours, bares), 3.0),
        Goal(f"hot, {MANY} connections: p99 to the bare app's", "< 1×", f"{p99:.2f}×", p99 < 1.0),
        Goal(
            "hot, 1 connection: p50 beyond the bare app's",
            f"≤ +{P50_LIMIT_US} µs",
            f"{more_us:+.0f} µs",
            more_us <= P50_LIMIT_US,
        ),
        at_least(
            f"{MODELS} models hot, to one model hot ({MANY} connections)",
            ratio(of(samples, OURS_ALL, MANY), ours),
            0.9,
        ),
    )
