"""``python -m hotset.demo`` as a newcomer runs it, only smaller: the real server, real requests, real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

LIMIT_S = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


def command(*flags: str) -> list[str]:
    small = ("--models", "40", "--memory", "5", "--disk", "12", "--connections", "4")
    return [sys.executable, "-m", "hotset.demo", *small, *flags]


def _hears_interrupts() -> None:
    """A shell has what it starts in the background ignore them, and so would all that comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def demo(directory: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """The demo with its output in a file, ended with the test."""
    with (directory / "output").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command(*flags),
            cwd=directory,
            stdout=output,
            stderr=output,
            text=True,
            preexec_fn=_hears_interrupts,  # noqa: PLW1509 - this is no program of many threads
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def output_of(directory: Path) -> str:
    return (directory / "output").read_text(encoding="utf-8")


def wait_for(directory: Path, words: str, process: subprocess.Popen[str]) -> None:
    limit_s = time.monotonic() + LIMIT_S
    while words not in output_of(directory):
        assert process.poll() is None, output_of(directory)
        assert time.monotonic() < limit_s, f"no {words!r} within the limit: {output_of(directory)}"
        time.sleep(0.05)


def wait_for_children(process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    """Return the server and its child once they are there."""
    limit_s = time.monotonic() + LIMIT_S
    while len(found := psutil.Process(process.pid).children(recursive=True)) < count:
        assert process.poll() is None
        assert time.monotonic() < limit_s
        time.sleep(0.05)
    return found


def run_once(directory: Path, *flags: str) -> str:
    with demo(directory, "--once", *flags) as process:
        assert process.wait(LIMIT_S) == 0, output_of(directory)
    return output_of(directory)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run left in its directory, and what it showed."""

    directory: Path
    shown: str

    @property
    def models(self) -> Path:
        return self.directory / "demo-data" / "models"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A whole run, with a setting in the environment that no server would take."""
    directory = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTSET_MODEL_CACHE_SIZE", "nonsense")
        return Ran(directory, run_once(directory, "--requests", "400"))


def test_once_ends_after_the_table_with_every_answer_right_whatever_is_set_in_the_environment(
    ran: Ran,
) -> None:
    for words in ("40 cities", "failures", "wrong answers", "fetches", "evictions", "p50", "p99", "a second"):
        assert words in ran.shown
    assert "none  (each one was checked)" in ran.shown
    assert "tokyo v4 answered" in ran.shown
    assert "curl" not in ran.shown
    assert len(list(ran.models.iterdir())) == 40


def test_the_models_are_made_once_and_what_was_published_goes_again(ran: Ran) -> None:
    made = {path: path.stat().st_mtime_ns for path in ran.models.glob("*/[123]/fare.joblib")}
    assert made
    assert (ran.models / "tokyo" / "4").is_dir()
    run_once(ran.directory, "--requests", "50")
    assert {path: path.stat().st_mtime_ns for path in ran.models.glob("*/[123]/fare.joblib")} == made
    assert (ran.models / "tokyo" / "4").is_dir()
    assert not (ran.models / "tokyo" / "5").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_serves_on_ends_it_and_its_server(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path, "--requests", "60") as process:
        wait_for(tmp_path, "until Ctrl-C", process)
        started = wait_for_children(process, 2)
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 0, output_of(tmp_path)
    psutil.wait_procs(started, timeout=LIMIT_S)
    assert not [child for child in started if child.is_running()]
    shown = output_of(tmp_path)
    assert shown.count("  curl -s http") + shown.count("  curl -s 'http") == 3
    assert "the server has ended too" in shown


def test_a_signal_while_it_asks_ends_it_and_its_server(tmp_path: Path) -> None:
    with demo(tmp_path, "--requests", "100000") as process:
        started = wait_for_children(process, 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0, output_of(tmp_path)
    psutil.wait_procs(started, timeout=LIMIT_S)
    assert not [child for child in started if child.is_running()]


def test_a_signal_before_the_server_is_there_ends_it(tmp_path: Path) -> None:
    with demo(tmp_path, "--models", "10000", "--once") as process:
        limit_s = time.monotonic() + LIMIT_S
        while not (tmp_path / "demo-data" / "models.new").exists():
            assert time.monotonic() < limit_s
            assert process.poll() is None, output_of(tmp_path)
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0, output_of(tmp_path)
    assert not (tmp_path / "demo-data" / "models").exists()
