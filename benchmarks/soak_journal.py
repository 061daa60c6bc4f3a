"""What the soak's predictor and its server wrote down, read as it grows: which models are in memory, and who loaded what.

``soak.py`` feeds it. It judges every load, not a sample of them: the journal's lines are in the order of what happened.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

LEAVING_S: Final = 10.0
"""What leaves memory is gone by then: all predictions of the soak end within a second."""

Instance = tuple[int, str]
"""A loaded model: its process, and its number there."""


class Tail:
    """Reads the lines that were added since it read last. Owned by one task."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> Iterator[str]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(end)
        yield from whole.decode("utf-8", "replace").splitlines()


def lives(pid: int) -> bool:
    """Whether a process still holds what it has loaded."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(slots=True)
class Journal:
    """Folds loads and unloads of one server. ``broken`` has what it must not have done, in sentences.

    ``most`` is how many models its memory may hold. A process that has ended holds none: it is asked only where that matters.
    """

    most: int
    lives: Callable[[int], bool] = lives
    loads: Counter[str] = field(default_factory=Counter)
    """By name."""
    unloads: int = 0
    peak: int = 0
    doubles: set[str] = field(default_factory=set)
    """``name@version`` of what was in memory twice at once, and stayed: right only for copies."""
    broken: list[str] = field(default_factory=list)
    _live: dict[Instance, str] = field(default_factory=dict)
    _double_since_s: dict[str, float] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)

    def note(self, line: str) -> None:
        verb, pid, number, *words = line.split()
        if int(pid) in self._ended:
            return
        match verb:
            case "load":
                self._loaded((int(pid), number), *words)
            case _:
                self._unloaded((int(pid), number))

    def look(self, now_s: float) -> None:
        """Look for what is there twice. For a moment it may be: loaded anew in one process while it leaves another."""
        keys = Counter(self._live.values())
        if keys.total() > len(keys):
            self._forget_the_dead()
            keys = Counter(self._live.values())
        since_s = self._double_since_s
        self._double_since_s = {key: since_s.get(key, now_s) for key, count in keys.items() if count > 1}
        self.doubles |= {
            key.partition(" ")[0] for key, since in self._double_since_s.items() if now_s - since > LEAVING_S
        }

    def _loaded(self, instance: Instance, name: str, version: str, revision: str) -> None:
        self.loads[name] += 1
        self._live[instance] = f"{name}@{version} revision {revision}"
        if len(self._live) > self.most:
            self._forget_the_dead()
        self.peak = max(self.peak, len(self._live))
        if len(self._live) > self.most:
            held = sorted(self._live.values())
            self.broken.append(f"{len(held)} models in memory, where {self.most} may be: {held}")

    def _unloaded(self, instance: Instance) -> None:
        self.unloads += 1
        if self._live.pop(instance, None) is None:
            self.broken.append(f"process {instance[0]} unloaded its model {instance[1]}, which was not there")

    def _forget_the_dead(self) -> None:
        dead = {pid for pid, _ in self._live if not self.lives(pid)}
        self._ended |= dead
        self._live = {instance: key for instance, key in self._live.items() if instance[0] not in dead}


@dataclass(slots=True)
class ServerLog:
    """Counts what matters of one server's log."""

    fetched: Counter[str] = field(default_factory=Counter)
    """By name of model."""
    copied: set[str] = field(default_factory=set)
    deaths: int = 0

    def note(self, line: str) -> None:
        if not line.startswith("{"):
            return
        event = json.loads(line)
        match event.get("event"):
            case "fetched" if "model" in event:
                self.fetched[event["model"]] += 1
            case "copied" if "model" in event:
                self.copied.add(f"{event['model']}@{event['version']}")
            case "worker_died":
                self.deaths += 1


def loaded_twice(journal: Journal, log: ServerLog) -> list[str]:
    """Return what is wrong with a server's loads, once it has ended: two at once of what was not copied."""
    return [f"{key} was in memory twice, and is no copy" for key in sorted(journal.doubles - log.copied)]


def crowd_was_served_once(name: str, journal: Journal, log: ServerLog, *, deaths_before: int) -> list[str]:
    """Return what is wrong after many asked at once for a model that was nowhere: it is fetched once and loaded once.

    A process that ended meanwhile may have had it.
    """
    broken = []
    if log.fetched[name] > 1:
        broken.append(f"{name}, asked by many at once, was fetched {log.fetched[name]} times")
    if not 1 <= journal.loads[name] <= 1 + log.deaths - deaths_before:
        broken.append(f"{name}, asked by many at once, was loaded {journal.loads[name]} times")
    return broken
