"""What processes take that is their own, as the kernel counts it: what tests of memory compare."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def own_bytes(pids: Iterable[int]) -> int:
    """Return the anonymous and the shared memory of processes together; what some of them share counts once.

    Without files: of a library that other programs have mapped too, only a part would count, for as long as they run.
    """
    return sum(_own_bytes(pid) for pid in pids)


def _own_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    own = (line.split()[1] for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return sum(map(int, own)) * 1024
