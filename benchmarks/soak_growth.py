"""How the soak's processes grow, and how long answers take: slopes for the table, and what is too much. ``soak.py`` feeds it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from typing import Final, TypeVar

import psutil
from rich.table import Table

WARM_UP_S: Final = 10.0
"""The growth of a process is not looked at before it is so old."""

WINDOW: Final = 500
"""Answers of which each has a place in the table's quantiles."""

LOOKS: Final = 90
"""Of a process that was looked at less often, thirds tell nothing."""

MOST_GROWTH: Final = {"resident MiB": (1.25, 16.0), "open files": (1.25, 32.0), "threads": (1.25, 16.0)}
"""From the first third of a process's life to its last: so many times, and so much."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one process."""

    at_s: float
    pid: int
    mib: float
    files: int
    threads: int


@dataclass(frozen=True, slots=True)
class Latency:
    """The quantiles of some hundred answers that came one after the other, in milliseconds; of no process."""

    at_s: float
    pid: int
    p50: float
    p99: float


Look = TypeVar("Look", Sample, Latency)

_PARTS: Final[dict[str, Callable[[Sample], float]]] = {
    "resident MiB": lambda it: it.mib,
    "open files": lambda it: it.files,
    "threads": lambda it: it.threads,
}


class Growth:
    """Looks at processes by role, and how long answers take; children that took another's place are of one role.

    Owned by the event loop.
    """

    def __init__(self) -> None:
        self._samples: defaultdict[str, list[Sample]] = defaultdict(list)
        self._seconds: list[float] = []
        self._quantiles: list[Latency] = []
        self._began_s = time.monotonic()

    def answered(self, seconds: float) -> None:
        """An answer took so long; after each ``WINDOW`` of them, their quantiles are taken down."""
        if time.monotonic() - self._began_s < WARM_UP_S:
            return
        self._seconds.append(seconds * 1000)
        if len(self._seconds) == WINDOW:
            parts = quantiles(self._seconds, n=100)
            self._quantiles.append(Latency(time.monotonic(), 0, parts[49], parts[98]))
            self._seconds.clear()

    def look(self, role: str, pid: int) -> None:
        try:
            it = psutil.Process(pid)
            if time.time() - it.create_time() < WARM_UP_S:
                return
            mib, files, threads = it.memory_info().rss / (1 << 20), it.num_fds(), it.num_threads()
        except psutil.Error:  # it was killed since
            return
        self.note(role, Sample(time.monotonic(), pid, mib, files, threads))

    def note(self, role: str, sample: Sample) -> None:
        self._samples[role].append(sample)

    def too_much(self) -> Iterator[str]:
        """Yield a sentence for each process that grew more, from the first third of its life to the last, than it may."""
        for role, samples in self._samples.items():
            for pid in {it.pid for it in samples}:
                own = [it for it in samples if it.pid == pid]
                if len(own) < LOOKS:
                    continue
                third = len(own) // 3
                for part, value in _PARTS.items():
                    before, after = (median(map(value, some)) for some in (own[:third], own[-third:]))
                    times, more = MOST_GROWTH[part]
                    if after > before * times + more:
                        yield f"{role} {pid} grew from {before:.1f} to {after:.1f} {part}"

    def table(self) -> Table:
        """Return the slopes; a process that was younger than ``WARM_UP_S`` all the time is not in it."""
        grid = Table("process", "", title=f"Growth, from {WARM_UP_S:g} s of age on", title_justify="left")
        for column in ("looks", "median", "most", "slope per minute"):
            grid.add_column(column, justify="right")
        for role, samples in sorted(self._samples.items(), reverse=True):
            for part, value in _PARTS.items():
                grid.add_row(role, part, *_figures(samples, value))
        for quantile, latency in (("p50 ms", _p50), ("p99 ms", _p99)):
            if len(self._quantiles) > 1:
                grid.add_row("answers", quantile, *_figures(self._quantiles, latency))
        return grid


def _figures(looks: Sequence[Look], value: Callable[[Look], float]) -> tuple[str, str, str, str]:
    values = [value(it) for it in looks]
    return (
        str(len(values)),
        f"{median(values):,.1f}",
        f"{max(values):,.1f}",
        f"{_slope(looks, value):+,.3f}",
    )


def _p50(it: Latency) -> float:
    return it.p50


def _p99(it: Latency) -> float:
    return it.p99


def _slope(samples: Sequence[Look], value: Callable[[Look], float]) -> float:
    """Return the least squares' slope per minute that all processes have in common, each with its own level."""
    over = under = 0.0
    for pid in {it.pid for it in samples}:
        own = [it for it in samples if it.pid == pid]
        middle_s, level = fmean(it.at_s for it in own), fmean(value(it) for it in own)
        over += sum((it.at_s - middle_s) * (value(it) - level) for it in own)
        under += sum((it.at_s - middle_s) ** 2 for it in own)
    return 60 * over / under if under else 0.0
