"""What the soak asks of every answer. ``soak.py`` feeds it; it asks nothing itself.

An answer is right, or refused for a reason that is known, or it breaks a promise.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rich.table import Table
from soak_models import Models

from hotset.demo.connection import Answer

AFTERMATH_S: Final = 15.0
"""How long a fault may be felt: a child starts anew, a pass over the store is tried again, a failed load too."""

DELETED_S: Final = 30.0
"""After so long, what was deleted is not answered any more, whatever happened meanwhile."""

ON_ITS_WAY_S: Final = 0.05
"""A request that was sent so shortly before SIGTERM may not have been inside."""

SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Question:
    """A request; ``number`` None means ``latest``."""

    name: str
    number: int | None = None
    began_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Outage:
    """While the store was away, from ``since_s`` to ``until_s``: what the replica had on disk or in memory.

    ``names`` are models whose newest version is among it, for ``latest``: an older one does not answer where a newer one has.
    ``versions`` are names and numbers.
    """

    since_s: float
    names: frozenset[str]
    versions: frozenset[tuple[str, int]]
    until_s: float = math.inf

    @classmethod
    def seen(cls, models: Iterable[Mapping[str, Any]]) -> Outage:
        """Make it of what the server lists now; what failed to load lately is in no tier that would help."""
        models = [*models]
        versions = {
            (model["name"], version["version"])
            for model in models
            for version in model["versions"]
            if version["tier"] != "store" and version.get("failure") is None
        }
        names = {model["name"] for model in models if (model["name"], model["latest"]) in versions}
        return cls(time.monotonic(), frozenset(names), frozenset(versions))

    def must_be_answered(self, asked: Question) -> bool:
        """Whether a warm replica has it, and no store is needed for the answer."""
        has = (
            asked.name in self.names if asked.number is None else (asked.name, asked.number) in self.versions
        )
        return has and self.since_s <= asked.began_s <= self.until_s


@dataclass(slots=True)
class Verdict:
    """Counts, and the promises that were broken, in sentences. Owned by the event loop."""

    models: Models
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    answered: set[tuple[str, int]] = field(default_factory=set)
    outage: Outage | None = None
    """The last one, which may go on."""
    began_s: float = 0.0
    """Since when the server answers that is asked now."""
    killed_until_s: float = 0.0
    away_until_s: float = 0.0
    full_until_s: float = 0.0
    ended_s: float = math.inf
    """When SIGTERM was sent to the server; answers and their lack are judged by it until the next one runs."""

    def prediction(self, asked: Question, answer: Answer, last: dict[str, tuple[int, int]]) -> None:
        """Judge an answer; ``last`` has what the connection saw last of each model as ``latest``."""
        if answer.status != 200:
            self.refusal(asked, answer)
            return
        self.counts["answered"] += 1
        if self._must_be_answered(asked):
            self.counts["answered while the store was away"] += 1
        told: dict[str, Any] = answer.json()
        name, number, revision = told["name"], told["version"], told["revision"]
        self.answered.add((name, number))
        why = self._wrong(asked, told, answer.headers, last)
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

    def cut_off(self, asked: Question, error: OSError, *, is_killed: bool) -> None:
        """Judge a connection that ended: where the server was killed, or was asked to end before the request was in it."""
        if is_killed or asked.began_s > self.ended_s - ON_ITS_WAY_S:
            self.refused["cut off by the server's end"] += 1
        else:
            self.fail(f"{asked.name} by {asked.number or 'latest'}: {error!r}")

    def fail(self, what: str) -> None:
        self.counts["failed"] += 1
        self.broken.append(f"failed: {what}")

    def _must_be_answered(self, asked: Question) -> bool:
        return self.outage is not None and self.outage.must_be_answered(asked)

    def _wrong(
        self, asked: Question, told: Mapping[str, Any], headers: Any, last: dict[str, tuple[int, int]]
    ) -> str:
        name, number, revision = told["name"], told["version"], told["revision"]
        deleted_at = self.models.deleted_at.get((name, number), asked.began_s)
        before = last.get(name, (0, 0)) if asked.number is None else (0, 0)
        if told["torn"]:
            return "a torn version: its files are not of one upload"
        if told["unloaded"]:
            return "it was unloaded while it predicted"
        if name != asked.name or asked.number not in {None, number}:
            return "another model or version"
        if headers["x-model-version"] != str(number):
            return f"the header says version {headers['x-model-version']}"
        if (name, number, revision) not in self.models.offered:
            return "never offered"
        if asked.began_s - deleted_at > DELETED_S:
            return f"deleted {asked.began_s - deleted_at:.0f} s before"
        # While the store is away, an older version that is on disk may answer for one that is only there.
        may_go_back = (name, before[0]) in self.models.deleted_at or asked.began_s < self.away_until_s
        if (number, revision) < before and not may_go_back:
            return f"before that, this connection saw version and revision {before}"
        return ""

    def _is_excused(self, asked: Question, answer: Answer, kind: str) -> bool:
        touched_s = self._touched_until_s(asked.name)
        if answer.status == 404:
            deleted = asked.number is not None and (asked.name, asked.number) in self.models.deleted_at
            return deleted or asked.name in self.models.gone or asked.began_s < touched_s
        if kind != "disk_full" and int(answer.headers.get("retry-after", 0)) < 1:
            return False
        if kind in {"worker_died", "load_failed"}:  # load_failed: the child was killed while it loaded
            return asked.began_s < self.killed_until_s
        if kind == "shutting_down":
            return asked.began_s > self.ended_s - ON_ITS_WAY_S
        if self._must_be_answered(asked):
            return False
        if kind == "disk_full":
            return asked.began_s < self.full_until_s
        return kind == "store_unavailable" and asked.began_s < max(self.away_until_s, touched_s)

    def _touched_until_s(self, name: str) -> float:
        """Return how long a change of a model's files may be felt: a server that starts after it has yet to see it settle."""
        touched_s = self.models.touched_at.get(name, -math.inf)
        return max(touched_s, min(touched_s + 4 * AFTERMATH_S, self.began_s)) + AFTERMATH_S

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
