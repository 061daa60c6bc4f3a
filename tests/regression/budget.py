"""What a hot request and a miss may cost, as recorded in ``budget.json``, and the comparison with what they cost now.

``test_budget.py`` compares; ``python tests/regression/budget.py`` (``make budget``) measures and records anew. Counts of
instructions belong to one version of Python; the ratio to a bare ASGI application holds for all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
FILE: Final = HERE / "budget.json"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
RENEW: Final = "make budget"
LIMIT_S: Final = 150

TOLERANCE: Final = 0.02
"""Of counts that are large; a run differs from the next by less."""

SLACK: Final = 0.15
"""So much better than the budget, and it has to be renewed: else the gain could be lost unseen."""

LARGE: Final = ("instructions", "calls", "native_calls", "child")
SMALL: Final = ("callbacks", "timers", "tasks", "futures", "sends", "receives")
MISS: Final = "miss"
"""The request whose model is on disk only, in a memory that is full."""
TO_BARE: Final = "instructions, to the bare application"
GROWTH_SHOWN: Final = 8

NAMES: Final = {
    "instructions": "bytecode instructions in the gateway",
    "calls": "calls of Python functions in the gateway",
    "native_calls": "calls of functions in C in the gateway",
    "callbacks": "callbacks on the event loop",
    "timers": "timers",
    "tasks": "tasks",
    "futures": "futures",
    "sends": "sends on sockets, to the client and to the child",
    "receives": "receives from sockets, of the client and of the child",
    "child": "bytecode instructions in the child",
    TO_BARE: "of the bare application's instructions in the gateway",
}

Costs = Mapping[str, Mapping[str, float]]
Modules = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What ``measure.py`` found: costs by size of the catalog (and ``bare``, ``miss``), then by door; modules likewise."""

    costs: Mapping[str, Any]
    modules: Mapping[str, Any]

    def doors(self, models: int) -> dict[str, dict[str, float]]:
        """Return the costs of each door, the ratio to the bare application included."""
        bare = self.costs["bare"]["instructions"]
        return {
            door: {**cost, TO_BARE: round(cost["instructions"] / bare, 3)}
            for door, cost in self.costs[str(models)].items()
        }


def measure(*models: int) -> Measured:
    """Count in a process of its own.

    Raises:
        RuntimeError: it failed; the message is its own.
    """
    command = [sys.executable, str(HERE / "measure.py"), "--models", *map(str, models)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if ended.returncode:
        raise RuntimeError(f"measure.py ended with status {ended.returncode}: {ended.stderr[-3000:]}")
    found = json.loads(ended.stdout)
    return Measured(found["costs"], found["modules"])


def complaints(door: str, now: Mapping[str, float], budget: Mapping[str, float]) -> Iterator[str]:
    """Yield a sentence for each count that is over its budget, or so far below that the budget guards nothing."""
    kind = "a miss" if door == MISS else f"one hot request ({door})"
    for count in budget:
        found, limit = now[count], budget[count]
        what = f"{kind} costs {found:,g} {NAMES[count]}, the budget is {limit:,g}"
        if found > most(count, limit):
            yield f"{what}: {found / limit - 1:+.0%}" if limit else what
        elif count in {*LARGE, TO_BARE} and found < limit * (1 - SLACK):
            yield f"{what}: so much better that it should be recorded"


def most(count: str, limit: float) -> float:
    """Return what a count may be at the most."""
    return limit if count in SMALL else limit * (1 + TOLERANCE)


def growth(now: Mapping[str, int], before: Mapping[str, int]) -> list[str]:
    """Return the modules whose instructions changed most, for people who look for the reason."""
    changes = {name: now.get(name, 0) - before.get(name, 0) for name in {*now, *before}}
    changed = sorted(filter(changes.get, changes), key=lambda name: (-abs(changes[name]), name))
    return [f"{changes[name]:+6d}  {name}" for name in changed[:GROWTH_SHOWN]]


def recorded() -> dict[str, Any]:
    """Return the budget as it was recorded."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def renewed(old: Mapping[str, Any], found: Measured, models: int) -> dict[str, Any]:
    """Return the budget with this version's counts and the ratios, which hold for all, replaced."""
    doors = found.doors(models)
    costs = {
        door: {count: cost[count] for count in (*LARGE, *SMALL)}
        for door, cost in {**doors, MISS: found.costs[MISS]}.items()
    }
    modules = {**found.modules[str(models)], MISS: found.modules[MISS]}
    return {
        **old,
        "to bare": {door: {TO_BARE: cost[TO_BARE]} for door, cost in doors.items()},
        PYTHON: {"costs": costs, "modules": modules},
    }


def main(models: Sequence[int] = (1_000,)) -> None:
    """Measure, record, and say what changed."""
    old = recorded() if FILE.exists() else {}
    new = renewed(old, measure(*models), models[0])
    before = old.get(PYTHON, {}).get("costs", {})
    for door, costs in new[PYTHON]["costs"].items():
        for count, value in costs.items():
            print(f"{door}: {before.get(door, {}).get(count, 'none')} -> {value} {NAMES[count]}")
    FILE.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
