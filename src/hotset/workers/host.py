"""The host: what really holds loaded models, decodes, predicts and encodes, in either kind of worker.

Called by the predict threads (``predict``) and the loader threads (all else) of a child or a thread worker. It
starts no threads, knows no wire and no deadline, and never decides what to load or unload.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any, Final

from hotset.codecs.compression import MOST_BYTES, coding_of, packed, unpacked, wished_coding
from hotset.errors import ErrorKind, HotsetError, LoadFailedError, PredictFailedError, UnavailableError
from hotset.payload import Encoded
from hotset.runtimes.base import Recipe, Servable
from hotset.runtimes.gcpause import collector_pause
from hotset.runtimes.modelyaml import NO_FILE
from hotset.runtimes.own_code import shared_modules
from hotset.runtimes.reason import load_failure
from hotset.workers.base import HANDLER, LoadReply, LoadSpec, PredictCall, Swapped
from hotset.workers.executions import ExecutionBook
from hotset.workers.heap import HeapMeter
from hotset.workers.held import SMALL_WEIGHT, Held, Proofs
from hotset.workers.intact import intact_files
from hotset.workers.kit import HANDLER_SPEC, Choice, Kit
from hotset.workers.light import Known, LightVersions, Stopwatch
from hotset.workers.loopthread import LoopThread
from hotset.workers.question import Outcome, Question, answer_alone, answer_together, guarded
from hotset.workers.reclaim import Reclaimer, set_aside
from hotset.workers.samples import warm_up
from hotset.workers.unfinished import Unfinished

_logger: Final = logging.getLogger(__name__)

LEAST_WEIGHT: Final = 4096
"""Bytes: no model weighs less, so that a count of tiny ones still counts."""


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
        self._light = LightVersions()
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
        return self._light.get(spec) is not None

    def load(self, spec: LoadSpec) -> LoadReply:
        """Load a model and measure what it weighs.

        Raises:
            LoadFailedError: whatever the runtime or the user's code raised; or the files are damaged.
        """
        watch = Stopwatch()
        try:
            known = self._light.get(spec)
            choice, path = self._chosen(spec, known)
            is_estimate = False
            if spec.weight is not None and spec.weight < SMALL_WEIGHT:
                servable = self._unmeasured_load(choice, path, spec, known, watch)
                weight = spec.weight
            else:
                servable, weight, is_estimate = self._measured_load(choice, path, spec, watch)
            signature = servable.signature
        except HotsetError as error:
            self._light.forget(spec)
            _look_again(spec, error)
            raise
        except BaseException as error:  # the user's code may raise anything, and the loader thread must live
            self._light.forget(spec)
            _look_again(spec, error)
            _logger.exception("load of %s@%d raised", spec.name, spec.version)
            raise load_failure("the load raised", error) from error
        held = Held(
            spec,
            servable,
            weight,
            options=choice.options,
            most_rows=self._max_batch,
            lock=self._lock,
            executed=self.executions.of(spec.name, spec.version),
        )
        self._proofs.recall(held)
        recipe = _recipe_of(servable)
        if choice.options is not NO_FILE:
            recipe = None  # what else is asked of its load, samples above all, is done each time
        is_light = held.is_plain and self._light.note(
            spec, path, choice, took_s=watch.took_s, lasted_s=watch.lasted_s, recipe=recipe
        )
        with self._lock:
            self._held[spec.handle] = held
        wants: frozenset[str] = getattr(servable, "wants", frozenset())
        return LoadReply(choice.runtime.name, weight, signature, wants, is_estimate, is_light)

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

    def _chosen(self, spec: LoadSpec, known: Known | None) -> tuple[Choice, Path]:
        """Return how to load what is on disk as it was published."""
        files = files_below(Path(spec.path)) if spec.files is None else intact_files(spec.path, spec.files)
        if known is not None:
            return known.choice, known.path
        return self._kit.runtimes.choice_for(spec, files), Path(spec.path)

    def _unmeasured_load(
        self, choice: Choice, path: Path, spec: LoadSpec, known: Known | None, watch: Stopwatch
    ) -> Servable:
        if known is None:
            with self._meter.unmeasured():
                return self._load(choice, path, spec, watch)
        recipe = self._light.recipe(spec)
        if recipe is None:
            return self._load(choice, path, spec, watch)
        with watch:
            return recipe.load()

    def _measured_load(
        self, choice: Choice, path: Path, spec: LoadSpec, watch: Stopwatch
    ) -> tuple[Servable, int, bool]:
        modules = shared_modules()
        expected = round(_bytes_of(path, choice.files) * choice.runtime.size_factor)
        # So many new objects have the collector run at once when it may: what it finds of others would be missing in the weight.
        with collector_pause:
            mark = self._meter.begin(expected)
            try:
                servable = self._load(choice, path, spec, watch)
            finally:
                grown, is_own = self._meter.end(mark)
        is_told_apart = hasattr(servable, "infer") or getattr(servable, "brings_code", False)
        imported = is_told_apart and shared_modules() != modules
        is_estimate = imported or not is_own
        if is_estimate and spec.weight is not None:
            return servable, spec.weight, False  # what an earlier load measured is better than any estimate
        if imported:
            # The first load of a framework imports it, and a model is not charged for that: better the estimate.
            # What the server's predictor imports while it loads is charged: there is no telling it from the model.
            grown = min(grown, expected)
        elif is_estimate:
            grown = max(grown, expected)  # others have grown or shrunk meanwhile
        return servable, max(grown, LEAST_WEIGHT), is_estimate

    def _load(self, choice: Choice, path: Path, spec: LoadSpec, watch: Stopwatch) -> Servable:
        modules = shared_modules()
        with watch:
            # The collector would walk the growing model again and again, and predictions would wait for it.
            with collector_pause:
                servable = choice.load(path)
            self._close_unless_intact(spec, servable)
            if choice.options.samples:
                self._warm_up(choice, spec, servable)
        if shared_modules() != modules:
            set_aside()
        return servable

    def _close_unless_intact(self, spec: LoadSpec, servable: Servable) -> None:
        """What was written to while it was read is not what was published, and may be as good a model."""
        if spec.files is None:
            return
        try:
            intact_files(spec.path, spec.files)
        except LoadFailedError:
            servable.close()
            raise

    def _warm_up(self, choice: Choice, spec: LoadSpec, servable: Servable) -> None:
        """Within the load, so that what a first prediction takes is weighed too, and nobody waits for it later."""
        try:
            warm_up(spec, servable, choice.options.samples, self._kit.codecs, self.loop)
        except BaseException:
            servable.close()
            raise

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

    def reclaim(self, *, quiet: bool) -> None:
        """Collect cycles and give free memory back to the system, as far as that is worth its cost now."""
        with self._meter.leaving():
            self._reclaimer.reclaim(quiet=quiet)

    def trim(self) -> None:
        """Give back to the system all that is free, whatever it costs."""
        with self._meter.leaving():
            self._reclaimer.trim()


def _recipe_of(servable: Servable) -> Recipe | None:
    """Return what can load it again, which is not kept with it."""
    recipe: Recipe | None = getattr(servable, "recipe", None)
    if recipe is not None:
        servable.recipe = None  # type: ignore[union-attr]
    return recipe


def files_below(path: Path) -> list[str]:
    """Return the relative paths of all files below ``path``, with ``/`` between parts, in order.

    Raises:
        LoadFailedError: ``path`` is no directory.
    """
    if not path.is_dir():
        raise LoadFailedError(f"expected a directory with the version's files, found none: {path}")
    files = []
    for folder, _, names in os.walk(path):
        relative = Path(folder).relative_to(path)
        files += [(relative / name).as_posix() for name in names]
    return sorted(files)


def _look_again(spec: LoadSpec, error: BaseException) -> None:
    """Raise, in the place of the error of a load, that its files were damaged after they were looked at: it is not to blame."""
    if spec.files is None:
        return
    try:
        intact_files(spec.path, spec.files)
    except LoadFailedError as damaged:
        raise damaged from error


def _bytes_of(path: Path, files: Sequence[str]) -> int:
    return sum((path / file).stat().st_size for file in files)
