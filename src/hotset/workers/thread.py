"""A worker inside the gateway's process: the same host and the same threads as in a child, without a wire.

For embedding, and for a replica inside another engine. What it cannot give: a model that crashes takes the gateway
with it, and decoding and predicting share the gateway's interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from hotset.codecs.compression import MOST_BYTES
from hotset.errors import ConfigError, HotsetError, OverloadedError, WorkerDiedError
from hotset.payload import Encoded
from hotset.runtimes.reason import reason_of
from hotset.shared.arena import Segment
from hotset.workers.answers import Answered, Begun, End, Part
from hotset.workers.asking import Asking
from hotset.workers.backlog import Job
from hotset.workers.base import (
    DeathHandler,
    LoadReply,
    LoadSpec,
    PredictCall,
    Swapped,
    Want,
    WantHandler,
    no_models,
)
from hotset.workers.board import Board, stuck_since
from hotset.workers.deadlines import Deadlines
from hotset.workers.executions import Told
from hotset.workers.host import Host
from hotset.workers.imports import imports
from hotset.workers.incoming import IncomingStreams
from hotset.workers.kit import Kit
from hotset.workers.loading import LoadThreads
from hotset.workers.predicting import PredictThreads

_logger: Final = logging.getLogger(__name__)


class QueueMailbox:
    """The predict threads' mailbox within one process: jobs come through a queue, answers go to the event loop."""

    def __init__(self, on_answers: Callable[[list[Answered]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_answers = on_answers
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.swaps: list[tuple[int, LoadSpec]] = []
        """None ever come."""
        self._ended = False

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    def end(self) -> None:
        """Wake the threads and let them end; jobs not taken are dropped."""
        self._ended = True
        self._jobs.put(None)

    def hold(self, number: int, swapped: Swapped) -> None:
        raise AssertionError(f"nothing is swapped here: {number}, {swapped}")

    def receive(self, *, wait: bool) -> list[Job] | None:
        jobs: list[Job] = []
        with contextlib.suppress(queue.Empty):
            while not self._ended:
                job = self._jobs.get(block=wait and not jobs)
                if job is not None:
                    jobs.append(job)
        return None if self._ended else jobs

    def send(self, answers: list[Answered]) -> None:
        answers = [_kept(answer) for answer in answers]
        with contextlib.suppress(RuntimeError):  # the loop was closed before the worker was: nobody waits
            self._loop.call_soon_threadsafe(self._on_answers, answers)


def _kept(answer: Answered) -> Answered:
    """Return an answer that stays as it is, whatever the model writes next to the memory that it gave."""
    outcome = answer.outcome
    if type(outcome) is Encoded and type(outcome.body) is memoryview:
        return Answered(answer.number, replace(outcome, body=bytes(outcome.body)))
    return answer


class ThreadWorker:
    """Implements ``Worker`` in this process. ``on_death`` hears of it only where one of its own threads crashes.

    Owned by the event loop. Legal order as in ``Worker``.
    """

    def __init__(
        self,
        worker_id: int,
        *,
        kit: Callable[[], Kit],
        on_death: DeathHandler,
        threads: int = 1,
        parallel_loads: int = 2,
        max_batch: int = 64,
        max_body_bytes: int = MOST_BYTES,
        close_timeout_s: float = 5.0,
        max_queued: int = 10_000,
        stuck_after_s: float = math.inf,
        on_want: WantHandler = no_models,
    ) -> None:
        """``kit`` is called once, in a thread, by ``start``: it may import the user's code."""
        self._id = worker_id
        self._kit = kit
        self._on_death = on_death
        self._threads = threads
        self._parallel_loads = parallel_loads
        self._max_batch = max_batch
        self._max_body_bytes = max_body_bytes
        self._close_timeout_s = close_timeout_s
        self._max_queued = max_queued
        self._stuck_after_s = stuck_after_s
        self._board = Board.of_this_process(threads)
        self._on_want = on_want
        self._asking: Asking | None = None
        self._numbers = itertools.count(1)
        self._calls = 0
        self._answers: dict[int, asyncio.Future[Encoded]] = {}
        self._deadlines = Deadlines()
        self._streams = IncomingStreams(taken=self._tell_taken, stop=self._tell_stop)
        self._replies: set[asyncio.Future[Any]] = set()
        self._gone: str | None = "was not started"
        self._started = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def id(self) -> int:
        return self._id

    @property
    def pid(self) -> int | None:
        return None

    @property
    def queued(self) -> int:
        """Predictions sent and not answered, those included that nobody waits for any more."""
        return len(self._answers)

    @property
    def calls(self) -> int:
        return self._calls

    @property
    def suspects(self) -> frozenset[int]:
        return frozenset()

    @property
    def stuck(self) -> int:
        return len(stuck_since(self._board.running(), time.monotonic() - self._stuck_after_s))

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        kit = await self._kit_from_thread()
        self._host = host = Host(kit, max_batch=self._max_batch, max_body_bytes=self._max_body_bytes)
        if kit.asking is not None:
            self._asking = kit.asking
            kit.asking.bind(partial(self._ask, kit.asking))
        self._mailbox = QueueMailbox(self._on_answers)
        self._loading = LoadThreads(host, parallel_loads=self._parallel_loads)
        self._predicting = PredictThreads(
            host,
            self._mailbox,
            threads=self._threads,
            on_crash=lambda: self._tell(self._die),
            board=self._board,
        )
        self._loading.start()
        self._predicting.start()
        self._started = True
        self._gone = None

    def _ask(self, asking: Asking, number: int, want: Want) -> None:
        self._tell(self._on_want, want, partial(asking.answered, number))

    async def _kit_from_thread(self) -> Kit:
        """In a daemon thread and not in the loop's pool, whose end is waited for: an import of the user's may hang."""
        built: asyncio.Future[Kit] = self._loop.create_future()

        def build() -> None:
            try:
                outcome: Kit | HotsetError = self._built_kit()
            except HotsetError as error:
                outcome = error
            self._tell(_settle, built, outcome)

        threading.Thread(target=build, name="hotset-kit", daemon=True).start()
        return await built

    def _built_kit(self) -> Kit:
        try:
            return self._kit()
        except HotsetError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(reason_of(error)) from error

    async def load(self, spec: LoadSpec) -> LoadReply:
        reply: asyncio.Future[LoadReply] = self._expect_reply()
        self._loading.load(spec, lambda outcome: self._tell(self._on_loaded, reply, spec.handle, outcome))
        try:
            return await reply
        except asyncio.CancelledError:
            # What is still being loaded is unloaded when it is reported, or here if it just was.
            if not reply.cancelled() and reply.done() and reply.exception() is None:
                self._drop_model(spec.handle)
            raise
        finally:
            self._replies.discard(reply)

    async def unload(self, handle: int) -> None:
        reply: asyncio.Future[None] = self._expect_reply()
        self._loading.unload(handle, lambda: self._tell(_settle, reply, None))
        try:
            await reply
        finally:
            self._replies.discard(reply)

    def trim(self) -> None:
        self._loading.trim()

    async def swap(self, spec: LoadSpec) -> Swapped:
        """Refuse: what is light is not apart from what is not, in the gateway's own process."""
        del spec
        return Swapped(is_loaded=False, are_gone=False)

    def import_ahead(self, modules: Sequence[str]) -> None:
        imports.start(modules)

    async def executions(self, name: str) -> Sequence[Told]:
        if self._gone is not None:
            raise WorkerDiedError(f"the worker {self._gone}")
        return self._host.executions.told(name)

    def predict(self, call: PredictCall) -> Awaitable[Encoded]:
        answer: asyncio.Future[Encoded] = asyncio.get_running_loop().create_future()
        if self._gone is not None:
            answer.set_exception(WorkerDiedError(f"the worker {self._gone}"))
        elif len(self._answers) >= self._max_queued:
            answer.set_exception(
                OverloadedError(f"too many calls wait for worker {self._id}: {len(self._answers)}")
            )
        else:
            number = next(self._numbers)
            self._calls += 1
            if type(call.body) is Segment:
                call.body = call.body.tobytes()
            self._answers[number] = answer
            self._deadlines.add(number, call.deadline_s, answer)
            self._mailbox.put(Job(number, call))
        return answer

    def give_up(self, reason: str, *, suspects: Collection[int] = ()) -> None:
        """A thread cannot be ended from outside: whatever hangs in it hangs on."""
        del suspects  # they are told with the end
        _logger.error("%s; a restart of this process is the only remedy", reason)

    def kill(self) -> None:
        """A thread cannot be ended from outside; it ends with this process."""

    async def close(self) -> None:
        if not self._started:
            return
        if self._closing is None:
            self._gone = "was closed"
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._fail_all("was closed")
        self._mailbox.end()
        if self._asking is not None:
            self._asking.close()
        self._predicting.finisher.close(0.0)  # their models can be unloaded then
        await asyncio.to_thread(self._loading.close, self._close_timeout_s)
        await asyncio.to_thread(self._predicting.join, self._close_timeout_s)

    def _die(self) -> None:
        if self._gone is None:
            self._gone = "had a fault of its own and stopped"
            self._fail_all(self._gone)
            self._on_death(self._gone)

    def _fail_all(self, reason: str) -> None:
        waiting = [*self._answers.values(), *self._replies]
        self._answers.clear()
        self._deadlines.close()
        self._streams.close(lambda: WorkerDiedError(f"the worker {reason}"))
        for future in waiting:
            if not future.done():
                future.set_exception(WorkerDiedError(f"the worker {reason}"))

    def _expect_reply(self) -> asyncio.Future[Any]:
        if self._gone is not None:
            raise WorkerDiedError(f"the worker {self._gone}")
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._replies.add(reply)
        return reply

    def _tell(self, callback: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed before the worker was: nobody waits
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _on_loaded(
        self, reply: asyncio.Future[LoadReply], handle: int, outcome: LoadReply | HotsetError
    ) -> None:
        if not _settle(reply, outcome) and isinstance(outcome, LoadReply):
            self._drop_model(handle)

    def _drop_model(self, handle: int) -> None:
        if self._gone is None:
            self._loading.unload(handle, lambda: None)

    def _on_answers(self, answers: list[Answered]) -> None:
        for number, outcome in answers:
            if isinstance(outcome, Part):
                self._streams.part(number, outcome.body)
            elif isinstance(outcome, End):
                self._streams.end(number)
            else:
                self._on_answer(number, outcome)

    def _on_answer(self, number: int, outcome: Encoded | HotsetError | Begun) -> None:
        answer = self._answers.pop(number, None)
        self._deadlines.drop(number)
        if isinstance(outcome, Begun):
            self._streams.begin(number, outcome.first, answer)
        elif answer is not None:
            _settle(answer, outcome)
        elif isinstance(outcome, HotsetError):
            self._streams.end(number, outcome)

    def _tell_taken(self, number: int, count: int) -> None:
        if self._started:
            self._predicting.finisher.taken(number, count)

    def _tell_stop(self, number: int) -> None:
        if self._started:
            self._predicting.finisher.stop(number)


def _settle(future: asyncio.Future[Any], outcome: Any) -> bool:
    """Give an outcome to whoever waits for it; False if nobody does."""
    if future.done():
        return False
    if isinstance(outcome, HotsetError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    return True
