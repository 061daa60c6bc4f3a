"""A replica with a handler, on fakes: its workers run handlers that ask for models as the body of a request says.

A body is a JSON list of models (``a`` or ``a@1``), asked for in that order. The answer is the versions that were given.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from hotset.errors import HotsetError, UnavailableError
from hotset.keys import ModelRef
from hotset.payload import Encoded
from hotset.runtimes.lending import REQUEST_HEADER
from hotset.testing import FakeStore, FakeWorker, Gate, WorkerScript
from hotset.workers.base import HANDLER, DeathHandler, PredictCall, Want, Word
from residency_bench import Bench

CORTEX_YAML = """
name: ensembles
handler:
  path: handler.py
  models: {dir: "memory://models"}
"""


class FakeHandlerWorker(FakeWorker):
    """Its handlers run ``threads`` at once, and hold a gate's callers up between two models."""

    def __init__(
        self, number: int, on_death: DeathHandler, script: WorkerScript, bench: HandlerBench
    ) -> None:
        super().__init__(number, on_death, script)
        self._bench = bench
        self._threads = asyncio.Semaphore(bench.threads)

    def predict(self, call: PredictCall) -> Awaitable[Encoded]:
        if call.handle != HANDLER:
            return super().predict(call)
        self.queued += 1
        return self._handled(call)

    async def _handled(self, call: PredictCall) -> Encoded:
        try:
            async with self._threads:
                return await self._handle(call)
        finally:
            self.queued -= 1

    async def _handle(self, call: PredictCall) -> Encoded:
        request = int(dict(call.headers)[REQUEST_HEADER])
        body: Any = call.body
        names = json.loads(body)
        self._bench.calls[request] += 1
        handles: list[int] = []
        for name in names:
            model, _, version = name.partition("@")
            word = await self._bench.word_on(Want(request, model, version or "latest"))
            if word is None:
                raise UnavailableError("begun again")
            if isinstance(word, HotsetError):
                raise word
            handles.append(word)
            await self._bench.between.pass_through()
            await asyncio.sleep(self._bench.pause_s)
            self._check_alive()
        given = [self._contents[handle] for handle in handles]  # in this worker, and still there
        return Encoded(json.dumps(given).encode())


class HandlerBench(Bench):
    """``handle`` is what a client does."""

    def __init__(
        self,
        path: Path,
        store: FakeStore | None = None,
        *,
        threads: int = 1,
        pause_s: float = 0.01,
        **settings: Any,
    ) -> None:
        self.threads = threads
        self.pause_s = pause_s
        self.between = Gate()
        self.calls: Counter[int] = Counter()
        """How often the handler was called for each request, by the order in which they came."""
        file = path.with_name("cortex.yaml")
        file.write_text(CORTEX_YAML)
        super().__init__(path, store, cortex=str(file), threads_per_process=threads, **settings)

    def _make_worker(self, number: int, on_death: DeathHandler) -> FakeWorker:
        worker = FakeHandlerWorker(number, on_death, self.script, self)
        self.workers.append(worker)
        return worker

    async def handle(
        self, *models: str, hint: str | None = None, timeout_s: float | None = None
    ) -> list[str]:
        """Have the handler ask for these models; return what it was given."""
        answer = await self.replica.dataplane.infer(
            ModelRef("", "post"),
            protocol="cortex",
            codec="handler",
            body=json.dumps(models).encode(),
            query_string="" if hint is None else f"model={hint}",
            timeout_s=timeout_s,
        )
        given: list[str] = json.loads(bytes(answer.encoded.body))
        return given

    async def word_on(self, want: Want) -> Word:
        """Have a handler's want come as it does from another process: in a step of its own, as its answer."""
        loop = asyncio.get_running_loop()
        word: asyncio.Future[Word] = loop.create_future()
        handlers = self.replica.handlers
        assert handlers is not None

        def give(it: Word) -> None:
            loop.call_soon(word.set_result, it)

        loop.call_soon(handlers.wanted, want, give)
        return await word

    async def want(self, request: int, model: str) -> int | None:
        """Ask for a model on behalf of any request; raise what is said instead."""
        word = await self.word_on(Want(request, model, "latest"))
        if isinstance(word, HotsetError):
            raise word
        return word

    async def settled_flights(self) -> None:
        """Return when no load is on its way."""
        while flights := [flight.task for flight in self.manager.flights.flights() if flight.task]:
            await asyncio.wait(flights)
