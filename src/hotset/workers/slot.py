"""The place of one shared worker: which worker is in it now, and what that carries.

The pool keeps the books of loads and unloads in it; the supervisor puts workers in and takes dead ones out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hotset.keys import ModelKey
from hotset.status import WorkerStatus
from hotset.workers.base import Worker
from hotset.workers.placement import CallRate, WorkerLoad

STEADY_S: Final = 30.0
"""Who has lived for so long did not die of its start."""


@dataclass(slots=True)
class Slot:
    """Owned by the event loop. ``come_up`` and ``die`` in turn; the books are those of the worker that is in it.

    What ends after its worker has died is told with that worker, and changes nothing.
    """

    number: int
    worker: Worker | None = None
    started_s: float = 0.0
    deaths_in_a_row: int = 0
    restarts: int = 0
    bytes: int = 0
    models: int = 0
    loading: int = 0
    loaded: int = 0
    rate: CallRate = field(default_factory=CallRate)
    keys: dict[int, ModelKey] = field(default_factory=dict)
    """What is in the worker, or on its way there, by handle."""

    def come_up(self, worker: Worker, now_s: float) -> None:
        """A new worker is in this place, with nothing in it."""
        self.worker, self.started_s = worker, now_s
        self.bytes = self.models = self.loading = self.loaded = 0
        self.rate = CallRate()
        self.keys = {}

    def die(self, now_s: float) -> None:
        """Its worker is dead. What was in it is known until the next one comes."""
        self.worker = None
        self.restarts += 1
        self.bytes = self.models = 0
        self.deaths_in_a_row = 0 if now_s - self.started_s >= STEADY_S else self.deaths_in_a_row + 1

    def versions(self, handles: Iterable[int]) -> list[ModelKey]:
        """Return what is under these handles. A handler of the user's has a handle too, and is no model."""
        return sorted({self.keys[handle] for handle in handles if handle in self.keys})

    def begin_load(self, handle: int, key: ModelKey, expected_bytes: int) -> None:
        self.models += 1
        self.loading += 1
        self.bytes += expected_bytes
        self.keys[handle] = key

    def finish_load(self, worker: Worker, expected_bytes: int, weight: int) -> None:
        """What was expected to weigh so much is in ``worker`` and weighs ``weight``."""
        if self.worker is worker:
            self.loading -= 1
            self.loaded += 1
            self.bytes += weight - expected_bytes

    def fail_load(self, worker: Worker, expected_bytes: int) -> None:
        if self.worker is worker:
            self.loading -= 1
        self.take_off(worker, expected_bytes)

    def swap_in(self, weight: int) -> None:
        """A model is in the worker from now on, without a load that anybody waits for."""
        self.models += 1
        self.loaded += 1
        self.bytes += weight

    def take_off(self, worker: Worker, weight: int) -> None:
        """A model has left ``worker``."""
        if self.worker is worker:
            self.models -= 1
            self.bytes -= weight

    def load(self, worker: Worker, now_s: float) -> WorkerLoad:
        """Return what ``worker`` carries, which is in it."""
        # The first call after a load has waited for it anyway.
        calls_per_s = self.rate.at(now_s, worker.calls - self.loaded)
        return WorkerLoad(worker.id, self.bytes, self.models, worker.queued, self.loading, calls_per_s)

    def status(self) -> WorkerStatus:
        worker = self.worker
        return WorkerStatus(
            id=self.number,
            alive=worker is not None,
            pid=worker.pid if worker is not None else None,
            models=self.models,
            queued=worker.queued if worker is not None else 0,
            restarts=self.restarts,
            stuck=worker.stuck if worker is not None else 0,
        )
