"""How often the models of a host were executed, and how many requests each execution answered: for statistics.

Noted where predictions are made, told when the gateway asks. Nothing is sent with an answer, so a prediction pays for two
additions and no more.
"""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

from hotset.status import Executions


class Told(NamedTuple):
    """What a worker says of one version, since the worker started."""

    name: str
    version: int
    executions: tuple[Executions, ...]


class Executed:
    """The executions of one version in one host. Thread-safe; any number of ``alone`` and ``together``."""

    __slots__ = ("_alone", "_alone_s", "_lock", "_together")

    def __init__(self) -> None:
        self._alone = 0
        self._alone_s = 0.0
        self._together: dict[int, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def alone(self, seconds: float) -> None:
        """One request was answered by an execution of its own.

        Without the lock: where there is one interpreter lock, no other thread comes between the reading and the writing
        of a number, and elsewhere a count may be lost, which is less than what the lock would cost each prediction.
        """
        self._alone += 1
        self._alone_s += seconds

    def together(self, requests: int, seconds: float) -> None:
        """So many were answered by one execution."""
        with self._lock:
            count, total_s = self._together.get(requests, (0, 0.0))
            self._together[requests] = (count + 1, total_s + seconds)

    def told(self) -> tuple[Executions, ...]:
        """Return the counts, in order of size."""
        with self._lock:
            sizes = [(1, self._alone, self._alone_s)]
            sizes += [(size, *found) for size, found in sorted(self._together.items())]
        return tuple(Executions(size, count, seconds) for size, count, seconds in sizes if count)


class ExecutionBook:
    """The executions of all versions that a host has held, kept while they come and go. Thread-safe."""

    MOST: Final = 10_000
    """Versions; past it those go that were not loaded for longest."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Executed] = {}
        self._lock = threading.Lock()

    def of(self, name: str, version: int) -> Executed:
        """Return those of a version that is being loaded."""
        key = (name, version)
        with self._lock:
            executed = self._known.pop(key, None) or Executed()
            if len(self._known) >= self.MOST:
                del self._known[next(iter(self._known))]
            self._known[key] = executed
        return executed

    def told(self, name: str = "") -> list[Told]:
        """Return what there is of the versions of a model, or of all that were executed."""
        with self._lock:
            known = [(*key, executed) for key, executed in self._known.items() if not name or key[0] == name]
        rows = [Told(model, version, executed.told()) for model, version, executed in known]
        return [row for row in rows if row.executions]
