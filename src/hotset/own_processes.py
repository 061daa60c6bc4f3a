"""What the settings say of processes that hold one model alone: which models get one, and what such a process is prepared with.

Called by the composition root, which wires it into the worker pool and the memory tier. It starts none and ends none.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from hotset.config import Settings
from hotset.runtimes.ahead import imports_for_files
from hotset.tiers.books import Capacity
from hotset.tiers.record import DiskRecord
from hotset.workers.forking import ForkServer
from hotset.workers.intact import Files
from hotset.workers.own_children import OwnProcesses
from hotset.workers.placement import OwnRule
from hotset.workers.standard import keeps_memory

OWN_PROCESS_BYTES: Final = 8 << 20
"""What a process that holds one model alone is expected to take beside it; what it really takes is measured."""

_NVIDIA: Final = Path("/dev/nvidiactl")

Estimate: TypeAlias = Callable[[DiskRecord], int]


def own_processes(settings: Settings, children: ForkServer | None) -> OwnProcesses | None:
    """Return which models get a process of their own, and how; None where there can be none."""
    rule = rule_of(settings)
    if rule is None:
        return None
    by_files = settings.predictor is None
    return OwnProcesses(
        rule=rule,
        keeps_memory=_keeps_memory if by_files and _NVIDIA.exists() else None,
        prepare=_nothing if children is None or not by_files else _importer(children),
    )


def rule_of(settings: Settings) -> OwnRule | None:
    """A handler's models have to be where it runs, and threads of the server are no processes."""
    if settings.isolation == "shared" or settings.processes_per_replica == 0 or settings.cortex is not None:
        return None
    return OwnRule(
        everyone=settings.isolation == "own",
        above_bytes=settings.own_process_above,
        most=settings.max_own_processes,
    )


def with_process(settings: Settings, estimate: Estimate) -> Estimate:
    """Return an estimate of models' weights in which what is to live alone weighs its process too."""
    rule = rule_of(settings)
    least_bytes = math.inf if rule is None else rule.least_bytes

    def estimated(record: DiskRecord) -> int:
        bytes_ = estimate(record)
        return bytes_ + OWN_PROCESS_BYTES if bytes_ > least_bytes else bytes_

    return estimated


def within_processes(settings: Settings, capacity: Capacity) -> Capacity:
    """Return a capacity of no more models than there may be processes, where each has one."""
    if settings.isolation != "own":
        return capacity
    most = settings.max_own_processes
    return capacity._replace(models=most if capacity.models is None else min(capacity.models, most))


async def _keeps_memory(path: str, files: Files) -> bool:
    return await asyncio.to_thread(keeps_memory, path, files)


def _importer(children: ForkServer) -> Callable[[Files], None]:
    """Have the next child forked with what a version with these files needs."""
    return lambda files: children.import_ahead(imports_for_files(file.path for file in files).shared)


def _nothing(_files: Files) -> None:
    """A child that runs code of the user's imports what that needs by itself."""
