"""A call on its way through a host: decode, predict, encode; alone, or together with others of its model.

Together is an attempt: whatever goes wrong with it, each call is then asked alone, so that its failure is its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, ParamSpec, TypeAlias, cast

from hotset.codecs.base import Codec
from hotset.errors import ErrorKind, HotsetError, PredictFailedError, UnavailableError
from hotset.payload import Encoded, InferRequest
from hotset.runtimes.base import CallMeta
from hotset.runtimes.reason import reason_of
from hotset.workers.base import PredictCall
from hotset.workers.batching import alike, joined, parted, rows_of, same
from hotset.workers.held import Held
from hotset.workers.unfinished import WHOLE, Unfinished, unfinished

_logger: Final = logging.getLogger(__name__)

Outcome: TypeAlias = Encoded | HotsetError | Unfinished
P = ParamSpec("P")

_NOTHING: Final = Encoded(b"")


def answer_alone(held: Held, call: PredictCall, codec: Codec) -> Encoded | Unfinished:
    """Decode, predict and encode one call: what ``Question`` does in steps, without what it has to remember between them."""
    body: Any = call.body  # a segment only in the gateway
    meta = CallMeta(held.name, held.version, call.content_type, call.query_string, call.headers)
    tensors, payloads = held.tensors, held.payload
    if tensors is not None:
        request = codec.decode_tensors(body, meta, tensors.signature)
        return codec.encode_tensors(tensors.infer(request), request, meta)
    if payloads is not None:
        payload, asked = codec.decode_payload(body, meta)
        result = payloads.predict(payload, meta)
        if type(result) not in WHOLE:
            rest = unfinished(result, held, call, codec=codec, meta=meta, asked=asked)
            if rest is not None:
                return rest
        return codec.encode_result(result, asked, meta)
    raise _unloaded(held)


def _unloaded(held: Held) -> UnavailableError:
    return UnavailableError(f"{held} was unloaded before this call")


class Question:
    """One call on its way: decoded, predicted (alone, or with others), encoded. Each step at most once, in order."""

    __slots__ = ("_call", "_codec", "_held", "_meta", "_result", "_source", "is_decoded", "is_predicted")

    def __init__(self, held: Held, call: PredictCall, codec: Codec) -> None:
        self._held = held
        self._call = call
        self._codec = codec
        self._meta = CallMeta(held.name, held.version, call.content_type, call.query_string, call.headers)
        self._source: Any = None
        self._result: Any = None
        self.is_decoded = False
        self.is_predicted = False

    @property
    def tensors(self) -> InferRequest:
        return cast("InferRequest", self._source)

    @property
    def payload(self) -> Any:
        return self._source[0]

    def decode(self) -> None:
        if self.is_decoded:
            return
        held = self._held
        body: Any = self._call.body  # a segment only in the gateway
        if held.tensors is not None:
            self._source = self._codec.decode_tensors(body, self._meta, held.tensors.signature)
        elif held.payload is not None:
            self._source = self._codec.decode_payload(body, self._meta)
        else:
            raise _unloaded(held)
        self.is_decoded = True

    def take_result(self, result: Any) -> None:
        self._result = result
        self.is_predicted = True

    def forget_result(self) -> None:
        self._result = None
        self.is_predicted = False

    def predict(self) -> Any:
        if not self.is_predicted:
            if self._held.tensors is not None:
                self.take_result(self._held.tensors.infer(self.tensors))
            elif self._held.payload is not None:
                self.take_result(self._held.payload.predict(self.payload, self._meta))
        return self._result

    def encode(self) -> Encoded | Unfinished:
        if self._held.tensors is not None:
            return self._codec.encode_tensors(self._result, self.tensors, self._meta)
        asked, result, codec, meta = self._source[1], self._result, self._codec, self._meta
        rest = unfinished(result, self._held, self._call, codec=codec, meta=meta, asked=asked)
        return codec.encode_result(result, asked, meta) if rest is None else rest

    def answer(self) -> Encoded | Unfinished:
        self.decode()
        self.predict()
        return self.encode()


def _tensors_at_once(held: Held, questions: Sequence[Question]) -> bool:
    assert held.tensors is not None
    requests = [question.tensors for question in questions]
    rows = [rows_of(request) or 0 for request in requests]
    results = parted(held.tensors.infer(joined(requests)), rows)
    if results is None:
        held.batches = False
        return False
    if held.comparisons_left:
        singles = [question.predict() for question in questions]
        held.batches = all(map(same, results, singles))
        # Equal rows prove nothing, but a client that always sends the same must not be compared for ever.
        proves = not all(same(singles[0], single) for single in singles)
        held.comparisons_left = 0 if proves else held.comparisons_left - 1
        return True  # with the results of the single predictions
    for question, result in zip(questions, results, strict=True):
        question.take_result(result)
    return True


def _payloads_at_once(held: Held, questions: Sequence[Question]) -> bool:
    predict_batch = cast("Any", held.payload).predict_batch
    results = list(predict_batch([question.payload for question in questions]))
    if len(results) != len(questions):
        held.batches = False
        _logger.error(
            "predict_batch of %s returned %d results for %d payloads; expected one for each, in order. "
            "It is not called for this version any more: each payload is predicted alone",
            held, len(results), len(questions),
        )  # fmt: skip
        return False
    for question, result in zip(questions, results, strict=True):
        question.take_result(result)
    return True


def _failure(held: Held, step: Callable[[], None]) -> HotsetError | None:
    """Run a step that gives nothing; return its failure, if it has one."""

    def run() -> Encoded:
        step()
        return _NOTHING

    outcome = guarded(held, run)
    return outcome if isinstance(outcome, HotsetError) else None


def guarded(held: Held, work: Callable[P, Outcome], *args: P.args, **kwargs: P.kwargs) -> Outcome:
    """Return what ``work`` returns, or its failure as one of ours."""
    try:
        return work(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is the call's own failure
        return failure_of(held, error)


def failure_of(held: Held, error: BaseException) -> HotsetError:
    """Return what a prediction raised as one of ours; what is not ours goes to the log with its traceback."""
    if isinstance(error, HotsetError):
        return error
    if isinstance(error, MemoryError):
        return UnavailableError(f"out of memory while {held} predicted", kind=ErrorKind.OUT_OF_MEMORY)
    _logger.error("predict of %s raised", held, exc_info=error)
    return PredictFailedError(reason_of(error))


def answer_together(held: Held, questions: Sequence[Question], *, most_rows: int) -> list[Outcome]:
    """Answer all, in order, with as few predictions as can be."""
    began_s = time.monotonic()
    outcomes: list[Outcome | None] = [_failure(held, question.decode) for question in questions]
    decoding_s = (time.monotonic() - began_s) / max(1, len(questions))
    good = [index for index, outcome in enumerate(outcomes) if outcome is None]
    for group in _groups(held, [questions[index] for index in good], most_rows=most_rows):
        indexes = [good[position] for position in group]
        members = [questions[index] for index in indexes]
        for index, outcome in zip(indexes, _answer_group(held, members, decoding_s), strict=True):
            outcomes[index] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


def _groups(held: Held, questions: Sequence[Question], *, most_rows: int) -> list[list[int]]:
    if held.tensors is None:
        return [list(range(len(questions)))] if questions else []
    return alike([question.tensors for question in questions], most_rows=most_rows)


def _answer_group(held: Held, questions: Sequence[Question], decoding_s: float) -> list[Outcome]:
    """``decoding_s`` is what the decoding of each took, which counts as a part of its execution."""
    began_s = time.monotonic()
    compares = held.comparisons_left > 0
    if len(questions) > 1 and held.batches and _predict_at_once(held, questions):
        outcomes = [guarded(held, question.encode) for question in questions]
        seconds = time.monotonic() - began_s + decoding_s * len(questions)
        if compares:  # each was predicted alone, too, and that is what is answered
            for _ in questions:
                held.executed.alone(seconds / len(questions))
        else:
            held.executed.together(len(questions), seconds)
        return outcomes
    outcomes = []
    for question in questions:
        outcomes.append(guarded(held, question.answer))
        ended_s = time.monotonic()
        if isinstance(outcomes[-1], Encoded):
            held.executed.alone(ended_s - began_s + decoding_s)
        began_s = ended_s
    return outcomes


def _predict_at_once(held: Held, questions: Sequence[Question]) -> bool:
    """Whether all have their result from one prediction; if not, each is to be asked alone."""
    try:
        return (_payloads_at_once if held.tensors is None else _tensors_at_once)(held, questions)
    except Exception:  # noqa: BLE001 - whose fault it is shows when each is predicted alone
        for question in questions:
            question.forget_result()
        return False
