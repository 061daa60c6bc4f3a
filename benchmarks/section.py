"""What a section of the benchmarks gets and what it gives back: tables, plots, goals and its raw figures.

Every module with a ``run(options) -> Section`` is a section; ``run.py`` lists them, ``report.py`` writes them down.
Nothing here measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from load import Generator, Tracer


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long each subject is measured."""

    rounds: int
    seconds: float


FULL: Final = Plan(rounds=3, seconds=5)
QUICK: Final = Plan(rounds=1, seconds=1)


@dataclass(frozen=True, slots=True)
class Options:
    """``folder`` is the section's own and is removed afterwards; ``tell`` shows what goes on."""

    quick: bool
    folder: Path
    closed: Generator
    tracer: Tracer
    tell: Callable[[str], None]

    @property
    def plan(self) -> Plan:
        return QUICK if self.quick else FULL


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. The first column is text, the others are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """A plot of one bar for each series in each group; ``None`` leaves a gap. ``line`` is drawn across, as a goal."""

    title: str
    unit: str
    groups: tuple[str, ...]
    series: Mapping[str, Sequence[float | None]]
    line: float | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """A plot of points (x, y) for each series, joined in order."""

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    log: bool = False
    """Of the y axis."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table of goals. ``holds`` None: not decided in this run, and ``found`` says why."""

    work: str
    wanted: str
    found: str
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Section:
    """What one section found. ``about`` says in a few sentences what was done and what it does not show."""

    title: str
    about: str
    grids: tuple[Grid, ...]
    plots: tuple[Bars | Lines, ...] = ()
    goals: tuple[Goal, ...] = ()
    raw: Any = None


class Run(Protocol):
    """Measures one thing. Leaves no process behind, whatever happens."""

    def __call__(self, options: Options) -> Section: ...


def at_least(work: str, found: float, limit: float, *, unit: str = "×") -> Goal:
    """Return a goal that a figure reaches."""
    return Goal(work, f"≥ {limit:g}{unit}", f"{found:.2f}{unit}", found >= limit)


def at_most(work: str, found: float, limit: float, *, unit: str = "×") -> Goal:
    """Return a goal that a figure stays below."""
    return Goal(work, f"≤ {limit:g}{unit}", f"{found:.2f}{unit}", found <= limit)
