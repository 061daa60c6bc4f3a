"""A worker in a child process: the gateway's side of it. Made by the composition root, called by the manager.

It turns calls into frames and frames into answers, and watches over the child's life. It never restarts a child:
it reports the death, and whoever made this worker makes the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from hotset.body_limits import LIMITS
from hotset.codecs.compression import MOST_BYTES
from hotset.devices import Bound
from hotset.errors import (
    ErrorKind,
    HotsetError,
    InvalidInputError,
    OverloadedError,
    UnavailableError,
    WorkerDiedError,
)
from hotset.logs import LogFormat
from hotset.payload import Encoded
from hotset.shared.arena import Arena, Place, Segment, create_file
from hotset.shared.mapped import MappedArena
from hotset.workers import wire
from hotset.workers.base import (
    DeathHandler,
    LoadReply,
    LoadSpec,
    PredictCall,
    Swapped,
    Want,
    WantHandler,
    Word,
    no_models,
)
from hotset.workers.board import Board, shared_board, stuck_since, too_many_stuck
from hotset.workers.channel import Channel
from hotset.workers.deadlines import Deadlines
from hotset.workers.executions import Told
from hotset.workers.failure import pack, unpack
from hotset.workers.heartbeat import Heartbeat, look_at
from hotset.workers.incoming import IncomingStreams
from hotset.workers.kit import STANDARD_KIT
from hotset.workers.spawn import CHILD_COMMAND, ChildProcess, ChildSource, FreshInterpreters, described_exit

_TICK_S: Final = 0.01

_GRACE_S: Final = 1.0
"""A child with a closed socket is about to end, and what it wrote before is about to be read; after this, no more."""


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """How a child is made and watched. ``kit`` names what it loads with (see ``kit.py``).

    ``ping_timeout_s`` is long because native code may keep the interpreter to itself while it loads; what does nothing has
    less of it (see ``heartbeat.py``). ``children`` None means: fresh interpreters, from ``command`` and ``environment``, which
    None means: the gateway's own. A predict thread that is at the same for ``stuck_after_s`` counts as one that never comes back.
    """

    threads: int = 1
    parallel_loads: int = 2
    max_batch: int = 64
    max_body_bytes: int = MOST_BYTES
    max_json_depth: int = LIMITS.json_depth
    max_elements: int = LIMITS.elements
    predictor: str | None = None
    predictor_config: Mapping[str, Any] = field(default_factory=dict)
    kit: str = STANDARD_KIT
    log_level: str = "info"
    log_format: LogFormat = "console"
    start_timeout_s: float = 60.0
    close_timeout_s: float = 5.0
    ping_interval_s: float = 1.0
    ping_timeout_s: float = 30.0
    stuck_after_s: float = math.inf
    max_queued: int = 10_000
    command: tuple[str, ...] = CHILD_COMMAND
    environment: Mapping[str, str] | None = None
    children: ChildSource | None = None
    on_want: WantHandler = no_models
    device: Bound | None = None


class ProcessWorker:
    """Implements ``Worker`` over one child.

    Owned by the event loop. Legal order as in ``Worker``; one that died or failed to start is not started again.
    """

    def __init__(
        self,
        worker_id: int,
        *,
        options: ProcessOptions,
        on_death: DeathHandler,
        bodies: Arena | None = None,
    ) -> None:
        """``bodies`` is where the bodies of calls may be, and its size that of the child's own arena, for answers."""
        self._id = worker_id
        self._options = options
        self._children = options.children or FreshInterpreters(options.command, options.environment)
        self._bodies = bodies
        self._answer_memory: MappedArena | None = None
        self._lent: dict[int, Segment] = {}
        self._on_death = on_death
        self._numbers = itertools.count(1)
        self._calls = 0
        self._answers: dict[int, asyncio.Future[Encoded]] = {}
        self._deadlines = Deadlines(on_late=self._one_is_late)
        self._board: Board | None = None
        self._look: asyncio.TimerHandle | None = None
        self._suspects: frozenset[int] = frozenset()
        self._streams = IncomingStreams(taken=self._tell_taken, stop=self._tell_stop)
        self._given_up: str | None = None
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._swaps: dict[int, asyncio.Future[Swapped]] = {}
        self._gone: str | None = "was not started"
        self._is_ending = False
        self._process: ChildProcess | None = None
        self._watch: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def id(self) -> int:
        return self._id

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def queued(self) -> int:
        """Predictions sent and not answered, those included that nobody waits for any more."""
        return len(self._answers)

    @property
    def calls(self) -> int:
        return self._calls

    @property
    def suspects(self) -> frozenset[int]:
        return self._suspects

    @property
    def stuck(self) -> int:
        return len(self._stuck_handles())

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        try:
            self._process = process = await self._children.start_child()
        except OSError as error:
            raise WorkerDiedError(f"the system could not start a child process: {error}") from error
        self._heartbeat = Heartbeat(
            interval_s=self._options.ping_interval_s,
            limit_s=self._options.ping_timeout_s,
            look=partial(look_at, process.pid),
        )
        self._control = Channel(process.control, decode=wire.decode_control_reply, on_message=self._on_reply)
        self._data = Channel(process.data, decode=wire.decode_data_reply, on_message=self._on_answer)
        try:
            self._share(self._bodies)
            await self._control.open()
            await self._data.open()
            self._control.send(self._configuration())
            await self._wait_ready(process)
        except BaseException:
            process.kill()
            await self._ended(process)
            raise
        self._gone = None
        self.import_ahead(self._children.modules)
        self._watch = self._loop.create_task(self._watch_child(process), name=f"hotset-worker-{self._id}")

    async def load(self, spec: LoadSpec) -> LoadReply:
        if self._is_ending and self._watch is not None:
            await asyncio.wait((self._watch,))
            raise UnavailableError(
                f"the worker process {self._gone} before it was given {spec.name}", kind=ErrorKind.WORKER_DIED
            )
        number, reply = self._expect_reply()
        self._control.send(wire.Load(number, spec))
        try:
            return await reply  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            # The child is told nothing: what it still loads is unloaded when it reports it, or here if it just has.
            if not reply.cancelled() and reply.done() and reply.exception() is None:
                self._drop_model(spec.handle)
            raise

    def unload(self, handle: int) -> Awaitable[None]:
        try:
            number, reply = self._expect_reply()
        except WorkerDiedError as error:
            reply = asyncio.get_running_loop().create_future()
            reply.set_exception(error)
        else:
            self._control.send(wire.Unload(number, handle))
        return reply

    def trim(self) -> None:
        if self._gone is None:
            self._control.send(wire.Trim())

    def swap(self, spec: LoadSpec) -> Awaitable[Swapped]:
        swapped: asyncio.Future[Swapped] = asyncio.get_running_loop().create_future()
        number = next(self._numbers)
        if self._is_ending:
            self._swaps[number] = swapped  # it fails with all others
        elif self._gone is not None:
            swapped.set_exception(WorkerDiedError(f"the worker process {self._gone}"))
        else:
            self._swaps[number] = swapped
            self._data.send(wire.Swap(number, spec))
        return swapped

    def import_ahead(self, modules: Sequence[str]) -> None:
        if modules and self._gone is None:
            self._control.send(wire.ImportAhead(tuple(modules)))

    def executions(self, name: str) -> Awaitable[Sequence[Told]]:
        number, reply = self._expect_reply()
        self._control.send(wire.Count(number, name))
        return reply

    def predict(self, call: PredictCall) -> Awaitable[Encoded]:
        answer: asyncio.Future[Encoded] = asyncio.get_running_loop().create_future()
        number = next(self._numbers)
        self._calls += 1
        if self._is_ending:
            # It fails with all others, in the step in which the death is told: a retry must not find this worker again.
            self._answers[number] = answer
            return answer
        try:
            self._check_predict()
            body = call.body
            place = None
            if isinstance(body, Segment):
                body, place = self._lend(number, body)
            self._data.send(
                wire.Predict(
                    number,
                    call.handle,
                    call.codec,
                    call.content_type,
                    call.query_string,
                    call.headers,
                    call.deadline_s,
                    place,
                ),
                body,
            )
        except wire.WireError as error:
            self._lent.pop(number, None)
            answer.set_exception(InvalidInputError(f"the request is too large for a worker: {error}"))
        except HotsetError as error:
            answer.set_exception(error)
        else:
            self._answers[number] = answer
            self._deadlines.add(number, call.deadline_s, answer)
        return answer

    def give_up(self, reason: str, *, suspects: Collection[int] = ()) -> None:
        if self._process is not None and self._gone is None and self._given_up is None:
            self._given_up = reason
            self._suspects = frozenset(suspects)
            self._process.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        if self._process is None:
            return
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(self._process))
        await asyncio.shield(self._closing)

    def _share(self, bodies: Arena | None) -> None:
        """Give the child its board; the arena of bodies, if there is one, and then one of its own for its answers."""
        threads = self._options.threads
        try:
            with shared_board(threads) as (self._board, file):
                if bodies is None:
                    self._control.share(wire.Share(0, 0, threads), [file])
                else:
                    self._share_arenas(bodies, file)
        except OSError as error:
            raise WorkerDiedError(f"no memory could be shared with the child: {error}") from error

    def _share_arenas(self, bodies: Arena, board: int) -> None:
        answers = create_file(bodies.size)
        try:
            self._answer_memory = MappedArena(answers, bodies.size, on_unused=self._answer_unused)
            order = wire.Share(bodies.size, bodies.size, self._options.threads)
            self._control.share(order, [board, bodies.file, answers])
        finally:
            os.close(answers)

    def _lend(self, number: int, body: Segment) -> tuple[bytes, Place | None]:
        """Return what to send for a large body; the child has the segment until it says that it has not."""
        if self._bodies is None:
            return body.tobytes(), None
        self._lent[number] = body
        return b"", body.place

    def _answer_unused(self, number: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, and the child with it
            self._loop.call_soon_threadsafe(self._data.send, wire.Freed(number))

    def _configuration(self) -> wire.Configure:
        options = self._options
        return wire.Configure(
            kit=options.kit,
            predictor=options.predictor,
            config=dict(options.predictor_config),
            threads=options.threads,
            parallel_loads=options.parallel_loads,
            max_batch=options.max_batch,
            max_body_bytes=options.max_body_bytes,
            max_json_depth=options.max_json_depth,
            max_elements=options.max_elements,
            log_level=options.log_level,
            log_format=options.log_format,
            device=options.device,
        )

    async def _wait_ready(self, process: ChildProcess) -> None:
        limit_s = self._options.start_timeout_s
        signs = (self._ready, self._control.lost, self._data.lost, process.exited)
        await asyncio.wait(signs, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not any(sign.done() for sign in signs):
            raise WorkerDiedError(f"the child was not ready within {limit_s:g} s")
        if not self._ready.done():
            reason = await self._ended(process)
            if not self._ready.done():
                raise WorkerDiedError(f"the child ended before it was ready: it {reason}")
        self._ready.result()

    async def _watch_child(self, process: ChildProcess) -> None:
        silence = await self._first_sign(process)
        self._gone = silence or "is ending"
        self._is_ending = True
        if silence is not None:
            process.kill()
        ended = await self._ended(process)
        self._gone = silence or (f"was killed, as {self._given_up}" if self._given_up else ended)
        self._is_ending = False
        self._fail_all(self._gone)
        self._on_death(self._gone)

    async def _first_sign(self, process: ChildProcess) -> str | None:
        """Return when the child ends or ended, with words only if it has to be killed for its silence."""
        interval_s = self._options.ping_interval_s
        signs = (self._control.lost, self._data.lost, process.exited)
        while True:
            await asyncio.wait(signs, timeout=interval_s, return_when=asyncio.FIRST_COMPLETED)
            if any(sign.done() for sign in signs):
                return None
            silence = self._heartbeat.silence(self._calls - len(self._answers))
            if silence is not None:
                return silence
            if self._heartbeat.due(is_waited_for=bool(self._answers or self._replies or self._swaps)):
                self._control.send(wire.Ping(next(self._numbers)))
            self._look_for_stuck()

    def _one_is_late(self) -> None:
        """A call went past its deadline: when its thread is late enough to count as stuck, see whether it is."""
        if self._look is None and self._board is not None:
            since_s = min((at.since_s for at in self._board.running() if not at.is_load), default=math.inf)
            if since_s + self._options.stuck_after_s < math.inf:
                left_s = since_s + self._options.stuck_after_s - time.monotonic()
                self._look = self._loop.call_later(max(0.0, left_s) + _TICK_S, self._look_for_stuck)

    def _look_for_stuck(self) -> None:
        """Give the child up if too few of its predict threads are left."""
        self._forget_look()
        stuck, threads = self._stuck_handles(), self._options.threads
        if len(stuck) >= too_many_stuck(threads):
            self.give_up(
                f"{len(stuck)} of its {threads} predict threads did not come back within"
                f" {self._options.stuck_after_s:g} s",
                suspects=stuck,
            )

    def _stuck_handles(self) -> Sequence[int]:
        if self._board is None:
            return ()
        return stuck_since(self._board.running(), time.monotonic() - self._options.stuck_after_s)

    def _forget_look(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    async def _ended(self, process: ChildProcess) -> str:
        """Reap the child, read what it wrote before its end, and return how it ended."""
        status = await process.reap(_GRACE_S)
        await asyncio.wait((self._control.lost, self._data.lost), timeout=_GRACE_S)
        self._control.close()
        self._data.close()
        if not self._suspects and self._board is not None:
            self._suspects = frozenset(at.handle for at in self._board.running())
        self._board = None
        self._lent.clear()  # not before: it read them to its end
        self._answer_memory = None
        return described_exit(status)

    async def _close(self, process: ChildProcess) -> None:
        self._gone = "was closed"
        self._is_ending = False
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait((self._watch,))
        self._fail_all("was closed")
        if not process.exited.done():
            limit_s = self._options.close_timeout_s
            self._control.send(wire.Close(limit_s))
            await process.reap(limit_s + _GRACE_S)
        await self._ended(process)

    def _check_alive(self) -> None:
        if self._gone is not None:
            raise WorkerDiedError(f"the worker process {self._gone}")

    def _check_predict(self) -> None:
        self._check_alive()
        if len(self._answers) >= self._options.max_queued:
            raise OverloadedError(f"too many calls wait for worker {self._id}: {len(self._answers)}")

    def _expect_reply(self) -> tuple[int, asyncio.Future[Any]]:
        self._check_alive()
        number = next(self._numbers)
        reply = self._replies[number] = self._loop.create_future()
        return number, reply

    def _drop_model(self, handle: int) -> None:
        if self._gone is None:
            self._control.send(wire.Unload(next(self._numbers), handle))

    def _fail_all(self, reason: str) -> None:
        waiting: list[asyncio.Future[Any]] = [
            *self._swaps.values(),
            *self._answers.values(),
            *self._replies.values(),
        ]
        self._swaps.clear()
        self._answers.clear()
        self._replies.clear()
        self._deadlines.close()
        self._forget_look()
        self._streams.close(lambda: WorkerDiedError(f"the worker process {reason}"))
        for future in waiting:
            if not future.done():
                future.set_exception(WorkerDiedError(f"the worker process {reason}"))

    def _on_answer(self, message: wire.DataReply, body: bytes | memoryview) -> None:
        if not isinstance(message, wire.Answer):
            self._on_less_than_an_answer(message, bytes(body))
            return
        if message.place is not None:
            body = self._shared_answer(message.number, message.place)
        answer = self._answers.pop(message.number, None)
        self._deadlines.drop(message.number)
        if answer is not None and not answer.done():
            answer.set_result(Encoded(body, message.content_type, message.headers))

    def _on_less_than_an_answer(
        self,
        message: wire.Freed | wire.Begun | wire.Part | wire.End | wire.Failed | wire.Swapped,
        body: bytes,
    ) -> None:
        match message:
            case wire.Swapped(number, is_loaded, are_gone, is_light):
                swapped = self._swaps.pop(number, None)
                if swapped is not None and not swapped.done():
                    swapped.set_result(Swapped(is_loaded, are_gone, is_light))
            case wire.Freed(number):
                self._lent.pop(number, None)
            case wire.Part(number):
                self._streams.part(number, body)
            case wire.End(number):
                self._streams.end(number)
            case wire.Begun(number, content_type, headers):
                self._deadlines.drop(number)
                first = Encoded(body, content_type, headers)
                self._streams.begin(number, first, self._answers.pop(number, None))
            case wire.Failed(number, failure):
                self._deadlines.drop(number)
                error = unpack(failure)
                answer = self._answers.pop(number, None)
                if answer is not None and not answer.done():
                    answer.set_exception(error)
                elif answer is None:
                    self._streams.end(number, error)

    def _tell_taken(self, number: int, count: int) -> None:
        if self._gone is None:
            self._control.send(wire.Taken(number, count))

    def _tell_stop(self, number: int) -> None:
        if self._gone is None:
            self._control.send(wire.Stop(number))

    def _shared_answer(self, number: int, place: Place) -> memoryview:
        if self._answer_memory is None:
            raise wire.WireError("an answer in shared memory, where none is shared")
        try:
            return self._answer_memory.view(number, place)
        except ValueError as error:
            raise wire.WireError(f"an answer that is nowhere: {error}") from error

    def _on_reply(self, message: wire.ControlReply, _payload: bytes) -> None:
        match message:
            case wire.Pong():
                self._heartbeat.answered()
            case wire.Loaded(number, handle, reply):
                if not self._settle(number, reply):
                    self._drop_model(handle)
            case wire.Unloaded(number):
                self._settle(number, None)
            case wire.Counted(number, rows):
                self._settle(number, rows)
            case wire.Failed(number, failure):
                self._settle(number, unpack(failure))
            case wire.Want(number, request, name, version):
                self._options.on_want(Want(request, name, version), partial(self._give_word, number))
            case wire.Ready():
                self._answer_ready(None)
            case wire.Refused(failure):
                self._answer_ready(unpack(failure))

    def _give_word(self, number: int, word: Word) -> None:
        if isinstance(word, int):
            self._control.send(wire.Given(number, word))
        else:
            self._control.send(wire.Denied(number, None if word is None else pack(word)))

    def _settle(self, number: int, outcome: LoadReply | HotsetError | tuple[Told, ...] | None) -> bool:
        """Give the outcome of a load, an unload or a question to whoever waits for it; False if nobody does."""
        reply = self._replies.pop(number, None)
        if reply is None or reply.done():
            return False
        if isinstance(outcome, HotsetError):
            reply.set_exception(outcome)
        else:
            reply.set_result(outcome)
        return True

    def _answer_ready(self, error: HotsetError | None) -> None:
        if self._ready.done():
            return
        if error is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(error)
