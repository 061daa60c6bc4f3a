"""Rollover: a new version of a model that is asked at a steady rate; how long until it answers, and whom that hurts.

A section. What is compared is doing the same by hand: look into the directory, ``joblib.load``, predict.
"""

from __future__ import annotations

import random
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import joblib
import numpy as np
from load import Job, Trace, percentiles_ms
from models import ROW, name_of, request_for, write_version
from section import Grid, Lines, Options, Section
from subjects import LOCALHOST, Server, hotset

RATE: Final = 200.0
CONNECTIONS: Final = 16
SYNC_INTERVAL_S: Final = 0.5
PUBLISHED: Final = 8
PUBLISHED_QUICK: Final = 2
PAUSE_S: Final = 1.0
"""Between two versions, so that the last one is all over."""

POLL_S: Final = 0.004
LIMIT_S: Final = 30.0
SLICE_S: Final = 0.25
PERCENTS: Final = (50, 99, 99.9, 100)


@dataclass(frozen=True, slots=True)
class Published:
    """One new version: when, from the start of the load, and how long until it answered."""

    version: int
    at_s: float
    served_after_s: float


def run(options: Options) -> Section:
    """Publish versions under load."""
    models = options.folder / "models"
    write_version(models, 0, 1)
    settings = {"sync-interval": f"{SYNC_INTERVAL_S}s"}
    count = PUBLISHED_QUICK if options.quick else PUBLISHED
    with hotset(models, options.folder / "hotset", request_for(0), settings=settings) as server:
        options.tell("rollover, without new versions")
        calm = options.tracer.trace(_job(server, 2.0))
        options.tell("rollover")
        trace, published = _under_load(options, server, models, count)
    return _section(calm, trace, published, by_hand_ms=_by_hand_ms(models))


def _job(server: Server, seconds: float) -> Job:
    return Job(server.port, (request_for(0),), CONNECTIONS, seconds, RATE)


def _under_load(options: Options, server: Server, models: Path, count: int) -> tuple[Trace, list[Published]]:
    seconds = (count + 1) * (PAUSE_S + SYNC_INTERVAL_S + 0.5)
    phase = random.Random(1)
    with ThreadPoolExecutor(1) as beside, _watched(server) as watch:
        load = beside.submit(options.tracer.trace, _job(server, seconds))
        started_s = time.monotonic()
        published = []
        for version in range(2, count + 2):
            time.sleep(
                PAUSE_S + phase.random() * SYNC_INTERVAL_S
            )  # anywhere between two passes of the sync loop
            at_s = time.monotonic()
            write_version(models, 0, version)
            served_s = watch.wait_for(version)
            published.append(Published(version, at_s - started_s, served_s - at_s))
        return load.result(), published


class Watch:
    """Asks again and again which version answers. A thread of its own; ``wait_for`` in any other."""

    def __init__(self, server: Server) -> None:
        self._url = f"http://{LOCALHOST}:{server.port}{request_for(0).path}"
        self._seen: dict[int, float] = {}
        self._news = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._ask, name="watch")

    def start(self) -> None:
        self._thread.start()

    def wait_for(self, version: int) -> float:
        """Return when a version first answered.

        Raises:
            RuntimeError: it never did.
        """
        with self._news:
            if not self._news.wait_for(lambda: version in self._seen, LIMIT_S):
                raise RuntimeError(f"version {version} did not answer within {LIMIT_S:g} s")
            return self._seen[version]

    def close(self) -> None:
        self._ended = True
        self._thread.join()

    def _ask(self) -> None:
        body = request_for(0).body.encode()
        request = urllib.request.Request(self._url, data=body, headers={"Content-Type": "application/json"})
        while not self._ended:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                version = int(answer.headers["X-Model-Version"])
            with self._news:
                self._seen.setdefault(version, time.monotonic())
                self._news.notify_all()
            time.sleep(POLL_S)


@contextmanager
def _watched(server: Server) -> Iterator[Watch]:
    watch = Watch(server)
    watch.start()
    try:
        yield watch
    finally:
        watch.close()


def _by_hand_ms(models: Path) -> float:
    """Return what it takes to see the newest version, load it and predict with it."""
    times = []
    for _ in range(5):
        started_s = time.perf_counter()
        folder = models / name_of(0)
        newest = max(folder.iterdir(), key=lambda it: int(it.name))
        joblib.load(newest / "model.joblib").predict(np.array([ROW]))
        times.append(time.perf_counter() - started_s)
    return median(times) * 1e3


def _section(calm: Trace, trace: Trace, published: Sequence[Published], *, by_hand_ms: float) -> Section:
    after = [it.served_after_s for it in published]
    rows = [
        _row("no new version", calm),
        _row(f"{len(published)} new versions", trace),
    ]
    waits = (
        ("median", f"{median(after) * 1e3:.0f}"),
        ("longest", f"{max(after) * 1e3:.0f}"),
        ("of that, waiting for the sync loop, on the average", f"{SYNC_INTERVAL_S / 2 * 1e3:.0f}"),
        ("by hand (list, joblib.load, predict)", f"{by_hand_ms:.1f}"),
    )
    return Section(
        title="Rollover",
        about=(
            f"One model is asked {RATE:g} times a second (open loop) while new versions of it are published, each in one "
            f"rename, at any moment between two passes of the sync loop (sync_interval {SYNC_INTERVAL_S:g}s). Served means: "
            "an answer with its number in X-Model-Version. The bare app cannot do this without a restart."
        ),
        grids=(
            Grid(
                "Requests meanwhile",
                ("", "requests", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "failed"),
                tuple(rows),
            ),
            Grid("From published to served", ("", "ms"), waits),
        ),
        plots=(
            Lines(
                "Slowest request of each quarter of a second, and when a new version was served",
                "seconds",
                "ms",
                {
                    "slowest": _slowest(trace),
                    "served": [(it.at_s + it.served_after_s, 0.0) for it in published],
                },
            ),
        ),
        raw={
            "published": [asdict(it) for it in published],
            "calm": asdict(calm.result),
            "load": asdict(trace.result),
            "by_hand_ms": by_hand_ms,
        },
    )


def _row(name: str, trace: Trace) -> tuple[str, ...]:
    times = (f"{it:.2f}" for it in percentiles_ms(trace.took_s, PERCENTS))
    return name, str(trace.result.requests), *times, str(trace.result.failures)


def _slowest(trace: Trace) -> list[tuple[float, float]]:
    slices = (trace.turn_s / SLICE_S).astype(int)
    return [
        (float(number) * SLICE_S, float(trace.took_s[slices == number].max()) * 1e3)
        for number in np.unique(slices)
    ]
