"""Rounds that take turns: A B A B, so that whatever else the machine does meets both. Called by every section.

What is compared is each round of one server with the round of the other beside it; the median of those ratios is
less at the mercy of a busy machine than the ratio of two medians.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from load import Generator, Job, Request, Result
from subjects import Server


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one server. ``cpu_us`` is the processor time that it took for each request, all processes together."""

    server: str
    connections: int
    result: Result
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often each server is measured."""

    rounds: int
    seconds: float


WARM_UP: Final = Plan(rounds=2, seconds=1)
"""Before the first round that counts: what a server still does after its start would fall on one of the two."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The medians of a server's rounds at one number of connections."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    failures: int


def take_turns(
    generator: Generator, servers: Mapping[str, Server], request: Request, *, connections: int, plan: Plan
) -> list[Sample]:
    """Measure all servers, one after the other, in each of the plan's rounds."""
    return [
        measure(generator, name, server, (request,), connections=connections, seconds=plan.seconds)
        for _ in range(plan.rounds)
        for name, server in servers.items()
    ]


def measure(
    generator: Generator,
    name: str,
    server: Server,
    requests: Sequence[Request],
    *,
    connections: int,
    seconds: float,
) -> Sample:
    """Measure one server once."""
    before_s = server.cpu_s()
    result = generator.run(Job(server.port, tuple(requests), connections, seconds))
    cpu_s = server.cpu_s() - before_s
    return Sample(name, connections, result, cpu_s * 1e6 / max(1, result.requests))


def summary(samples: Iterable[Sample]) -> Summary:
    """Return the medians of one server's rounds."""
    results = list(samples)
    return Summary(
        per_second=median(it.result.per_second for it in results),
        p50_ms=median(it.result.p50_ms for it in results),
        p99_ms=median(it.result.p99_ms for it in results),
        cpu_us=median(it.cpu_us for it in results),
        failures=sum(it.result.failures for it in results),
    )


def of(samples: Iterable[Sample], server: str, connections: int) -> list[Sample]:
    """Return the rounds of one server at one number of connections, in order."""
    return [it for it in samples if it.server == server and it.connections == connections]


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """Return the median over the rounds of our requests per second to theirs."""
    return median(
        one.result.per_second / max(other.result.per_second, 1e-9)
        for one, other in zip(ours, theirs, strict=True)
    )
