"""When a child that does not answer pings is ended, by what the system says of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotset.workers.heartbeat import (
    CALM_LOOKS,
    PROC,
    Heartbeat,
    Look,
    Thread,
    is_asleep,
    is_at_work,
    is_stopped,
    look_at,
)
from waiting import until

ASLEEP, COMPUTING, STOPPED, TRACED = "SS", "SR", "TT", "tt"
LINUX = pytest.mark.skipif(not PROC.joinpath("self", "stat").exists(), reason="needs /proc")


class Script:
    """A process whose two threads look as they are told, a second at each look; the second one may compute."""

    def __init__(self, limit_s: float = 30.0) -> None:
        self.states: str | None = ASLEEP
        self.cpu_s = 0.0
        self.sleeps = 0
        self.now_s = 0.0
        self.done = 0
        self.heartbeat = Heartbeat(interval_s=1.0, limit_s=limit_s, look=self.look, now=lambda: self.now_s)

    def look(self) -> Look | None:
        if self.states is None:
            return None
        return {1: Thread(self.states[0], 0.0, 0), 2: Thread(self.states[1], self.cpu_s, self.sleeps)}

    def pinged(self) -> Script:
        assert self.heartbeat.due(is_waited_for=True)
        return self

    def after(self, looks: int, *, cpu_s: float = 0.0, sleeps: int = 0, done: int = 0) -> str | None:
        """Return what is said at the last of so many looks, before each of which it has computed and slept so much."""
        for _ in range(looks):
            self.now_s += 1.0
            self.cpu_s += cpu_s
            self.sleeps += sleeps
            self.done += done
            silence = self.heartbeat.silence(self.done)
            if silence is not None:
                return f"{self.now_s:g}: {silence}"
        return None


@pytest.mark.parametrize(
    ("states", "cpu_s", "sleeps", "said"),
    [
        pytest.param(STOPPED, 0.0, 0, "2: was stopped by a signal", id="stopped"),
        pytest.param(ASLEEP, 0.0, 0, "11: did nothing for 10 s", id="asleep"),
        pytest.param(ASLEEP, 0.02, 200, "11: did nothing for 10 s", id="looks for the interpreter"),
        pytest.param(
            ASLEEP, 0.1, 3400, "11: did nothing for 10 s", id="looks for the interpreter during a load"
        ),
        pytest.param(
            ASLEEP, 0.3, 9000, "30: did not answer pings for 30 s", id="sleeps often and computes much"
        ),
        pytest.param(COMPUTING, 1.0, 0, "30: did not answer pings for 30 s", id="computing"),
        pytest.param(ASLEEP, 0.2, 100, "30: did not answer pings for 30 s", id="computes now and then"),
        pytest.param(COMPUTING, 0.0, 0, "30: did not answer pings for 30 s", id="gets no processor"),
        pytest.param("SD", 0.0, 0, "30: did not answer pings for 30 s", id="waits for a disk"),
        pytest.param(TRACED, 0.0, 0, "30: did not answer pings for 30 s", id="in a debugger"),
        pytest.param(None, 0.0, 0, "30: did not answer pings for 30 s", id="nobody knows"),
    ],
)
def test_how_long_a_child_may_be_silent(states: str | None, cpu_s: float, sleeps: int, said: str) -> None:
    script = Script().pinged()
    script.states = states
    assert (script.after(100, cpu_s=cpu_s, sleeps=sleeps) or "").startswith(said)


def test_a_short_limit_is_one_for_what_is_stopped_too() -> None:
    script = Script(limit_s=1.0).pinged()
    script.states = STOPPED
    assert (script.after(5) or "").startswith("1: was stopped")


def test_a_child_that_answers_calls_is_not_asleep() -> None:
    assert (Script().pinged().after(100, done=1) or "").startswith("30: did not answer pings")


def test_threads_that_look_for_the_interpreter_now_and_then_do_not_hide_that_nothing_is_done() -> None:
    script = Script().pinged()
    for _ in range(12):
        script.states = COMPUTING
        assert script.after(1) is None
        script.states = ASLEEP
        said = script.after(1)
        if said is not None:
            break
    assert "did nothing" in (said or "")


def test_work_in_between_begins_the_count_anew() -> None:
    script = Script().pinged()
    assert script.after(8) is None
    assert script.after(1, cpu_s=0.5) is None
    assert script.after(9) is None
    assert "did nothing" in (script.after(1) or "")


def test_an_answer_ends_the_silence() -> None:
    script = Script().pinged()
    script.states = STOPPED
    assert script.after(1) is None
    script.heartbeat.answered()
    assert script.heartbeat.unanswered == 0
    assert script.after(10) is None, "no ping is under way"
    script.pinged()
    assert script.after(1) is None
    assert "stopped" in (script.after(1) or "")


def test_a_child_is_pinged_at_each_look_while_somebody_waits_and_seldom_else() -> None:
    heartbeat = Script().heartbeat
    pings = []
    for _ in range(2 * CALM_LOOKS):
        pings.append(heartbeat.due(is_waited_for=False))
        heartbeat.answered()
    assert pings == [*[False] * (CALM_LOOKS - 1), True] * 2
    assert heartbeat.due(is_waited_for=True)
    assert not heartbeat.due(is_waited_for=True), "one ping at a time"


@LINUX
async def test_a_process_that_sleeps_is_stopped_and_goes_on(sleeper: int) -> None:
    def states() -> set[str]:
        look = look_at(sleeper)
        assert look is not None
        assert is_stopped(look) == ({thread.state for thread in look.values()} == {"T"})
        return {thread.state for thread in look.values()}

    await until(lambda: states() == {"S"})
    os.kill(sleeper, signal.SIGSTOP)
    await until(lambda: states() == {"T"})
    os.kill(sleeper, signal.SIGCONT)
    await until(lambda: states() == {"S"})


@LINUX
def test_what_computes_is_seen_to() -> None:
    own = threading.get_native_id()
    before = look_at(os.getpid())
    assert before is not None
    assert not is_asleep(before), "this thread"
    while True:
        now = look_at(os.getpid())
        assert now is not None
        if now[own].cpu_s >= before[own].cpu_s + 0.05:
            break
    assert is_at_work({own: now[own]}, before, 0.1)
    assert not is_at_work({own: now[own]}, before, 10.0)


@LINUX
def test_each_sleep_is_counted() -> None:
    own = threading.get_native_id()
    before = look_at(os.getpid())
    for _ in range(20):
        time.sleep(0.001)
    now = look_at(os.getpid())
    assert before is not None
    assert now is not None
    assert now[own].sleeps >= before[own].sleeps + 20


def test_names_with_parentheses_and_processes_that_are_gone(tmp_path: Path) -> None:
    task = tmp_path / "7" / "task" / "8"
    task.mkdir(parents=True)
    (task / "stat").write_text("8 (a) R (b) S 1 " + " ".join(["0"] * 9) + " 300 200 0 0")
    (task / "status").write_text("Name:\ta) R (b\nState:\tS (sleeping)\nvoluntary_ctxt_switches:\t12\n")
    assert look_at(7, proc=tmp_path) == {8: Thread("S", 500 / os.sysconf("SC_CLK_TCK"), 12)}
    assert look_at(8, proc=tmp_path) is None


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as it:
        yield it.pid
        it.kill()
