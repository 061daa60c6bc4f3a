"""The executions of all workers together, asked for when somebody looks at statistics.

Called by the residency for the doors. It keeps what each worker said last, because a worker that ends takes its counts along;
what it had not told by then is lost, and nothing is made up for it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from hotset.errors import WorkerDiedError
from hotset.keys import ModelKey
from hotset.status import Executions
from hotset.workers.base import Worker

ANSWER_S: Final = 1.0
"""A worker that says nothing for so long counts with what it said before."""

MOST: Final = 10_000


class Counting:
    """Owned by the event loop."""

    def __init__(self, workers: Callable[[], Sequence[Worker]], *, limit_s: float = ANSWER_S) -> None:
        """``workers`` gives those that are up."""
        self._workers: Final = workers
        self._limit_s: Final = limit_s
        self._told: dict[Worker, dict[ModelKey, tuple[Executions, ...]]] = {}
        self._ended: dict[ModelKey, tuple[Executions, ...]] = {}

    async def of(self, name: str = "") -> dict[ModelKey, tuple[Executions, ...]]:
        """Return those of the versions of a model, or of all."""
        workers = self._workers()
        await asyncio.gather(*(self._ask(worker, name) for worker in workers))
        for worker in [it for it in self._told if it not in self._workers()]:
            self._keep(self._told.pop(worker))
        found: defaultdict[ModelKey, list[Executions]] = defaultdict(list)
        for told in (self._ended, *self._told.values()):
            for key, executions in told.items():
                if not name or key.name == name:
                    found[key] += executions
        return {key: added(executions) for key, executions in found.items()}

    async def _ask(self, worker: Worker, name: str) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                rows = await worker.executions(name)
        except (TimeoutError, WorkerDiedError):
            return  # what it said before counts
        told = self._told.setdefault(worker, {})
        told.update({ModelKey(row.name, row.version): row.executions for row in rows})

    def _keep(self, told: dict[ModelKey, tuple[Executions, ...]]) -> None:
        for key, executions in told.items():
            known = self._ended.pop(key, ())
            if len(self._ended) >= MOST:
                del self._ended[next(iter(self._ended))]
            self._ended[key] = added((*known, *executions))


def added(executions: Iterable[Executions]) -> tuple[Executions, ...]:
    """Return one entry for each size, in order of size."""
    sizes: dict[int, tuple[int, float]] = {}
    for it in executions:
        count, seconds = sizes.get(it.size, (0, 0.0))
        sizes[it.size] = (count + it.count, seconds + it.seconds)
    return tuple(Executions(size, *found) for size, found in sorted(sizes.items()))
