"""What a test may leave behind: nothing. Told from what the process has before and after, and from what registers here.

``conftest.py`` asks before and after every test. Looking costs a fraction of a millisecond; only where something is
left over are garbage collected and a short grace given to what is just ending.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import uvloop

if TYPE_CHECKING:
    from hotset.residency.manager import Manager

GRACE_S: Final = 3.0
NOT_OURS: Final = ("/dev/", "/proc/", "/sys/", "/usr/", "/tmp/#", "anon_inode:")
"""What libraries open once and keep, such as their own event loops, and the logs of the servers below."""
SERVERS: Final = ("rclone", "moto_server")
"""Children that serve all tests of a run, from the first that wants them on."""
_LISTENING: Final = "0A"

uvloop.new_event_loop().close()  # it keeps a pipe from its first loop on

managers: Final[WeakSet[Manager]] = WeakSet()
"""Every residency manager that a bench has made; its invariants are checked after the test."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What the process has at a moment, as lines that can be shown."""

    threads: frozenset[str]
    children: frozenset[str]
    files: frozenset[str]

    def minus(self, before: Belongings) -> list[str]:
        """Return what is there now and was not before."""
        return sorted(
            (self.threads - before.threads) | (self.children - before.children) | (self.files - before.files)
        )


def belongings() -> Belongings:
    return Belongings(frozenset(_threads()), frozenset(_children()), frozenset(_files()))


def left_over(before: Belongings) -> list[str]:
    """Return what was not there before the test and does not go away by itself."""
    left = belongings().minus(before)
    if not left:
        return left
    gc.collect()
    end_s = time.monotonic() + GRACE_S
    while left and time.monotonic() < end_s:
        time.sleep(0.01)
        left = _not_kept(belongings().minus(before))
    return left


def _not_kept(left: list[str]) -> list[str]:
    """Take off what libraries keep for later (pools of connections, a database) and the servers of the run."""
    pooled = _pooled_connections()
    return [
        line
        for line in left
        if line.rpartition(" ")[2] not in pooled
        and ".onnxruntime" not in line
        and not (line.startswith("child") and _is_server(line.rpartition(" ")[2]))
    ]


def _pooled_connections() -> set[str]:
    """Return the sockets of this process that are TCP connections: all but those that listen."""
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
    ]
    return {f"socket:[{row[9]}]" for row in rows if row[3] != _LISTENING}


def _is_server(pid: str) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False  # it has just ended, or is a zombie that nobody has reaped
    return any(name in command for name in SERVERS)


def _threads() -> list[str]:
    return [
        f"thread {thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if thread.name.startswith("hotset")
    ]


def _children() -> list[str]:
    """Return the children of this process, zombies included, without a look at every process of the machine."""
    found: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += (f"child process {pid}" for pid in (task / "children").read_text().split())
        except OSError:  # a thread that has just ended
            continue
    return found


def _files() -> list[str]:
    found: list[str] = []
    kept = _of_the_current_loop()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:  # the one that the listing itself uses
            continue
        if not target.startswith(NOT_OURS) and link.name not in kept:
            found.append(f"open file {link.name}: {target}")
    return found


def _of_the_current_loop() -> set[str]:
    """The runner of asynchronous tests makes the thread's next loop when it ends the last one."""
    loop = getattr(asyncio.get_event_loop_policy()._local, "_loop", None)  # type: ignore[attr-defined]
    pair = (getattr(loop, "_ssock", None), getattr(loop, "_csock", None))
    return {str(end.fileno()) for end in pair if end is not None}
