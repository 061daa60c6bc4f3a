"""The rows: what is measured of a peer, each time with hotset beside it, the two taking turns.

Called by ``compare.py``. Both servers are up while either is asked, and the one that is not has nothing to do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Final

import joblib
import numpy as np
from adapters import hotset
from load import Job, Trace, percentiles_ms
from models import ROW, name_of, write_forests, write_models, write_version, zipf
from peer import Peer, Place, Row
from rounds import Sample, Subject, of, ratio, summary, take_turns, warm_up
from section import Plan
from server import Load, Started, Weight, started
from subjects import free_port
from watch import watched

LEVELS: Final = (1, 8, 32)
MANY_CONNECTIONS: Final = 32

CHURN_MODELS: Final = 200
CHURN_ROOM: Final = 20
EXPONENT: Final = 1.0
DRAWN: Final = 50_000

FORESTS: Final = 40
FORESTS_ROOM: Final = 8
RATE: Final = 100.0
RATE_CONNECTIONS: Final = 16
HEAD_START_S: Final = 0.5

PAUSE_S: Final = 1.0
"""Under load, before a new version is published."""

PHASE_S: Final = 0.5
"""At most this much later, so that it falls anywhere between two looks into the store."""

VERSION_S: Final = 6.0
"""How long the load lasts in all."""

VERSION_LIMIT_S: Final = 20.0
SETTLE_S: Final = 2.0
OURS: Final = "hotset"
TOLERANCE: Final = 1e-6
"""Of a prediction: a server may write its numbers with fewer digits."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is measured. ``starts`` and ``versions`` are repetitions."""

    plan: Plan
    seconds: float
    starts: int
    versions: int


FULL: Final = Scope(Plan(rounds=3, seconds=4), seconds=6.0, starts=3, versions=3)
QUICK: Final = Scope(Plan(rounds=1, seconds=2), seconds=3.0, starts=1, versions=1)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every row gets. ``folder`` is scratch; ``python`` is that of the peer's environment."""

    scope: Scope
    folder: Path
    load: Load
    peer: Peer
    python: Path
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of both. ``factor`` above 1 means that hotset is ahead; ``beside`` is what must be read with it."""

    row: Row
    measure: str
    ours: float
    theirs: float
    factor: float
    digits: int = 0
    ours_beside: str = ""
    theirs_beside: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a row gave: figures for the tables, and everything for the raw results."""

    figures: tuple[Figure, ...]
    raw: object


def hot(bench: Bench) -> Found:
    """One model at 1, 8 and 32 connections."""
    models = _models(bench, "hot", 1)
    with _both(bench, "hot", models, room=1) as (ours, theirs):
        _check_same(ours, theirs, [name_of(0)])
        samples = _closed(bench, ours, theirs, [name_of(0)], LEVELS)
        idle = _idle_cpu(ours, theirs)
        weights = {OURS: ours.weight(), bench.peer.key: theirs.weight()}
    figures = [
        figure
        for level in LEVELS
        for figure in (
            _faster(Row.HOT, f"req/s, {level} conn.", bench, samples, level),
            _sooner(Row.HOT, f"p50 ms, {level} conn.", bench, samples, level, lambda it: it.result.p50_ms),
            _sooner(Row.HOT, f"p99 ms, {level} conn.", bench, samples, level, lambda it: it.result.p99_ms),
            _sooner(
                Row.HOT,
                f"CPU µs a request, {level} conn.",
                bench,
                samples,
                level,
                lambda it: it.cpu_us,
                digits=0,
            ),
        )
    ]
    return Found(tuple(figures), {"samples": samples, "memory_of_one": weights, "idle_cpu": idle})


def many(bench: Bench) -> Found:
    """As many models as the peer is asked to hold, asked in turn; then what all of them weigh."""
    size = bench.peer.most
    models = _models(bench, "many", size)
    names = [name_of(number) for number in range(size)]
    with _both(bench, "many", models, room=size) as (ours, theirs):
        _check_same(ours, theirs, names)
        samples = _closed(bench, ours, theirs, names, (MANY_CONNECTIONS,))
        mine, other = _settled(ours), _settled(theirs)
        starts = {OURS: ours.start_s, bench.peer.key: theirs.start_s}
    measure = f"{size} models, req/s, {MANY_CONNECTIONS} conn."
    memory = [
        Figure(
            Row.MEMORY,
            f"{kind} MB, {size} models",
            one,
            two,
            two / one,
            ours_beside=_processes(mine),
            theirs_beside=_processes(other),
        )
        for kind, one, two in (("PSS", mine.pss_mb, other.pss_mb), ("USS", mine.uss_mb, other.uss_mb))
    ]
    figures = (
        _faster(Row.MANY, measure, bench, samples, MANY_CONNECTIONS),
        _sooner(
            Row.MANY,
            f"{size} models, p99 ms, {MANY_CONNECTIONS} conn.",
            bench,
            samples,
            MANY_CONNECTIONS,
            lambda it: it.result.p99_ms,
        ),
        *memory,
    )
    return Found(figures, {"samples": samples, "memory": [mine, other], "start_s_with_all": starts})


def _processes(weight: Weight) -> str:
    return "1 process" if weight.processes == 1 else f"{weight.processes} processes"


def churn(bench: Bench) -> Found:
    """200 models by Zipf's law, room for 20: both are asked for the same names in the same order."""
    models = _models(bench, "churn", CHURN_MODELS)
    names = [name_of(number) for number in range(CHURN_MODELS)]
    drawn = [names[number] for number in islice(zipf(CHURN_MODELS, exponent=EXPONENT, seed=1), DRAWN)]
    with _both(bench, "churn", models, room=CHURN_ROOM) as (ours, theirs):
        _check_same(ours, theirs, names)
        samples = _closed(bench, ours, theirs, drawn, (MANY_CONNECTIONS,))
    figures = (
        _faster(Row.CHURN, "req/s, 32 conn.", bench, samples, MANY_CONNECTIONS),
        _sooner(Row.CHURN, "p50 ms, 32 conn.", bench, samples, MANY_CONNECTIONS, lambda it: it.result.p50_ms),
        _sooner(Row.CHURN, "p99 ms, 32 conn.", bench, samples, MANY_CONNECTIONS, lambda it: it.result.p99_ms),
    )
    return Found(figures, {"samples": samples})


@dataclass(frozen=True, slots=True)
class Beside:
    """A hot model's times in one round, and how many models were loaded beside it each second."""

    took_s: list[float]
    loads_per_second: float
    failed: int
    failed_loads: int


def interference(bench: Bench) -> Found:
    """A hot model at 100 requests a second, alone and while forests are loaded one after the other."""
    models = _models(bench, "interference", 1)
    write_forests(models, FORESTS)
    hot_model = name_of(0)
    with _both(bench, "interference", models, room=FORESTS_ROOM, loaded=(hot_model,)) as pair:
        _check_same(*pair, [hot_model])
        for it in pair:
            _beside(bench, it, hot_model, loading=True, seconds=1.0)
        found: dict[tuple[str, bool], list[Beside]] = {}
        for _ in range(bench.scope.plan.rounds):
            for it in pair:
                for loading in (False, True):
                    one = _beside(bench, it, hot_model, loading=loading, seconds=bench.scope.seconds)
                    found.setdefault((it.peer.key, loading), []).append(one)
    return Found(
        _interference_figures(bench, found), {f"{key} {loads}": it for (key, loads), it in found.items()}
    )


def _beside(bench: Bench, it: Started, model: str, *, loading: bool, seconds: float) -> Beside:
    hot_job = Job(it.place.port, (it.peer.request(model),), RATE_CONNECTIONS, seconds + HEAD_START_S, RATE)
    if not loading:
        return _as_beside(bench.load.trace(hot_job), 0.0, 0)
    loads = it.peer.loads([name for name in it.place.names if name != model])
    job = Job(it.place.port, loads.requests, 1, seconds + 2 * HEAD_START_S)
    with ThreadPoolExecutor(1) as other:
        loaded = other.submit(bench.load.run, job)
        trace = bench.load.trace(hot_job)
        result = loaded.result()
    return _as_beside(trace, result.per_second * loads.of_each, result.failures)


def _as_beside(trace: Trace, loads_per_second: float, failed_loads: int) -> Beside:
    counted = trace.took_s[trace.turn_s >= HEAD_START_S]
    return Beside([float(it) for it in counted], loads_per_second, trace.result.failures, failed_loads)


def _interference_figures(bench: Bench, found: Mapping[tuple[str, bool], list[Beside]]) -> tuple[Figure, ...]:
    def p99(key: str, *, loading: bool) -> float:
        times = [took for it in found[key, loading] for took in it.took_s]
        return percentiles_ms(times, [99])[0]

    def loads(key: str) -> float:
        return median(it.loads_per_second for it in found[key, True])

    def said(key: str) -> str:
        broken = sum(it.failed + it.failed_loads for it in found[key, True])
        more = f", {broken} failed" if broken else ""
        return f"{p99(key, loading=False):.1f} alone; {loads(key):.1f} loads/s{more}"

    mine, other = (p99(key, loading=True) for key in (OURS, bench.peer.key))
    speeds = loads(OURS), loads(bench.peer.key)
    return (
        Figure(
            Row.INTERFERENCE,
            "p99 ms while forests load",
            mine,
            other,
            other / mine,
            digits=1,
            ours_beside=said(OURS),
            theirs_beside=said(bench.peer.key),
        ),
        Figure(Row.INTERFERENCE, "loads/s", *speeds, speeds[0] / max(speeds[1], 1e-9), digits=1),
    )


def start(bench: Bench) -> Found:
    """From the start of the process to the first answer, with one model."""
    models = _models(bench, "start", 1)
    times: dict[str, list[float]] = {OURS: [], bench.peer.key: []}
    for number in range(bench.scope.starts):
        for peer in (hotset.CHOSEN, bench.peer):
            bench.tell(f"{peer.title}: start")
            place = _place(bench, peer, f"start-{number}", models, room=1)
            with started(peer, place, name_of(0)) as it:
                times[peer.key].append(it.start_s)
    mine, other = (median(it) for it in times.values())
    return Found((Figure(Row.START, "s", mine, other, other / mine, digits=1),), times)


def version(bench: Bench) -> Found:
    """New versions of a model that is asked 100 times a second: how long until it answers, and what fails meanwhile."""
    models = _models(bench, "version", 1)
    found: dict[str, list[Rollover]] = {}
    numbers, phase = count(2), random.Random(1)
    with _both(bench, "version", models, room=4) as (ours, theirs):
        for _ in range(bench.scope.versions):
            for it in (ours, replace(ours, peer=hotset.ON_ITS_OWN), theirs):
                number = next(numbers)
                write_version(bench.folder / "versions", 0, number)
                file = bench.folder / "versions" / name_of(0) / str(number) / "model.joblib"
                wait_s = PAUSE_S + phase.random() * PHASE_S
                found.setdefault(it.peer.key, []).append(_roll_over(bench, it, file, number, wait_s))
    other = found[bench.peer.key]
    figures = (
        _rollover_figure("s until served, told of it", found[OURS], other),
        _rollover_figure("s until served, hotset not told", found[hotset.ON_ITS_OWN.key], other),
    )
    return Found(figures, found)


@dataclass(frozen=True, slots=True)
class Rollover:
    """One new version: how long until it answered, and the requests meanwhile."""

    served_s: float
    slowest_s: float
    failed: int


def _rollover_figure(measure: str, ours: Sequence[Rollover], theirs: Sequence[Rollover]) -> Figure:
    mine, other = (median(it.served_s for it in rounds) for rounds in (ours, theirs))
    said = [
        f"slowest request {max(it.slowest_s for it in rounds) * 1e3:.0f} ms, {sum(it.failed for it in rounds)} failed"
        for rounds in (ours, theirs)
    ]
    return Figure(
        Row.VERSION, measure, mine, other, other / mine, digits=2, ours_beside=said[0], theirs_beside=said[1]
    )


def _roll_over(bench: Bench, it: Started, file: Path, number: int, wait_s: float) -> Rollover:
    bench.tell(f"{it.peer.title}: version {number}")
    expected = float(joblib.load(file).predict(np.array([ROW]))[0])
    model, place = name_of(0), it.place
    job = Job(place.port, (it.peer.request(model),), RATE_CONNECTIONS, VERSION_S, RATE)
    with ThreadPoolExecutor(1) as other, watched(lambda: it.predict(model)) as watch:
        traced = other.submit(bench.load.trace, job)
        time.sleep(wait_s)
        begun_s = time.monotonic()
        refresh = it.peer.publish(place, model, file, number)
        if refresh is not None:
            it.ask(refresh, limit_s=VERSION_LIMIT_S)
        served_s = watch.wait_for(expected, limit_s=VERSION_LIMIT_S, tolerance=TOLERANCE) - begun_s
        trace = traced.result()
    return Rollover(served_s, float(trace.took_s.max()), trace.result.failures)


def _place(
    bench: Bench, peer: Peer, label: str, models: Path, *, room: int, loaded: tuple[str, ...] | None = None
) -> Place:
    folder = bench.folder / f"{label}-{peer.key}"
    names = tuple(sorted(it.name for it in models.iterdir()))
    return Place(bench.python, models, folder, free_port(), room, names if loaded is None else loaded)


@contextmanager
def _both(
    bench: Bench, label: str, models: Path, *, room: int, loaded: tuple[str, ...] | None = None
) -> Iterator[tuple[Started, Started]]:
    bench.tell(f"{bench.peer.title}: {label}, starting")
    first = name_of(0)
    mine = _place(bench, hotset.CHOSEN, label, models, room=room)
    other = _place(bench, bench.peer, label, models, room=room, loaded=loaded)
    with started(hotset.CHOSEN, mine, first) as ours, started(bench.peer, other, first) as theirs:
        bench.tell(f"{bench.peer.title}: {label}")
        yield ours, theirs


def _models(bench: Bench, label: str, size: int) -> Path:
    folder = bench.folder / f"{label}-models"
    write_models(folder, size)
    return folder


def _check_same(ours: Started, theirs: Started, names: Sequence[str]) -> None:
    """Ask both for every model once; whoever answers otherwise is not measured."""
    for name in names:
        mine, other = ours.first_prediction(name), theirs.first_prediction(name)
        if abs(mine - other) > TOLERANCE:
            raise RuntimeError(f"{name}: {theirs.peer.title} answers {other}, hotset {mine}")


def _closed(
    bench: Bench, ours: Started, theirs: Started, names: Sequence[str], levels: Sequence[int]
) -> list[Sample]:
    subjects = {it.peer.key: Subject(it.server, tuple(map(it.peer.request, names))) for it in (ours, theirs)}
    warm_up(bench.load, subjects, plan=bench.scope.plan)
    return [
        sample
        for level in levels
        for sample in take_turns(bench.load, subjects, connections=level, plan=bench.scope.plan)
    ]


def _faster(row: Row, measure: str, bench: Bench, samples: Sequence[Sample], level: int) -> Figure:
    ours, theirs = of(samples, OURS, level), of(samples, bench.peer.key, level)
    mine, other = summary(ours), summary(theirs)
    said = [f"{it.failures} failed" if it.failures else "" for it in (mine, other)]
    return Figure(
        row,
        measure,
        mine.per_second,
        other.per_second,
        ratio(ours, theirs),
        ours_beside=said[0],
        theirs_beside=said[1],
    )


def _sooner(
    row: Row,
    measure: str,
    bench: Bench,
    samples: Sequence[Sample],
    level: int,
    of_what: Callable[[Sample], float],
    *,
    digits: int = 2,
) -> Figure:
    """Less is better: the factor is theirs to ours."""
    ours, theirs = of(samples, OURS, level), of(samples, bench.peer.key, level)
    mine, other = (median(map(of_what, it)) for it in (ours, theirs))
    return Figure(row, measure, mine, other, ratio(theirs, ours, of_what=of_what), digits=digits)


def _idle_cpu(*servers: Started) -> dict[str, float]:
    """Return what each takes of one core while nobody asks it anything."""
    before = [it.server.cpu_s() for it in servers]
    time.sleep(SETTLE_S)
    return {
        it.peer.key: (it.server.cpu_s() - was) / SETTLE_S for it, was in zip(servers, before, strict=True)
    }


def _settled(it: Started) -> Weight:
    """Return the least that a server weighs within two seconds: what is free is given back once it is quiet."""
    end_s = time.monotonic() + SETTLE_S
    seen = [it.weight() for _ in iter(lambda: time.monotonic() < end_s and not time.sleep(0.5), False)]
    return min(seen, key=lambda each: each.pss_mb)


MEASURED: Final[Mapping[Row, Callable[[Bench], Found]]] = {
    Row.HOT: hot,
    Row.MANY: many,
    Row.CHURN: churn,
    Row.INTERFERENCE: interference,
    Row.START: start,
    Row.VERSION: version,
}
"""``Row.MEMORY`` comes with ``Row.MANY``."""
