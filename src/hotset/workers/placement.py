"""Where a model goes: a pure choice between workers. Called by the manager before a load; it never acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """One worker as the choice sees it: ``bytes`` held or reserved, ``models`` held, calls ``queued``."""

    id: int
    bytes: int
    models: int
    queued: int


def place(candidates: Sequence[WorkerLoad], *, need_bytes: int = 0) -> int:
    """Return the id of the worker with most room and, among those with about as much, the shortest queue.

    "About as much" is within ``need_bytes``, the weight of the model to place: a smaller difference would only turn
    around once it is placed, so it must not send the model behind a long queue.

    Raises:
        ValueError: there is no candidate.
    """
    if not candidates:
        raise ValueError("no worker to place a model on")
    limit = min(worker.bytes for worker in candidates) + need_bytes
    roomy = (worker for worker in candidates if worker.bytes <= limit)
    return min(roomy, key=lambda worker: (worker.queued, worker.bytes, worker.models, worker.id)).id
