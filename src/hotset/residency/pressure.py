"""How much memory and disk there is to use, and who goes where it was not enough. Pure, but for a look at the disk.

What the memory tier takes of the limit, and what the disk tier takes of the free space, is asked for once at start, by the
composition root, where a setting leaves the size open. The manager asks who goes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from hotset.units import format_bytes

T = TypeVar("T")
MIB: Final = 1 << 20
GATEWAY_BYTES: Final = 96 * MIB
"""A server without models has 45 MiB; a catalog of 100,000 of them and some thousand connections take as much again."""
FORK_SERVER_BYTES: Final = 128 * MIB
"""The interpreter, and scikit-learn and ONNX Runtime: what children share."""
CHILD_BYTES: Final = 96 * MIB
"""Of each child its own: 50 MiB when it has loaded a few models, 90 when a full collection has walked what it shared."""
FRAMEWORKS_BYTES: Final = 128 * MIB
"""The same frameworks in a server that has no children."""
PREDICTIONS_SHARE: Final = 0.1
"""Of the limit, for what predictions allocate and for large bodies on their way."""
LEAST_SHARE: Final = 0.25
"""Of the limit, for models, however little is left: else a small container would serve nothing."""
DISK_SHARE: Final = 0.8
"""Of the space that is free or already ours, for the disk tier."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """What a memory limit is spent on. ``models`` is the memory tier's capacity where the settings leave it open.

    ``margin`` lies above the high watermark. ``is_short`` says that the parts add up to more than there is.
    """

    limit: int
    margin: int
    gateway: int
    children: int
    predictions: int
    models: int

    @property
    def is_short(self) -> bool:
        return self.margin + self.gateway + self.children + self.predictions + self.models > self.limit

    def __str__(self) -> str:
        return (
            f"{format_bytes(self.models)} for models of {format_bytes(self.limit)};"
            f" the rest is for the gateway ({format_bytes(self.gateway)}), the children ({format_bytes(self.children)}),"
            f" predictions ({format_bytes(self.predictions)}) and above memory_high ({format_bytes(self.margin)})"
        )


def memory_budget(limit_bytes: int, *, children: int, high: float) -> MemoryBudget:
    """Return how a limit is spent by a gateway with so many children; none: models live in the gateway.

    What models may take ends where the high watermark begins: a full tier is no reason to evict.
    """
    margin = round(limit_bytes * (1 - high))
    base = FORK_SERVER_BYTES + children * CHILD_BYTES if children else FRAMEWORKS_BYTES
    predictions = round(limit_bytes * PREDICTIONS_SHARE)
    left = limit_bytes - margin - GATEWAY_BYTES - base - predictions
    models = max(left, round(limit_bytes * LEAST_SHARE))
    return MemoryBudget(limit_bytes, margin, GATEWAY_BYTES, base, predictions, models)


def default_disk_bytes(directory: Path, used_bytes: int) -> int:
    """Return the disk tier's capacity where the settings leave it open; ``used_bytes`` of it are there already."""
    return int((shutil.disk_usage(directory).free + used_bytes) * DISK_SHARE)


def to_relieve(idle: Sequence[T]) -> Sequence[T]:
    """Return who is unloaded after a prediction ran out of memory, of those that lie idle, the oldest first.

    The half: how much the prediction lacks is not known, and it is tried again but once.
    """
    return idle[: (len(idle) + 1) // 2]


def to_shed(idle: Iterable[tuple[T, int]], wanted_bytes: int) -> list[T]:
    """Return who is unloaded so that ``wanted_bytes`` come back, of those that lie idle, each with its weight, the oldest first."""
    chosen, found = [], 0
    for one, weight in idle:
        if found >= wanted_bytes:
            break
        chosen.append(one)
        found += weight
    return chosen
