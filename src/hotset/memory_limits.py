"""How much memory the system lets this process have, and how much of it is taken: control groups, version 1 and 2.

The composition root asks at start, the meter of memory pressure while the server runs. Files of ``/proc`` and of the mounted
hierarchies are read, nothing is written. On a system without them the machine's memory is the limit.

What is taken is anonymous memory and shared memory. A group's ``memory.current`` also counts the page cache, which the
system drops when it needs room: a replica that has copied its models from the store would look full for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group that accounts memory. Reads its files anew each time; what cannot be read is None or 0."""

    directory: Path
    is_unified: bool

    def limit_bytes(self) -> int | None:
        """Return the limit that is set here; of version 2 also the one above which the group is slowed down."""
        names = ("memory.max", "memory.high") if self.is_unified else ("memory.limit_in_bytes",)
        texts = (_read(self.directory / name).strip() for name in names)
        return min((int(text) for text in texts if text.isdecimal()), default=None)

    def taken_bytes(self) -> int:
        """Return the anonymous and shared memory of the group and of those below it."""
        names = {"anon", "shmem"} if self.is_unified else {"total_rss", "total_shmem"}
        pairs = (line.split() for line in _read(self.directory / "memory.stat").splitlines())
        return sum(int(pair[1]) for pair in pairs if pair[0] in names)

    def stall_share(self) -> float | None:
        """Return the share of the last ten seconds in which something here waited for memory; None if that is not known."""
        return _stall_share(self.directory / "memory.pressure") if self.is_unified else None


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The limit in force, what sets it, and the group that does, if one does."""

    bytes: int
    source: str
    group: MemoryGroup | None = None


def system_limit(proc: Path = PROC, *, machine_bytes: int | None = None) -> MemoryLimit:
    """Return the smallest limit of this process's control groups, up to the root; or the machine's memory, if that is less."""
    total: int = psutil.virtual_memory().total if machine_bytes is None else machine_bytes
    smallest = MemoryLimit(total, "the machine")
    for group in memory_groups(proc):
        limit_bytes = group.limit_bytes()
        if limit_bytes is not None and limit_bytes < smallest.bytes:
            smallest = MemoryLimit(limit_bytes, f"control group {group.directory}", group)
    return smallest


def chosen_limit(given_bytes: int | None, system: MemoryLimit) -> MemoryLimit:
    """Return the limit in force where a setting may ask for less than the system allows."""
    if given_bytes is None or given_bytes >= system.bytes:
        return system
    return MemoryLimit(given_bytes, "memory_limit")


def memory_groups(proc: Path = PROC) -> Iterator[MemoryGroup]:
    """Yield the group that this process is in and those above it, as far as they are mounted here."""
    found = _own_group(proc)
    if found is None:
        return
    group, root = found
    directory = group.directory
    while True:
        yield MemoryGroup(directory, group.is_unified)
        if directory == root or root not in directory.parents:
            return
        directory = directory.parent


def machine_stall_share(proc: Path = PROC) -> float | None:
    """Return the share of the last ten seconds in which something waited for memory; None where the system does not tell."""
    return _stall_share(proc / "pressure" / "memory")


def _own_group(proc: Path) -> tuple[MemoryGroup, Path] | None:
    """Return this process's group and where its hierarchy is mounted. Version 1 counts where it has the memory controller."""
    paths = {}
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    own = next((path for names, path in paths.items() if "memory" in names.split(",")), None)
    is_unified = own is None
    path = own if own is not None else paths.get("", "")
    for mounted_root, mount_point in _mounts(proc, is_unified=is_unified):
        inside = path.removeprefix(mounted_root.rstrip("/")) if path.startswith(mounted_root) else ""
        directory = mount_point / inside.lstrip("/")
        # In a namespace of its own a process is told paths that are not below its mount: then the mount is its group.
        return MemoryGroup(directory if directory.is_dir() else mount_point, is_unified), mount_point
    return None


def _mounts(proc: Path, *, is_unified: bool) -> Iterator[tuple[str, Path]]:
    """Yield what of the hierarchy is mounted, and where."""
    for line in _read(proc / "self" / "mountinfo").splitlines():
        about, _, kind = line.partition(" - ")
        fields, (type_, *rest) = about.split(), kind.split()
        options = rest[-1].split(",") if rest else []
        if type_ == "cgroup2" if is_unified else type_ == "cgroup" and "memory" in options:
            yield fields[3], Path(fields[4])


def _stall_share(file: Path) -> float | None:
    for line in _read(file).splitlines():
        kind, *pairs = line.split()
        if kind == "some":
            values = dict(pair.split("=", 1) for pair in pairs)
            return float(values["avg10"]) / 100
    return None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (
        OSError
    ):  # not there, or not ours to read; of the pressure also where the kernel was told not to measure it
        return ""
