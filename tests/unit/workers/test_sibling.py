"""Siblings are forked by a program of its own, whose parent, this process, then has two children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from hotset.workers.spawn import ForkedProcess, described_exit

LIMIT_S = 30.0

FORK = """
import os, sys, threading
from hotset.workers.sibling import fork_sibling
pid = fork_sibling()
"""


def forker(after: str, before: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", before + FORK + after], stdout=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes]) -> list[str]:
    output, _ = process.communicate(timeout=LIMIT_S)
    return output.decode().split()


def test_it_is_its_parents_parents_child_and_gives_it_its_status() -> None:
    process = forker("os._exit(7) if pid == 0 else print(pid)")
    (pid,) = finished(process)
    assert process.returncode == 0
    assert ForkedProcess(int(pid)).wait() == 7


def test_it_outlives_the_process_that_forked_it_and_can_be_killed() -> None:
    process = forker("import time; time.sleep(600) if pid == 0 else (print(pid, flush=True), os._exit(0))")
    assert process.stdout is not None
    sibling = ForkedProcess(int(process.stdout.readline()))
    process.wait()
    process.stdout.close()
    sibling.kill()
    assert described_exit(sibling.wait()) == "killed by signal 9 (SIGKILL)"
    sibling.kill()  # it is gone, and so nobody else is hit


def test_it_has_threads_ids_and_randomness_of_its_own() -> None:
    process = forker("""
import random
if pid == 0:
    ids = []
    thread = threading.Thread(target=lambda: ids.append(threading.get_native_id()))
    thread.start()
    thread.join()
    own = os.getpid() == threading.get_native_id() != ids[0]
    os.write(1, f"{own} {random.random()} ".encode())
    os._exit(0)
os.write(1, f"{pid} {random.random()} ".encode())
""")
    words = set(finished(process))
    assert "True" in words
    assert len({word for word in words if "." in word}) == 2
    assert ForkedProcess(next(int(word) for word in words if word.isdecimal())).wait() == 0


def test_a_process_with_threads_is_not_forked() -> None:
    before = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", before + FORK], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, errors = process.communicate(timeout=LIMIT_S)
    assert b"a process with 2 threads cannot be forked" in errors


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM])
def test_its_death_by_a_signal_is_told(number: signal.Signals) -> None:
    process = forker(f"os.kill(os.getpid(), {int(number)}) if pid == 0 else print(pid)")
    (pid,) = finished(process)
    assert ForkedProcess(int(pid)).wait() == -number
    with pytest.raises(ChildProcessError):
        os.waitpid(int(pid), 0)
