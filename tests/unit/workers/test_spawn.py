from __future__ import annotations

import pytest

from hotset.workers.spawn import child_environment, described_exit


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with status 0"),
        (70, "exited with status 70"),
        (-9, "killed by signal 9 (SIGKILL)"),
        (-11, "killed by signal 11 (SIGSEGV)"),
        (-63, "killed by signal 63"),
    ],
)
def test_described_exit(status: int, words: str) -> None:
    assert described_exit(status) == words


def test_numeric_libraries_get_one_thread_unless_the_user_says_otherwise() -> None:
    environment = child_environment({"PATH": "/bin", "OMP_NUM_THREADS": "4"})
    assert environment["OMP_NUM_THREADS"] == "4"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"
    assert environment["PATH"] == "/bin"
