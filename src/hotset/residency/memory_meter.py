"""What measures real memory: the control group that sets the limit, or the sum of our processes. The guard reads it.

A seam: tests script it. A reading may take milliseconds, so it is made in a thread, and it never raises: what cannot be read is
taken for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import psutil

from hotset.memory_limits import PROC, MemoryGroup, MemoryLimit, machine_stall_share
from hotset.residency.watermarks import MemoryReading


class MemoryMeter(Protocol):
    """Called by the guard alone, one call at a time."""

    def read(self) -> MemoryReading:
        """Look now. May block for some milliseconds; must not raise."""
        ...


class GroupMeter:
    """The memory of the control group whose limit is in force, whoever takes it. 60 microseconds a reading."""

    def __init__(self, group: MemoryGroup, limit_bytes: int) -> None:
        self._group = group
        self._limit_bytes = limit_bytes

    def read(self) -> MemoryReading:
        stall = self._group.stall_share()
        if stall is None:  # version 1 does not tell; the machine may
            stall = machine_stall_share()
        return MemoryReading(self._group.taken_bytes(), self._limit_bytes, stall)


class ProcessMeter:
    """The memory of our own processes, where no control group sets the limit.

    Counted at first for each process by itself, which is cheap, and counts what children share with the fork server several
    times over. Only where that looks like much is what is shared told apart: the system walks all pages for it.
    """

    def __init__(
        self, pids: Callable[[], Iterable[int]], limit_bytes: int, *, much: float, proc: Path = PROC
    ) -> None:
        """``much`` is the share of the limit from which on it has to be right."""
        self._pids = pids
        self._limit_bytes = limit_bytes
        self._much = much
        self._proc = proc

    def read(self) -> MemoryReading:
        pids = tuple(self._pids())
        taken = sum(self._resident(pid) for pid in pids)
        if taken > self._limit_bytes * self._much:
            taken = sum(self._own(pid) for pid in pids)
        return MemoryReading(taken, self._limit_bytes, machine_stall_share(self._proc))

    def _resident(self, pid: int) -> int:
        fields = _fields(self._proc / str(pid) / "status")
        if "RssAnon" in fields:
            return fields["RssAnon"] + fields.get("RssShmem", 0)
        try:
            resident: int = psutil.Process(pid).memory_info().rss  # a system without these files
        except psutil.Error:
            return 0
        return resident

    def _own(self, pid: int) -> int:
        fields = _fields(self._proc / str(pid) / "smaps_rollup")
        if "Pss_Anon" in fields:
            return fields["Pss_Anon"] + fields.get("Pss_Shmem", 0)
        return self._resident(pid)


def meter_of(limit: MemoryLimit, pids: Callable[[], Iterable[int]], *, much: float) -> MemoryMeter:
    """Return the meter that fits what sets the limit."""
    if limit.group is not None:
        return GroupMeter(limit.group, limit.bytes)
    return ProcessMeter(pids, limit.bytes, much=much)


def _fields(file: Path) -> dict[str, int]:
    """Return the sizes that a file of ``/proc`` tells, in bytes; none of a process that has ended."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {field[0].rstrip(":"): int(field[-2]) * 1024 for field in fields}
