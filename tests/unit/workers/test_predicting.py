"""One predict thread over a scripted mailbox and a manual clock: what is predicted when, and sent with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hotset.errors import ErrorKind, HotsetError
from hotset.keys import DiskFile
from hotset.payload import Encoded
from hotset.runtimes.base import CallMeta
from hotset.workers.answers import Answered
from hotset.workers.backlog import Job
from hotset.workers.base import LoadSpec, Swapped
from hotset.workers.host import Host
from hotset.workers.predicting import HOLD_S, PredictThreads
from worker_fakes import FakePayloadServable, FakeTensorServable, fake_kit, raw_call, spec

LIMIT_S = 30.0


class Script:
    """A mailbox that gives each of ``arrivals`` once and then ends, and notes all that happens, in order."""

    def __init__(self, arrivals: Sequence[list[Job]]) -> None:
        self.arrivals = list(arrivals)
        self.events: list[str] = []
        self.outcomes: dict[int, object] = {}
        self.now = 100.0
        self.swaps: list[tuple[int, LoadSpec]] = []
        self.swapped: dict[int, Swapped] = {}

    def hold(self, number: int, swapped: Swapped) -> None:
        self.swapped[number] = swapped

    def receive(self, *, wait: bool) -> list[Job] | None:
        if wait:
            self.events.append("wait")
            return self.arrivals.pop(0) if self.arrivals else None
        return []

    def send(self, answers: list[Answered]) -> None:
        self.events.append("send " + " ".join(str(answer.number) for answer in answers))
        self.outcomes |= dict(answers)

    def predict(self, payload: bytes, meta: CallMeta) -> bytes:
        """Take as long as the body says."""
        self.events.append(f"predict {meta.model_name} {payload.decode()}")
        self.now += float(payload)
        return payload


def run(tmp_path: Path, script: Script, handles: Sequence[int] = (1,)) -> None:
    host = Host(fake_kit(lambda _: FakePayloadServable(script.predict)))
    for handle in handles:
        host.load(spec(tmp_path, handle))
        host.note_pace(handle, 1e-6)
    crashes: list[str] = []
    threads = PredictThreads(
        host, script, threads=1, on_crash=lambda: crashes.append("crash"), now=lambda: script.now
    )
    threads.start()
    assert threads.join(LIMIT_S)
    assert not crashes


def job(number: int, seconds: str = "0.0", handle: int = 1, deadline_s: float = float("inf")) -> Job:
    return Job(number, raw_call(handle, seconds.encode(), deadline_s))


def test_all_that_came_is_predicted_and_sent_at_once(tmp_path: Path) -> None:
    script = Script([[job(1), job(2), job(3)], [job(4)]])
    run(tmp_path, script)
    assert script.events == [
        "wait", "predict paris 0.0", "predict paris 0.0", "predict paris 0.0", "send 1 2 3",
        "wait", "predict paris 0.0", "send 4", "wait",
    ]  # fmt: skip


def test_answers_of_two_models_leave_together_too(tmp_path: Path) -> None:
    script = Script([[job(1), job(2, handle=2), job(3)]])
    run(tmp_path, script, handles=(1, 2))
    assert [event for event in script.events if event.startswith("send")] == ["send 1 3 2"]


def test_an_answer_does_not_wait_for_a_slow_prediction(tmp_path: Path) -> None:
    script = Script([[job(1, "1.0")], [job(2, "0.0", handle=2), job(3, "1.0")]])
    run(tmp_path, script, handles=(1, 2))
    assert script.events[3:] == [
        "wait", "predict paris 0.0", "send 2", "predict paris 1.0", "send 3", "wait",
    ]  # fmt: skip


def test_an_answer_is_not_held_longer_than_the_limit(tmp_path: Path) -> None:
    script = Script([[job(number, "0.0004") for number in range(8)]])
    run(tmp_path, script)
    sends = [event.split()[1:] for event in script.events if event.startswith("send")]
    assert all(len(numbers) <= HOLD_S / 0.0004 + 1 for numbers in sends)
    assert [number for numbers in sends for number in numbers] == [str(number) for number in range(8)]


def test_a_deadline_that_passed_in_the_queue_is_answered_without_predicting(tmp_path: Path) -> None:
    script = Script([[job(1, "0.0", deadline_s=100.0), job(2, "0.0", deadline_s=100.5)]])
    run(tmp_path, script)
    late, answer = script.outcomes[1], script.outcomes[2]
    assert isinstance(late, HotsetError)
    assert late.kind is ErrorKind.DEADLINE
    assert isinstance(answer, Encoded)
    assert script.events.count("predict paris 0.0") == 1


def test_a_deadline_that_passes_while_others_are_predicted_counts(tmp_path: Path) -> None:
    script = Script([[job(1, "1.0")], [job(2, "1.0"), job(3, "1.0", deadline_s=101.5)]])
    run(tmp_path, script)
    assert isinstance(script.outcomes[3], HotsetError)


def test_a_mailbox_that_breaks_ends_the_thread_without_a_crash(tmp_path: Path) -> None:
    class Broken(Script):
        def send(self, answers: list[Answered]) -> None:
            raise BrokenPipeError

    run(tmp_path, Broken([[job(1)]]))


def test_a_fault_of_its_own_is_a_crash(tmp_path: Path) -> None:
    class Faulty(Script):
        def receive(self, *, wait: bool) -> list[Job] | None:
            raise ZeroDivisionError

    host = Host(fake_kit(lambda _: FakePayloadServable(Faulty([]).predict)))
    crashes: list[str] = []
    threads = PredictThreads(host, Faulty([]), threads=2, on_crash=lambda: crashes.append("crash"))
    threads.start()
    assert threads.join(LIMIT_S)
    assert crashes == ["crash", "crash"]


def test_a_swap_comes_before_the_calls_behind_it(tmp_path: Path) -> None:
    """What was light is loaded in the places of others as its order is read, and the call behind it finds it."""
    script = Script([])
    (tmp_path / "model.bin").write_bytes(b"model")
    known = replace(spec(tmp_path), files=(DiskFile("model.bin", 5),), weight=5000)
    host = Host(fake_kit(lambda _: FakeTensorServable()))
    host.load(known)
    came = replace(known, handle=2, after=(1,))

    class Swapping(Script):
        def receive(self, *, wait: bool) -> list[Job] | None:
            if wait and self.arrivals:
                self.swaps.append((7, came))
            return super().receive(wait=wait)

    script = Swapping([[Job(1, raw_call(2))]])
    threads = PredictThreads(host, script, threads=1, on_crash=lambda: None)
    threads.start()
    assert threads.join(LIMIT_S)
    assert script.swapped == {7: Swapped(is_loaded=True, are_gone=True, is_light=True)}
    assert isinstance(script.outcomes[1], Encoded)
    assert host.handles() == [2]
