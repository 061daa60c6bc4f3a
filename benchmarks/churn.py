"""Churn: 200 models asked for by Zipf's law while memory holds 20, so that loads and unloads go on all the time.

A section. hotset against the bare app with ``functools.lru_cache(maxsize=20)`` around ``joblib.load``, both asked for the
same names in the same order. All models are on the disk tier before it begins; what is measured is the memory tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Final

from models import request_for, write_models, zipf
from prometheus_client.parser import text_string_to_metric_families
from rounds import COLUMNS, Sample, Subject, measure, of, ratio, summary
from section import Bars, Grid, Options, Section, at_least
from subjects import Server, bare_cache, hotset

MODELS: Final = 200
IN_MEMORY: Final = 20
EXPONENT: Final = 1.0
CONNECTIONS: Final = 32
DRAWN: Final = 50_000
OURS: Final = "hotset"
BARE: Final = "bare uvicorn, lru_cache"


@dataclass(frozen=True, slots=True)
class Counts:
    """What hotset's metrics tell of one round. ``hits`` are the answers that memory gave at once."""

    seconds: float
    answers: float
    hits: float
    loads: float


def run(options: Options) -> Section:
    """Measure both under churn."""
    models = options.folder / "models"
    write_models(models, MODELS)
    settings = {"model-cache-size": str(IN_MEMORY), "disk-model-cache-size": str(MODELS)}
    first = request_for(0)
    samples: list[Sample] = []
    told: list[Counts] = []
    with (
        hotset(models, options.folder / "hotset", first, settings=settings) as ours,
        bare_cache(models, IN_MEMORY, first) as bare,
    ):
        options.tell("churn, bringing all models to disk")
        for number in range(MODELS):
            for server in (ours, bare):
                server.ask(request_for(number))
        for number in range(options.plan.rounds):
            options.tell(f"churn, round {number + 1}")
            one, counts = _ours(options, ours, seed=number)
            samples += [one, _measured(options, BARE, bare, seed=number)]
            told.append(counts)
    return _section(samples, told)


def _ours(options: Options, server: Server, *, seed: int) -> tuple[Sample, Counts]:
    before = counted(server.text("/metrics"))
    sample = _measured(options, OURS, server, seed=seed)
    after = counted(server.text("/metrics"))
    return sample, Counts(
        sample.result.seconds, *(now - then for now, then in zip(after, before, strict=True))
    )


def _measured(options: Options, name: str, server: Server, *, seed: int) -> Sample:
    drawn = islice(zipf(MODELS, exponent=EXPONENT, seed=seed), DRAWN)
    subject = Subject(server, tuple(request_for(number) for number in drawn))
    return measure(options.closed, name, subject, connections=CONNECTIONS, seconds=options.plan.seconds)


def counted(page: str) -> tuple[float, float, float]:
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


def _section(samples: Sequence[Sample], told: Sequence[Counts]) -> Section:
    ours, bare = of(samples, OURS), of(samples, BARE)
    hits = sum(it.hits for it in told) / max(1.0, sum(it.answers for it in told))
    loads = sum(it.loads for it in told) / sum(it.seconds for it in told)
    rows = (
        (OURS, *summary(ours).cells(), f"{hits:.0%}", f"{loads:,.0f}"),
        (BARE, *summary(bare).cells(), "", ""),
    )
    speeds = {name: [summary(of(samples, name)).per_second] for name in (OURS, BARE)}
    return Section(
        title="Churn",
        about=(
            f"{MODELS} models, room for {IN_MEMORY}, names drawn by Zipf's law with exponent {EXPONENT:g}, {CONNECTIONS} "
            "connections. Both are asked for the same names in the same order. The bare app loads on its event loop, "
            "one model at a time, and unloads by dropping a reference; it keeps no versions, checks no files, and answers "
            "nobody while it loads."
        ),
        grids=(Grid("Closed loop", ("server", *COLUMNS, "memory hits", "loads/s"), rows),),
        plots=(Bars("Requests per second under churn", "req/s", ("closed loop",), speeds),),
        goals=(
            at_least(
                f"churn ({IN_MEMORY} of {MODELS}): requests per second to the bare app with lru_cache",
                ratio(ours, bare),
                1.5,
            ),
        ),
        raw={"samples": [asdict(it) for it in samples], "counts": [asdict(it) for it in told]},
    )
