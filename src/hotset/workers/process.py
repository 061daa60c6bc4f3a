"""A worker in a child process: the gateway's side of it. Made by the composition root, called by the manager.

It turns calls into frames and frames into answers, and watches over the child's life. It never restarts a child:
it reports the death, and whoever made this worker makes the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Collection, Sequence
from functools import partial
from typing import Any, Final

from hotset.errors import (
    ErrorKind,
    HotsetError,
    InvalidInputError,
    OverloadedError,
    UnavailableError,
    WorkerDiedError,
)
from hotset.payload import Encoded
from hotset.shared.arena import Arena, Segment
from hotset.workers import framing, wire
from hotset.workers.base import (
    DeathHandler,
    LoadReply,
    LoadSpec,
    PredictCall,
    Swapped,
    Want,
    Word,
)
from hotset.workers.board import shared_board
from hotset.workers.channel import Channel
from hotset.workers.deadlines import Deadlines
from hotset.workers.executions import Told
from hotset.workers.failure import pack, unpack
from hotset.workers.heartbeat import Heartbeat, look_at
from hotset.workers.incoming import IncomingStreams
from hotset.workers.payload_memory import PayloadMemory
from hotset.workers.process_options import ProcessOptions
from hotset.workers.spawn import ChildProcess, FreshInterpreters, described_exit
from hotset.workers.stuck import StuckThreads

_GRACE_S: Final = 1.0
"""A child with a closed socket is about to end, and what it wrote before is about to be read; after this, no more."""


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
        self._memory = PayloadMemory(bodies, on_unused=self._answer_unused)
        self._on_death = on_death
        self._numbers = itertools.count(1)
        self._calls = 0
        self._answers: dict[int, asyncio.Future[Encoded]] = {}
        self._stuck = StuckThreads(
            options.threads, limit_s=options.stuck_after_s, on_too_many=self._give_up_stuck
        )
        self._deadlines = Deadlines(on_late=self._stuck.one_is_late)
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
        return len(self._stuck.handles())

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
            self._share()
            await self._control.open()
            await self._data.open()
            self._control.send(self._options.order())
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
            loaded: LoadReply = await reply
        except asyncio.CancelledError:
            # The child is told nothing: what it still loads is unloaded when it reports it, or here if it just has.
            if not reply.cancelled() and reply.done() and reply.exception() is None:
                self._drop_model(spec.handle)
            raise
        return loaded

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
                body, place = self._memory.lend(number, body)
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
        except framing.WireError as error:
            self._memory.returned(number)
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

    def _share(self) -> None:
        """Give the child its board; and where large payloads are shared, the memory of bodies and that of its answers."""
        threads = self._options.threads
        try:
            with shared_board(threads) as (self._stuck.board, file), self._memory.opened() as (size, files):
                self._control.share(wire.Share(size, size, threads), [file, *files])
        except OSError as error:
            raise WorkerDiedError(f"no memory could be shared with the child: {error}") from error

    def _answer_unused(self, number: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, and the child with it
            self._loop.call_soon_threadsafe(self._data.send, wire.Freed(number))

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
            self._stuck.look()

    def _give_up_stuck(self, reason: str, handles: Collection[int]) -> None:
        self.give_up(reason, suspects=handles)

    async def _ended(self, process: ChildProcess) -> str:
        """Reap the child, read what it wrote before its end, and return how it ended."""
        status = await process.reap(_GRACE_S)
        await asyncio.wait((self._control.lost, self._data.lost), timeout=_GRACE_S)
        self._control.close()
        self._data.close()
        running = self._stuck.close()
        self._suspects = self._suspects or running
        self._memory.close()  # not before: it read the bodies to its end
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
        self._stuck.rest()
        self._streams.close(lambda: WorkerDiedError(f"the worker process {reason}"))
        for future in waiting:
            if not future.done():
                future.set_exception(WorkerDiedError(f"the worker process {reason}"))

    def _on_answer(self, message: wire.DataReply, body: bytes | memoryview) -> None:
        if not isinstance(message, wire.Answer):
            self._on_less_than_an_answer(message, bytes(body))
            return
        if message.place is not None:
            body = self._memory.answer(message.number, message.place)
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
                self._memory.returned(number)
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
