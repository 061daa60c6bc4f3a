"""The predict threads of a child or a thread worker: take waiting calls, predict, answer.

Leader and followers: under one lock a thread drains the mailbox (and waits on it only if nothing else is left to
do), takes its unit of work, and lets the next thread lead. So a call is predicted by the thread that received it,
and with one thread there is no hand-off at all: receive, predict all that came, send all answers at once.
Rejected: a receiver thread that feeds a pool, which costs two switches of the GIL for each call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from hotset.errors import ErrorKind, HotsetError, UnavailableError
from hotset.payload import Encoded
from hotset.runtimes.reason import reason_of
from hotset.shared.arena import LARGE_BYTES
from hotset.workers.answers import Answered
from hotset.workers.backlog import Backlog, Job
from hotset.workers.base import LoadSpec, Swapped
from hotset.workers.board import IDLE, Board, Place
from hotset.workers.finishing import Finisher
from hotset.workers.host import Host
from hotset.workers.question import Outcome
from hotset.workers.unfinished import Unfinished

_logger: Final = logging.getLogger(__name__)

HOLD_S: Final = 0.001
"""An answer waits no longer than about this for others to be sent with it: each sending wakes the gateway up."""


class Mailbox(Protocol):
    """Where jobs come from and answers go."""

    swaps: list[tuple[int, LoadSpec]]
    """Orders to swap models, with their numbers, that came before the jobs with which they were received."""

    def hold(self, number: int, swapped: Swapped) -> None:
        """Send what became of such an order with the next answers, or before the next wait."""
        ...

    def receive(self, *, wait: bool) -> list[Job] | None:
        """Return what has come, waiting for at least one job if ``wait``; None once no more will come.

        Called by one thread at a time.
        """
        ...

    def send(self, answers: list[Answered]) -> None:
        """Send answers, all at once. Called by several threads."""
        ...


class PredictThreads:
    """``threads`` daemon threads over one host and one mailbox.

    Thread-safe. Legal order: ``start``, ``join``. They end by themselves when the mailbox does.
    """

    def __init__(
        self,
        host: Host,
        mailbox: Mailbox,
        *,
        threads: int,
        on_crash: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
        board: Board | None = None,
    ) -> None:
        """``board`` is told what each thread is at."""
        self._host = host
        self._mailbox = mailbox
        self.finisher: Final = Finisher(host, mailbox.send, now=now)
        """Completes what predict threads leave unfinished."""
        self._on_crash = on_crash
        self._now = now
        self._lock = threading.Lock()
        self._backlog = Backlog(threads=threads, pace_s=host.pace_s, batch=host.batch)
        board = board or Board.of_this_process(threads)
        self._threads = [
            threading.Thread(
                target=self._run, args=(board.place(number),), name=f"hotset-predict-{number}", daemon=True
            )
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, limit_s: float) -> bool:
        """Wait until all threads ended; False if one has not after ``limit_s``."""
        end = self._now() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, end - self._now()))
        is_over = self.finisher.close(max(0.0, end - self._now()))
        return is_over and not any(thread.is_alive() for thread in self._threads)

    def _run(self, place: Place) -> None:
        answers: list[Answered] = []
        done: int | None = None
        now, idle = self._now, IDLE
        try:
            while unit := self._next_unit(answers, done, place):
                done = unit[0].call.handle
                place[1] = now()
                place[0] = done
                self._work(unit, answers)
                place[0] = idle
                unit.clear()  # a body must not stay in memory until the next call comes
        except OSError:
            # The other end is gone in the middle of a send or a receive: there is nobody left to answer.
            return
        except BaseException:
            _logger.exception("a predict thread crashed; this worker is of no more use")
            self._on_crash()

    def _next_unit(self, answers: list[Answered], done: int | None, place: Place) -> list[Job]:
        """Lead until there is work; return one model's unit of it, or nothing at the end."""
        backlog = self._backlog
        if len(self._threads) > 1:
            self._flush(answers)  # before a lock that another thread may hold for long
        with self._lock:
            if done is not None:
                backlog.done(done)
            while True:
                if not backlog:
                    self._flush(answers)
                jobs = self._mailbox.receive(wait=not backlog)
                if jobs is None:
                    return []
                if self._mailbox.swaps:
                    self._swap(place)
                backlog.add(jobs)
                if backlog:
                    return backlog.take()

    def _swap(self, place: Place) -> None:
        """Carry out what came before the calls that were received with it. It takes no time, so all may wait for it."""
        orders, self._mailbox.swaps = self._mailbox.swaps, []
        for number, spec in orders:
            place[1] = self._now()
            place[0] = spec.handle
            self._mailbox.hold(number, self._host.swap(spec))
        place[0] = IDLE

    def _work(self, unit: list[Job], answers: list[Answered]) -> None:
        if len(unit) > 1 and self._host.batch(unit[0].call.handle) > 1:
            self._work_at_once(unit, answers)
        else:
            self._work_one_by_one(unit, answers)

    def _work_at_once(self, unit: list[Job], answers: list[Answered]) -> None:
        """One prediction for all of the unit; what was answered before does not wait for it."""
        self._flush(answers)
        started = self._now()
        late = [job for job in unit if job.call.deadline_s <= started]
        answers.extend(Answered(job.number, _too_late()) for job in late)
        jobs = [job for job in unit if job.call.deadline_s > started] if late else unit
        if jobs:
            outcomes = self._outcomes(jobs)
            for job, outcome in zip(jobs, outcomes, strict=True):
                self._answer(job, outcome, answers)
            if any(type(outcome) is Encoded and len(outcome.body) >= LARGE_BYTES for outcome in outcomes):
                self._flush(answers)
            self._host.note_pace(jobs[0].call.handle, (self._now() - started) / len(jobs))

    def _work_one_by_one(self, unit: list[Job], answers: list[Answered]) -> None:
        host = self._host
        handle = unit[0].call.handle
        pace = host.pace_s(handle) if answers or len(unit) > 1 else 0.0
        started = self._now()
        oldest = started
        for job in unit:
            if answers and started + pace - oldest > HOLD_S:
                self._flush(answers)
            if not answers:
                oldest = started
            outcome = _too_late() if job.call.deadline_s <= started else self._outcomes([job])[0]
            ended = self._now()
            if type(outcome) is not Encoded:
                host.note_pace(handle, ended - started)
                self._answer(job, outcome, answers)
            else:
                host.note_execution(handle, ended - started)  # before it is sent: who has it may look
                answers.append(Answered(job.number, outcome))
                if len(outcome.body) >= LARGE_BYTES:
                    self._flush(answers)  # it may lie in memory that the model writes its next answer to
            started = ended

    def _answer(self, job: Job, outcome: Outcome, answers: list[Answered]) -> None:
        if isinstance(outcome, Unfinished):
            self.finisher.take(job.number, outcome)
        else:
            answers.append(Answered(job.number, outcome))

    def _outcomes(self, jobs: list[Job]) -> list[Outcome]:
        try:
            return self._host.predict_all([job.call for job in jobs])
        except Exception as error:
            _logger.exception("a fault of hotset itself")
            return [HotsetError(reason_of(error))] * len(jobs)

    def _flush(self, answers: list[Answered]) -> None:
        if answers:
            self._mailbox.send(answers)
            answers.clear()


def _too_late() -> HotsetError:
    return UnavailableError("the request's deadline passed while it was queued", kind=ErrorKind.DEADLINE)
