"""The pings of one child, and what is made of one that stays without an answer: when the child is silent for too long.

``process.py`` asks at each look. What computes may keep the interpreter to itself for long, and is left alone for long; what is
stopped, or does nothing at all, will not answer however long one waits. Nothing here sends a ping, or ends a process.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

PROC: Final = Path("/proc")

CALM_LOOKS: Final = 5
"""Where nobody waits for the child, it is pinged with one look in so many: there may be many children."""

STOPPED_S: Final = 2.0
"""A child that was stopped by a signal, and not for a moment, is not waited for longer. One that a debugger has stopped is."""

ASLEEP_SHARE: Final = 1 / 3
"""Of the time that a child has which computes, so much has one that does nothing."""

AT_WORK_SHARE: Final = 0.05
"""A thread that takes less of a processor is at nothing."""

SEARCH_S: Final = 0.0001
SEARCH_SHARE: Final = 0.25
"""Nor is one that goes to sleep again each time after less than this: it looks whether the interpreter is free, every 5 ms, or every
0.3 ms while a load runs."""

_STOPPED: Final = "T"
_AT_NOTHING: Final = "STR"
_RUNNABLE: Final = "R"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STATE, _USER, _SYSTEM = 0, 11, 12  # in a line of /proc/…/stat, behind the name
_SLEEPS: Final = "voluntary_ctxt_switches:"


class Thread(NamedTuple):
    """What the system says of a thread: its state, its processor time, and how often it went to sleep."""

    state: str
    cpu_s: float
    sleeps: int

    def is_at_work(self, before: Thread | None, elapsed_s: float) -> bool:
        """Whether it waits for a disk, or has computed since ``before`` for any time to speak of."""
        if self.state not in _AT_NOTHING:
            return True
        if before is None:
            return False
        cpu_s = self.cpu_s - before.cpu_s
        if cpu_s - 1 / _TICKS <= AT_WORK_SHARE * elapsed_s:
            return False
        return cpu_s > SEARCH_SHARE * elapsed_s or cpu_s > SEARCH_S * (self.sleeps - before.sleeps)


Look: TypeAlias = Mapping[int, Thread]
"""The threads of a process, by their numbers."""


def is_stopped(look: Look) -> bool:
    return all(thread.state == _STOPPED for thread in look.values())


def is_asleep(look: Look) -> bool:
    """Whether none of its threads has or wants a processor. Those that look for the interpreter want one now and then."""
    return all(thread.state != _RUNNABLE for thread in look.values())


def is_at_work(look: Look, before: Look, elapsed_s: float) -> bool:
    """Whether any of its threads is."""
    return any(thread.is_at_work(before.get(number), elapsed_s) for number, thread in look.items())


def look_at(pid: int, *, proc: Path = PROC) -> Look | None:
    """Return what is to be seen of a process; None where the system does not tell, or it is gone."""
    try:
        tasks = list((proc / str(pid) / "task").iterdir())
        return {int(task.name): _thread(task) for task in tasks} or None
    except OSError:  # a thread that ends meanwhile is told so too: it was at work
        return None


def _thread(task: Path) -> Thread:
    words = (task / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    status = (task / "status").read_text(encoding="ascii", errors="replace")
    sleeps = next((int(line.split()[1]) for line in status.splitlines() if line.startswith(_SLEEPS)), 0)
    return Thread(words[_STATE], (int(words[_USER]) + int(words[_SYSTEM])) / _TICKS, sleeps)


class Heartbeat:
    """Owned by the event loop. At each look: ``silence``, then ``due``; ``answered`` with each pong.

    Looks are counted and not timed: where the gateway itself stood still, the child's answer is waiting.
    """

    def __init__(
        self,
        *,
        interval_s: float,
        limit_s: float,
        look: Callable[[], Look | None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """A look is taken every ``interval_s``; ``limit_s`` is how long a child may keep silent that computes."""
        self._limit_s = limit_s
        self._asleep_s = limit_s * ASLEEP_SHARE
        self._most = _looks(limit_s, interval_s)
        self._most_stopped = _looks(min(STOPPED_S, limit_s), interval_s)
        self._most_asleep = _looks(self._asleep_s, interval_s)
        self._look = look
        self._now = now
        self._calm = 0
        self._unanswered: int | None = None
        self._stopped = self._asleep = 0
        self._before: tuple[Look, float, int] | None = None

    @property
    def unanswered(self) -> int:
        """So many looks ago a ping was sent that has no answer yet; 0: there is none."""
        return 0 if self._unanswered is None else self._unanswered + 1

    def due(self, *, is_waited_for: bool) -> bool:
        """Whether a ping is to be sent now."""
        self._calm += 1
        if self._unanswered is not None or (self._calm < CALM_LOOKS and not is_waited_for):
            return False
        self._calm = 0
        self._unanswered = 0
        return True

    def answered(self) -> None:
        self._unanswered = None
        self._stopped = self._asleep = 0
        self._before = None

    def silence(self, done: int) -> str | None:
        """Return why the child is to be ended, as it keeps silent; None if it is not.

        ``done`` is how many calls it has answered: one that answers is not asleep, whatever it does with pings.
        """
        if self._unanswered is None:
            return None
        self._unanswered += 1
        self._see(done)
        if self._stopped >= self._most_stopped:
            return "was stopped by a signal, did not answer pings and was killed"
        if self._asleep >= self._most_asleep:
            return f"did nothing for {self._asleep_s:g} s, did not answer pings and was killed"
        if self._unanswered >= self._most:
            return f"did not answer pings for {self._limit_s:g} s and was killed"
        return None

    def _see(self, done: int) -> None:
        look, now_s = self._look(), self._now()
        if look is None:
            return
        before, self._before = self._before, (look, now_s, done)
        self._stopped = self._stopped + 1 if is_stopped(look) else 0
        if before is None:
            return
        # What waits for a processor all the time is at work on a busy machine: it is never seen asleep.
        if done != before[2] or is_at_work(look, before[0], now_s - before[1]):
            self._asleep = 0
        else:
            self._asleep += is_asleep(look)


def _looks(seconds: float, interval_s: float) -> int:
    return max(1, math.ceil(seconds / interval_s))
