"""Rounds that take turns: A B A B, so that whatever else the machine does meets both. Called by every section.

What is compared is each round of one subject with the round of the other beside it; the median of those ratios is
less at the mercy of a busy machine than the ratio of two medians.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from load import Generator, Job, Request, Result
from section import Plan
from subjects import Server

WARM_UP_CONNECTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """A server and what it is asked."""

    server: Server
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One round. ``cpu_us`` is the processor time that the server took for each request, all processes together."""

    subject: str
    connections: int
    rate: float
    result: Result
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The medians of one subject's rounds, and all its failures."""

    per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    cpu_us: float
    own_cpu: float
    failures: int
    unsent: int

    def cells(self) -> tuple[str, ...]:
        """Return what ``COLUMNS`` name."""
        times = (f"{it:.2f}" for it in (self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms))
        return (
            f"{self.per_second:,.0f}",
            *times,
            f"{self.cpu_us:.0f}",
            f"{self.own_cpu:.0%}",
            str(self.failures),
        )

    def open_cells(self) -> tuple[str, ...]:
        """Return what ``OPEN_COLUMNS`` name."""
        return (*self.cells(), str(self.unsent))


COLUMNS: Final = ("req/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "CPU µs/req", "generator", "failed")
OPEN_COLUMNS: Final = (*COLUMNS, "unsent")


def take_turns(
    generator: Generator,
    subjects: Mapping[str, Subject],
    *,
    connections: int,
    plan: Plan,
    rate: float = 0.0,
) -> list[Sample]:
    """Measure all subjects, one after the other, in each of the plan's rounds."""
    return [
        measure(generator, name, subject, connections=connections, seconds=plan.seconds, rate=rate)
        for _ in range(plan.rounds)
        for name, subject in subjects.items()
    ]


def warm_up(generator: Generator, subjects: Mapping[str, Subject], *, plan: Plan) -> None:
    """Go before the first round that counts: what a server still does after its start would fall on one of them."""
    take_turns(generator, subjects, connections=WARM_UP_CONNECTIONS, plan=Plan(min(2, plan.rounds), 1))


def measure(
    generator: Generator,
    name: str,
    subject: Subject,
    *,
    connections: int,
    seconds: float,
    rate: float = 0.0,
) -> Sample:
    """Measure one subject once."""
    before_s = subject.server.cpu_s()
    result = generator.run(Job(subject.server.port, subject.requests, connections, seconds, rate))
    cpu_s = subject.server.cpu_s() - before_s
    return Sample(name, connections, rate, result, cpu_s * 1e6 / max(1, result.answers))


def summary(samples: Iterable[Sample]) -> Summary:
    """Return the medians of one subject's rounds."""
    results = list(samples)
    return Summary(
        per_second=median(it.result.per_second for it in results),
        p50_ms=median(it.result.p50_ms for it in results),
        p90_ms=median(it.result.p90_ms for it in results),
        p99_ms=median(it.result.p99_ms for it in results),
        p999_ms=median(it.result.p999_ms for it in results),
        cpu_us=median(it.cpu_us for it in results),
        own_cpu=median(it.result.own_cpu for it in results),
        failures=sum(it.result.failures for it in results),
        unsent=sum(it.result.unsent for it in results),
    )


def of(samples: Iterable[Sample], subject: str, connections: int | None = None) -> list[Sample]:
    """Return the rounds of one subject, at one number of connections or at any, in order."""
    return [it for it in samples if it.subject == subject and connections in {None, it.connections}]


def per_second(sample: Sample) -> float:
    return sample.result.per_second


def ratio(
    ours: Sequence[Sample], theirs: Sequence[Sample], *, of_what: Callable[[Sample], float] = per_second
) -> float:
    """Return the median over the rounds of our figure to theirs."""
    return median(of_what(one) / max(of_what(other), 1e-9) for one, other in zip(ours, theirs, strict=True))
