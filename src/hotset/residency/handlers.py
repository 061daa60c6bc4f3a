"""All requests to a handler: their order, who runs, and what the workers' handlers ask in the middle of them.

``handler_request`` is one of them. The data plane comes here through ``handler_front``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from hotset.clock import Clock
from hotset.errors import ErrorKind, HotsetError, InvalidInputError, UnavailableError
from hotset.keys import ModelRef, parse_ref
from hotset.residency.handler_request import HandlerRequest
from hotset.residency.manager import Manager
from hotset.residency.places import Places
from hotset.residency.seniority import Seniority
from hotset.workers.base import Want, Word, Worker

_logger: Final = logging.getLogger(__name__)


class Candidate(NamedTuple):
    """A worker as the choice sees it: calls ``queued``, and how many of the wanted models are ``there``."""

    id: int
    queued: int
    there: int


def best_worker(candidates: Sequence[Candidate], *, threads: int) -> int:
    """Return where a request goes: of those with a thread to spare, where most of its models are; else the shortest queue.

    Raises:
        ValueError: there is no candidate.
    """
    return min(
        (max(0, worker.queued - threads + 1), -worker.there, worker.queued, worker.id)
        for worker in candidates
    )[-1]


class Handlers:
    """Owned by the event loop. ``request`` for each; ``wanted`` for what its handler asks; ``close`` at the end."""

    def __init__(
        self,
        manager: Manager,
        places: Places,
        *,
        clock: Clock,
        name: str,
        only: str | None = None,
        begins_again: bool = True,
        threads: int = 1,
    ) -> None:
        """``name`` stands for the model where a handler asked for none; ``only`` is the one model that there is.

        Without ``begins_again`` a request that has to give way is answered 503 instead.
        """
        self.manager = manager
        self.places = places
        self.seniority = Seniority()
        self.clock = clock
        self.name = name
        self.begins_again = begins_again
        self.running: dict[int, HandlerRequest] = {}
        self.changes = 0
        self._only = only
        self._threads = threads
        self._numbers = itertools.count(1)
        self._change = asyncio.Event()
        self._usual: Sequence[ModelRef] = ()
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self, verb: str) -> HandlerRequest:
        """Return a request that came now."""
        return HandlerRequest(self, next(self._numbers), verb)

    def wanted(self, want: Want, give: Callable[[Word], None]) -> None:
        """A handler asks for a model: ``give`` gets the word on it, once."""
        request = self.running.get(want.request)
        if request is None:
            give(UnavailableError("the request has ended", kind=ErrorKind.DEADLINE))
        else:
            request.wanted(want, give)

    async def close(self) -> None:
        """Wait no more for anything on behalf of requests."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.places.close()

    # For requests

    def changed(self) -> None:
        self.changes += 1
        self._change.set()

    async def change(self, limit_s: float) -> None:
        self._change.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._change.wait()

    def hint(self, query_string: str) -> ModelRef | None:
        if not query_string:
            return None if self._only is None else ModelRef(self._only)
        query = dict(parse_qsl(query_string))
        name = self._only or query.get("model")
        if name is None:
            return None
        try:
            return parse_ref(name, query.get("version"))
        except InvalidInputError:
            return None  # whatever it is that the handler makes of it

    def worker_for(self, refs: Sequence[ModelRef]) -> Worker | None:
        workers = {worker.id: worker for worker in self.manager.pool.workers}
        if not workers:
            return None
        there = [place for ref in refs for place in self._workers_with(ref)]
        candidates = [Candidate(it.id, it.queued, there.count(it.id)) for it in workers.values()]
        return workers[best_worker(candidates, threads=self._threads)]

    def _workers_with(self, ref: ModelRef) -> Sequence[int]:
        entry = self.manager.memory.find(ref)
        return () if entry is None else [it.value.resident.worker.id for it in (entry, *entry.copies)]

    def usual(self, hint: ModelRef | None) -> Sequence[ModelRef]:
        return self._usual if hint is None else (hint,)

    def ended(self, request: HandlerRequest) -> None:
        if request.hint is None:
            self._usual = request.asked

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, HotsetError):  # of those its request was told
            _logger.error("a fault of hotset itself", exc_info=error)
