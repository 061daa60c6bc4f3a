"""What the soak asks of every answer, and how the server's processes grow. ``soak.py`` feeds it; it asks nothing itself.

An answer is right, or refused for a reason that is known, or it breaks a promise.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles
from typing import Any, Final, TypeVar

import psutil
from rich.table import Table
from soak_models import Models

from hotset.demo.connection import Answer

AFTERMATH_S: Final = 15.0
"""How long a fault may be felt: a child starts anew, a pass over the store is tried again, a failed load too."""

DELETED_S: Final = 30.0
"""After so long, what was deleted is not answered any more, whatever happened meanwhile."""

WARM_UP_S: Final = 10.0
"""The growth of a process is not looked at before it is so old."""

WINDOW: Final = 500
"""Answers of which each has a place in the table's quantiles."""

SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Question:
    """A request; ``number`` None means ``latest``."""

    name: str
    number: int | None = None
    began_s: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Verdict:
    """Counts, and the promises that were broken, in sentences. Owned by the event loop."""

    models: Models
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    answered: set[tuple[str, int]] = field(default_factory=set)
    killed_until_s: float = 0.0
    away_until_s: float = 0.0
    full_until_s: float = 0.0

    def prediction(self, asked: Question, answer: Answer, last: dict[str, tuple[int, int]]) -> None:
        """Judge an answer; ``last`` has what the connection saw last of each model as ``latest``."""
        if answer.status != 200:
            self.refusal(asked, answer)
            return
        self.counts["answered"] += 1
        told: dict[str, Any] = answer.json()
        name, number, revision = told["name"], told["version"], told["revision"]
        self.answered.add((name, number))
        why = self._wrong(asked, (name, number, revision), answer.headers, last)
        if asked.number is None:
            last[name] = (number, revision)
        if why:
            self.counts["wrong"] += 1
            self.broken.append(f"wrong: {asked.name} by {asked.number or 'latest'}: {told}: {why}")

    def refusal(self, asked: Question, answer: Answer) -> None:
        """Judge an answer that is none: a fault or a deletion must have caused it."""
        kind = str(answer.json().get("kind"))
        if self._is_excused(asked, answer, kind):
            self.refused[f"{answer.status} {kind}"] += 1
        else:
            self.fail(f"{asked.name} by {asked.number or 'latest'}: {answer.status} {answer.body.decode()}")

    def in_vain(self, asked: Question, answer: Answer, *, kind: str) -> None:
        """Judge the answer to a question that has none: it must say so, unless a fault has come before."""
        if answer.json().get("kind") == kind:
            self.counts[f"{kind}, as it should be"] += 1
        else:
            self.refusal(asked, answer)

    def fail(self, what: str) -> None:
        self.counts["failed"] += 1
        self.broken.append(f"failed: {what}")

    def _wrong(
        self, asked: Question, told: tuple[str, int, int], headers: Any, last: dict[str, tuple[int, int]]
    ) -> str:
        name, number, revision = told
        deleted_at = self.models.deleted_at.get((name, number), asked.began_s)
        before = last.get(name, (0, 0)) if asked.number is None else (0, 0)
        if name != asked.name or asked.number not in {None, number}:
            return "another model or version"
        if headers["x-model-version"] != str(number):
            return f"the header says version {headers['x-model-version']}"
        if told not in self.models.offered:
            return "never offered"
        if asked.began_s - deleted_at > DELETED_S:
            return f"deleted {asked.began_s - deleted_at:.0f} s before"
        # While the store is away, an older version that is on disk may answer for one that is only there.
        may_go_back = (name, before[0]) in self.models.deleted_at or asked.began_s < self.away_until_s
        if (number, revision) < before and not may_go_back:
            return f"before that, this connection saw version and revision {before}"
        return ""

    def _is_excused(self, asked: Question, answer: Answer, kind: str) -> bool:
        if answer.status == 404:
            deleted = asked.number is not None and (asked.name, asked.number) in self.models.deleted_at
            return deleted or asked.name in self.models.gone
        if kind != "disk_full" and int(answer.headers.get("retry-after", 0)) < 1:
            return False
        if kind in {"worker_died", "load_failed"}:  # load_failed: the child was killed while it loaded
            return asked.began_s < self.killed_until_s
        if kind == "disk_full":
            return asked.began_s < self.full_until_s
        touched_s = self.models.touched_at.get(asked.name, 0.0) + AFTERMATH_S
        return kind == "store_unavailable" and asked.began_s < max(self.away_until_s, touched_s)

    def tables(self, actions: Counter[str]) -> Iterable[Table]:
        """Return what was done, and what came of it."""
        counts = dict.fromkeys(("answered", "wrong", "failed", "looks at the tiers"), 0) | self.counts
        refused = {f"refused with {name}": count for name, count in sorted(self.refused.items())}
        for title, rows in (("Done to it", dict(actions)), ("Seen", counts | refused)):
            grid = Table("", title=title, title_justify="left")
            grid.add_column("count", justify="right")
            for name, count in rows.items():
                grid.add_row(name, f"{count:,}")
            yield grid


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
        self._samples[role].append(Sample(time.monotonic(), pid, mib, files, threads))

    def table(self) -> Table:
        """Return the slopes; a process that was younger than ``WARM_UP_S`` all the time is not in it."""
        grid = Table("process", "", title=f"Growth, from {WARM_UP_S:g} s of age on", title_justify="left")
        for column in ("looks", "median", "most", "slope per minute"):
            grid.add_column(column, justify="right")
        parts: dict[str, Callable[[Sample], float]] = {
            "resident MiB": lambda it: it.mib,
            "open files": lambda it: it.files,
            "threads": lambda it: it.threads,
        }
        for role, samples in sorted(self._samples.items(), reverse=True):
            for part, value in parts.items():
                values = [value(it) for it in samples]
                figures = (f"{median(values):,.1f}", f"{max(values):,.1f}", f"{_slope(samples, value):+,.3f}")
                grid.add_row(role, part, str(len(values)), *figures)
        for quantile, latency in (("p50 ms", _p50), ("p99 ms", _p99)):
            if len(self._quantiles) > 1:
                values = [latency(it) for it in self._quantiles]
                figures = (
                    f"{median(values):,.1f}",
                    f"{max(values):,.1f}",
                    f"{_slope(self._quantiles, latency):+,.3f}",
                )
                grid.add_row("answers", quantile, str(len(values)), *figures)
        return grid


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
