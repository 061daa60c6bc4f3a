"""The host: what really holds loaded models, decodes, predicts and encodes, in either kind of worker.

Called by the predict threads (``predict``) and the loader threads (all else) of a child or a thread worker. It
starts no threads, knows no wire and no deadline, and never decides what to load or unload.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any, Final

from hotset.codecs.compression import MOST_BYTES, coding_of, packed, unpacked, wished_coding
from hotset.errors import ErrorKind, HotsetError, PredictFailedError, UnavailableError
from hotset.payload import Encoded
from hotset.runtimes.base import Servable
from hotset.workers.base import HANDLER, LoadReply, LoadSpec, PredictCall, Swapped
from hotset.workers.executions import ExecutionBook
from hotset.workers.heap import HeapMeter
from hotset.workers.held import SMALL_WEIGHT, Held, Proofs
from hotset.workers.kit import HANDLER_SPEC, Kit
from hotset.workers.loader import Loader
from hotset.workers.loopthread import LoopThread
from hotset.workers.question import Outcome, Question, answer_alone, answer_together, guarded
from hotset.workers.reclaim import Reclaimer
from hotset.workers.unfinished import Unfinished

_logger: Final = logging.getLogger(__name__)


class Host:
    """Holds models under their handles.

    Thread-safe. Legal order for one handle: ``load``; any ``predict``; ``retire``; when that calls back, ``release``;
    then ``reclaim``, once for any number of released models.
    """

    def __init__(
        self,
        kit: Kit,
        *,
        meter: HeapMeter | None = None,
        reclaimer: Reclaimer | None = None,
        max_batch: int = 1,
        max_body_bytes: int = MOST_BYTES,
    ) -> None:
        """``max_batch`` calls (and rows) at most are predicted at once; 1 turns batching off.

        ``max_body_bytes`` is what a compressed body may have once it is unpacked.
        """
        self._kit = kit
        self._meter = meter or HeapMeter()
        self._reclaimer = reclaimer or Reclaimer()
        self._max_batch = max_batch
        self._max_body_bytes = max_body_bytes
        self._lock = threading.Lock()
        self._held: dict[int, Held] = {}
        self._proofs = Proofs()
        self.loop: Final = LoopThread()
        """Where coroutines of the user's run."""
        if kit.handler is not None:
            self._held[HANDLER] = Held(HANDLER_SPEC, kit.handler, most_rows=max_batch, lock=self._lock)
        if kit.asking is not None:
            kit.asking.shelf = self
        self._loader = Loader(kit, self._meter, self.loop)
        self.executions: Final = ExecutionBook()

    def handles(self) -> list[int]:
        """Return the handles of the models held now."""
        with self._lock:
            return list(self._held)

    def holds(self, handle: int) -> bool:
        """Whether a model is held under this handle, and was not retired."""
        return handle in self._held

    def pace_s(self, handle: int) -> float:
        """Return how long a prediction of this model takes of late, or 0 where nothing is known."""
        held = self._held.get(handle)
        return held.pace_s if held is not None else 0.0

    def note_pace(self, handle: int, seconds: float) -> None:
        """Take the time of one prediction into the moving mean."""
        held = self._held.get(handle)
        if held is not None:
            held.pace_s += (seconds - held.pace_s) * 0.25

    def note_execution(self, handle: int, seconds: float) -> None:
        """One request was answered by a prediction of its own, which took so long."""
        held = self._held.get(handle)
        if held is not None:
            held.pace_s += (seconds - held.pace_s) * 0.25
            held.executed.alone(seconds)

    def is_light(self, spec: LoadSpec) -> bool:
        """Whether a load costs less than to hand it to another thread: it was loaded here before, in no time."""
        return self._loader.is_light(spec)

    def load(self, spec: LoadSpec) -> LoadReply:
        """Load a model and measure what it weighs.

        Raises:
            LoadFailedError: whatever the runtime or the user's code raised; or the files are damaged.
        """
        loaded = self._loader.load(spec)
        servable, weight, is_estimate = loaded.weighed
        held = Held(
            spec,
            servable,
            weight,
            options=loaded.choice.options,
            most_rows=self._max_batch,
            lock=self._lock,
            executed=self.executions.of(spec.name, spec.version),
        )
        self._proofs.recall(held)
        is_light = self._loader.learn(spec, loaded, is_plain=held.is_plain)
        with self._lock:
            self._held[spec.handle] = held
        wants: frozenset[str] = getattr(servable, "wants", frozenset())
        return LoadReply(loaded.choice.runtime.name, weight, loaded.signature, wants, is_estimate, is_light)

    def swap(self, spec: LoadSpec) -> Swapped:
        """Unload the idle models that ``spec`` comes after and load it, if all of that takes no time; else it is left undone."""
        if not self.is_light(spec):
            return Swapped(is_loaded=False, are_gone=False)
        leaving = self._retire_idle(spec.after)
        if leaving is None:
            return Swapped(is_loaded=False, are_gone=False)
        for held in leaving:
            self.release(held)
        try:
            reply = self.load(spec)
        except HotsetError:
            return Swapped(
                is_loaded=False, are_gone=True
            )  # a thread has the time to find out whose fault it is
        return Swapped(is_loaded=True, are_gone=True, is_light=reply.is_light)

    def _retire_idle(self, handles: Sequence[int]) -> list[Held] | None:
        """Take models out that no prediction uses; None, and nothing is changed, if one does or has code of its own."""
        with self._lock:
            leaving = [held for handle in handles if (held := self._held.get(handle)) is not None]
            if any(held.users or not held.is_plain for held in leaving):
                return None
            for handle in handles:
                self._held.pop(handle, None)
        return leaving

    def batch(self, handle: int) -> int:
        """Return how many calls of this model may be predicted at once."""
        held = self._held.get(handle)
        return held.most_rows if held is not None and held.batches else 1

    def predict(self, call: PredictCall) -> Encoded:
        """Decode, predict, encode.

        Raises:
            InvalidInputError: the body or its tensors do not fit.
            PredictFailedError: the model's code raised; the traceback is in the log.
            UnavailableError: no such handle, or out of memory.
        """
        outcome = self.predict_all([call])[0]
        if isinstance(outcome, Unfinished):
            self.finished(outcome)
            raise PredictFailedError("the answer is not whole; ask for it with predict_all")
        if isinstance(outcome, HotsetError):
            raise outcome
        return outcome

    def predict_all(self, calls: Sequence[PredictCall]) -> list[Outcome]:
        """Answer calls of one model, in order; as few predictions as can be, and each call's fault is its own."""
        try:
            held = self._enter(calls[0].handle)
        except UnavailableError as error:
            return [error] * len(calls)
        try:
            if len(calls) > 1 and held.batches and held.most_rows > 1:
                return self._together(held, calls)
            return [guarded(held, self._alone, held, call) for call in calls]
        finally:
            self._leave(held)

    def _alone(self, held: Held, call: PredictCall) -> Encoded | Unfinished:
        if call.headers:
            return self._with_headers(held, self._unpacked(call))
        return answer_alone(held, call, self._kit.codecs(call.codec))

    def _with_headers(self, held: Held, call: PredictCall) -> Encoded | Unfinished:
        answer = answer_alone(held, call, self._kit.codecs(call.codec))
        return self.packed(call, answer) if isinstance(answer, Encoded) else answer

    def _together(self, held: Held, calls: Sequence[PredictCall]) -> list[Outcome]:
        """Compressed bodies are not among them: each may unpack to the largest that there can be."""
        plain = [not call.headers or coding_of(call.headers) is None for call in calls]
        questions = [Question(held, call, self._kit.codecs(call.codec)) for call in compress(calls, plain)]
        outcomes = iter(answer_together(held, questions, most_rows=held.most_rows))
        return [
            self._packed_outcome(call, next(outcomes)) if is_plain else self._alone_and_noted(held, call)
            for call, is_plain in zip(calls, plain, strict=True)
        ]

    def _alone_and_noted(self, held: Held, call: PredictCall) -> Outcome:
        began_s = time.monotonic()
        outcome = guarded(held, self._alone, held, call)
        if isinstance(outcome, Encoded):
            held.executed.alone(time.monotonic() - began_s)
        return outcome

    def _unpacked(self, call: PredictCall) -> PredictCall:
        coding = coding_of(call.headers)
        if coding is None:
            return call
        body: Any = call.body  # a segment only in the gateway
        return replace(call, body=unpacked(body, coding, limit_bytes=self._max_body_bytes))

    def _packed_outcome(self, call: PredictCall, outcome: Outcome) -> Outcome:
        return self.packed(call, outcome) if call.headers and isinstance(outcome, Encoded) else outcome

    def packed(self, call: PredictCall, answer: Encoded) -> Encoded:
        """Return an answer as its client wants it compressed."""
        coding = wished_coding(call.headers)
        return answer if coding is None else packed(answer, coding)

    def borrow(self, handle: int) -> Held:
        """Use a model beside a prediction, for a handler; it stays until ``give_back``.

        Raises:
            UnavailableError: no such handle.
        """
        return self._enter(handle)

    def give_back(self, held: Held) -> None:
        self._leave(held)

    def _enter(self, handle: int) -> Held:
        with self._lock:
            held = self._held.get(handle)
            if held is None:
                raise UnavailableError(
                    f"the model was unloaded before this call; handle: {handle}", kind=ErrorKind.NOT_LOADED
                )
            held.users += 1
            return held

    def finished(self, work: Unfinished) -> None:
        """What was left unfinished is answered, and uses its model no more. Once for each."""
        self._leave(work.held)

    def _leave(self, held: Held) -> None:
        with self._lock:
            held.users -= 1
            idle = held.idle if held.users == 0 else None
        if idle is not None:
            idle(held)

    def retire(self, handle: int, idle: Callable[[Held | None], None]) -> None:
        """Refuse further predictions, and call ``idle`` once when none is left that uses the model.

        That is at once, with None for a handle that is not held, or later in the thread of the last prediction:
        a client that gave up may have left one behind. ``idle`` must be quick and hand ``release`` to a loader
        thread; nobody waits here, so a prediction that never ends keeps its own model and no thread beside its own.
        """
        with self._lock:
            held = self._held.pop(handle, None)
            if held is not None and held.users:
                held.idle = idle
                return
        idle(held)

    def release(self, held: Held) -> None:
        """Call the model's own hook and drop every reference to it. A hook that raises changes nothing else."""
        servable = held.tensors or held.payload
        self._proofs.note(held)
        held.tensors = held.payload = None
        if servable is None:
            return
        if held.weight < SMALL_WEIGHT:
            self._close(held, servable)
            del servable
            self._reclaimer.released(held.weight, came_back=None)
            return
        with self._meter.leaving():
            in_use = self._meter.in_use()
            self._close(held, servable)
            del servable
            came_back = None if self._meter.is_measuring else in_use - self._meter.in_use()
        self._reclaimer.released(held.weight, came_back=came_back)

    def _close(self, held: Held, servable: Servable) -> None:
        try:
            servable.close()
        except BaseException:
            _logger.exception("unload of %s raised; its memory is given back all the same", held)

    @property
    def owes(self) -> bool:
        """Whether released memory is to be reclaimed once it is quiet."""
        return self._reclaimer.owes

    @property
    def released_s(self) -> float:
        """When a model was released last, by whom ever."""
        return self._reclaimer.released_s

    def reclaim(self, *, quiet: bool) -> None:
        """Collect cycles and give free memory back to the system, as far as that is worth its cost now."""
        with self._meter.leaving():
            self._reclaimer.reclaim(quiet=quiet)

    def trim(self) -> None:
        """Give back to the system all that is free, whatever it costs."""
        with self._meter.leaving():
            self._reclaimer.trim()
