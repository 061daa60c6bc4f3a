"""What was found of all peers, as tables: hotset's factors at a glance, then every row with the figures of both.

Called by ``compare.py``. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from peer import Peer, Row
from rows import Figure, Found
from section import Grid, Section

CANNOT: Final = "cannot"
FAILED: Final = "failed"
NOT_RUN: Final = "not run"
OTHERS: Final = "others took"
NOTE: Final = (
    "others took: the most of all processors that other programs had during one of the rows. Where it is not near zero, do "
    "not trust the figures."
)
OVERVIEW: Final[dict[str, tuple[Row, str]]] = {
    "req/s, 1": (Row.HOT, "req/s, 1 conn."),
    "req/s, 8": (Row.HOT, "req/s, 8 conn."),
    "req/s, 32": (Row.HOT, "req/s, 32 conn."),
    "p99, 32": (Row.HOT, "p99 ms, 32 conn."),
    "many models, req/s": (Row.MANY, "models, req/s"),
    "churn, req/s": (Row.CHURN, "req/s"),
    "churn, p99": (Row.CHURN, "p99"),
    "p99 while loading": (Row.INTERFERENCE, "p99"),
    "loads/s": (Row.INTERFERENCE, "loads/s"),
    "memory": (Row.MEMORY, "PSS"),
    "start": (Row.START, ""),
    "new version": (Row.VERSION, ""),
}
"""The columns of the overview: each a row and a part of the name of its measure."""

DETAILS: Final = ("peer", "measure", "hotset", "peer's", "factor", "hotset, beside", "peer, beside")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one peer: figures, or why there are none. Filled row by row.

    ``packages`` are its versions; ``others`` is the part of the processors that went to other programs during a row.
    """

    peer: Peer
    packages: Sequence[str]
    found: dict[Row, Found] = field(default_factory=dict)
    failed: dict[Row, str] = field(default_factory=dict)
    others: dict[Row, float] = field(default_factory=dict)

    def figures(self, row: Row) -> list[Figure]:
        """Return what was measured of a row; it may have come with another."""
        return [each for it in self.found.values() for each in it.figures if each.row is row]

    def why_not(self, row: Row) -> str:
        """Return why there are no figures, or nothing where the row was not asked for."""
        if row in self.peer.cannot:
            return f"{CANNOT}: {self.peer.cannot[row]}"
        reason = self.failed.get(Row.MANY if row is Row.MEMORY else row)
        return f"{FAILED}: {reason.splitlines()[0]}" if reason else ""


def sections(outcomes: Sequence[Outcome]) -> dict[str, Section]:
    """Return the overview, every row, and the versions."""
    found = {"overview": _overview(outcomes)}
    for row in Row:
        if any(it.figures(row) or it.why_not(row) for it in outcomes):
            found[row.name.lower()] = _details(row, outcomes)
    versions = tuple((it.peer.title, ", ".join(it.packages)) for it in outcomes)
    found["versions"] = Section(
        title="Versions",
        about="What each peer's environment pins; all of it is in its requirements.txt.",
        grids=(Grid("Packages", ("peer", "packages"), versions),),
    )
    return found


def _overview(outcomes: Sequence[Outcome]) -> Section:
    rows = [
        (
            it.peer.title,
            *(_factor(it, row, part) for row, part in OVERVIEW.values()),
            f"{max(it.others.values(), default=0.0):.0%}",
        )
        for it in outcomes
    ]
    return Section(
        title="hotset beside its peers",
        about=(
            "hotset's factor: above 1 it is ahead, below 1 it is behind. Requests per second are its to the peer's; times "
            "and memory the peer's to its. Every factor is of two servers that took turns in one run, and is the median over "
            "the rounds where there are rounds. A p99 while loading must be read with the loads per second beside it."
        ),
        grids=(Grid("Factors", ("peer", *OVERVIEW, OTHERS), tuple(rows), note=NOTE),),
    )


def _factor(outcome: Outcome, row: Row, part: str) -> str:
    for figure in outcome.figures(row):
        if part in figure.measure:
            return f"{figure.factor:.2f}" if figure.factor < 10 else f"{figure.factor:,.0f}"
    return outcome.why_not(row).partition(":")[0] or NOT_RUN


def _details(row: Row, outcomes: Sequence[Outcome]) -> Section:
    rows = tuple(cells for it in outcomes for cells in _cells(it, row))
    return Section(
        title=row.value.capitalize(),
        about=ABOUT[row],
        grids=(Grid(row.value.capitalize(), DETAILS, rows),),
    )


def _cells(outcome: Outcome, row: Row) -> Iterator[tuple[str, ...]]:
    for it in outcome.figures(row):
        numbers = (f"{each:,.{it.digits}f}" for each in (it.ours, it.theirs))
        yield (outcome.peer.title, it.measure, *numbers, f"{it.factor:.2f}", it.ours_beside, it.theirs_beside)
    reason = outcome.why_not(row)
    if reason and not outcome.figures(row):
        yield (outcome.peer.title, "", "", "", "", "", reason)


ABOUT: Final = {
    Row.HOT: "One scikit-learn LinearRegression in memory, one row of ten features as JSON, closed loop.",
    Row.MANY: "All models in memory, asked in turn over 32 connections. Triton is asked to hold 50, as each is a process.",
    Row.CHURN: "200 models by Zipf's law with exponent 1, 32 connections, memory for 20: about half of all requests need a load.",
    Row.INTERFERENCE: (
        "A hot model gets 100 requests a second, open loop, while another connection has random forests loaded one after the "
        "other: by the peer's own route for it where there is one, else by asking for a model that is not in memory. Who loads "
        "less disturbs less."
    ),
    Row.MEMORY: (
        "All processes of a server with all models in memory, after they were asked. PSS shares a page among the processes "
        "that use it; USS leaves shared pages out."
    ),
    Row.START: "From the start of the process until it answered a request for its one model, which it had to load.",
    Row.VERSION: (
        "From the moment that a version's file is published until it answers, under 100 requests a second: where the server is "
        "told by a request to load it, and where hotset is not told and finds it by itself (sync_interval 500ms)."
    ),
}
