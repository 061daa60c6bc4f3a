"""Processes: a model that computes, on one child and on two; a bare uvicorn app with one worker and with two beside it.

A section. On two cores the generator takes its part, so the processor time of each request says as much as the rate.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from load import Request
from models import name_of
from rounds import COLUMNS, Sample, Subject, of, ratio, summary, take_turns, warm_up
from section import Bars, Goal, Grid, Options, Plan, Section
from subjects import bare_predictor, hotset

MODELS: Final = 16
CONNECTIONS: Final = 16
COUNTS: Final = (1, 2)
GOAL: Final = 1.8
SPREAD_S: Final = 4.0
"""A hot model gets its copy after about 2 s of a long queue, and loses it after 15 s without."""
NEARLY: Final = 0.95
"""Of what is possible: no scheduler reaches all of it."""

BODY: Final = '{"turns": 30000}'

PREDICTOR: Final = '''\
"""A model that computes: a loop of Python, one interpreter busy for about 2 ms."""


class Predictor:
    def load_model(self, disk_path):
        return 7

    def predict(self, model, payload):
        found = model
        for number in range(payload["turns"]):
            found = (found * 31 + number) % 65521
        return {"found": found}
'''


def run(options: Options) -> Section:
    """Measure both servers with one process and with two."""
    models, predictor = _written(options.folder)
    every = tuple(_request(number) for number in range(MODELS))
    one, two = COUNTS
    where = options.folder
    options.tell("processes, starting the servers")
    with (
        hotset(models, where / "one", every[0], settings=_settings(predictor, one)) as ours_one,
        hotset(models, where / "two", every[0], settings=_settings(predictor, two)) as ours_two,
        bare_predictor(predictor, one, every[0]) as bare_one,
        bare_predictor(predictor, two, every[0]) as bare_two,
    ):
        subjects: dict[str, Subject] = {}
        hot: dict[str, Subject] = {}
        for count, ours, bare in ((one, ours_one, bare_one), (two, ours_two, bare_two)):
            subjects[_ours(count)] = Subject(ours, every)
            hot[_hot(count)] = Subject(ours, every[:1])
            subjects[_bare(count)] = Subject(bare, every)
        warm_up(options.closed, subjects, plan=options.plan)
        options.tell("processes")
        samples = take_turns(options.closed, subjects, connections=CONNECTIONS, plan=options.plan)
        options.tell("processes, one model")
        take_turns(options.closed, hot, connections=CONNECTIONS, plan=Plan(1, SPREAD_S))
        samples += take_turns(options.closed, hot, connections=CONNECTIONS, plan=options.plan)
    return _section(samples)


def _written(folder: Path) -> tuple[Path, Path]:
    models, predictor = folder / "models", folder / "predictor.py"
    for number in range(MODELS):
        version = models / name_of(number)
        version.mkdir(parents=True)
        (version / "model.txt").write_text(str(number))
    predictor.write_text(PREDICTOR)
    return models, predictor


def _settings(predictor: Path, processes: int) -> dict[str, str]:
    # Exactly so many: with ``auto`` there would be one more, in which half of the models would be.
    return {
        "predictor": str(predictor),
        "processes-per-replica": str(processes),
        "isolation": "shared",
        "preload": "all",
    }


def _request(number: int) -> Request:
    return Request(f"/models/{name_of(number)}/predict", BODY)


def _ours(count: int) -> str:
    return f"hotset, {count} child{'ren' * (count > 1)}, {MODELS} models"


def _hot(count: int) -> str:
    return f"hotset, {count} child{'ren' * (count > 1)}, one model"


def _bare(count: int) -> str:
    return f"bare uvicorn, {count} worker{'s' * (count > 1)}"


def _section(samples: Sequence[Sample]) -> Section:
    one, two = COUNTS
    kinds = (_ours, _hot, _bare)
    rows = []
    for kind in kinds:
        alone = of(samples, kind(one))
        for count in COUNTS:
            mine = of(samples, kind(count))
            more = f"{ratio(mine, alone):.2f}" if count != one else ""
            rows.append((kind(count), *summary(mine).cells(), more))
    gain = ratio(of(samples, _ours(two)), of(samples, _ours(one)))
    possible = _possible_gain(samples)
    return Section(
        title="Processes",
        about=(
            f"A predictor that computes for about 2 ms in Python, {CONNECTIONS} connections; {MODELS} models asked in turn, "
            "and one alone, which spreads only if it gets copies. Gateway, children and generator share "
            f"{_cores()} cores: what they take for each request would allow {possible:.2f} times the rate of one child."
        ),
        grids=(Grid("Closed loop", ("server", *COLUMNS, "req/s to one process"), tuple(rows)),),
        plots=(
            Bars(
                "Requests per second of a model that computes",
                "req/s",
                tuple(str(count) for count in COUNTS),
                {
                    kind(one).rsplit(",", 1)[-1].strip() if kind is not _bare else "bare uvicorn": [
                        summary(of(samples, kind(count))).per_second for count in COUNTS
                    ]
                    for kind in kinds
                },
            ),
        ),
        goals=(
            Goal(
                "a model that computes on two processes, to one",
                f"≥ {GOAL:g}×, as far as there is room",
                f"{gain:.2f}× of {possible:.2f}× possible",
                gain >= min(GOAL, NEARLY * possible),
            ),
        ),
        raw=[asdict(it) for it in samples],
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _possible_gain(samples: Sequence[Sample]) -> float:
    """Return the rate that all cores could do, as what one request takes in server and generator says, to one child's."""
    two_to_one = max(COUNTS) / min(COUNTS)
    one, two = (summary(of(samples, _ours(count))) for count in COUNTS)
    request_s = two.cpu_us / 1e6 + two.own_cpu / two.per_second
    return min(_cores() / request_s / one.per_second, two_to_one)
