"""``python -m hotset.demo`` as a newcomer runs it, only smaller: the real server, real requests, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

LIMIT_S = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


def command(*flags: str) -> list[str]:
    small = ("--models", "40", "--memory", "5", "--disk", "12", "--connections", "4")
    return [sys.executable, "-m", "hotset.demo", *small, *flags]


@contextmanager
def demo(directory: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """The demo with its output in a file, ended with the test."""
    with (directory / "output").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command(*flags), cwd=directory, stdout=output, stderr=output, text=True)
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


def test_once_ends_after_the_table_with_every_answer_right(tmp_path: Path) -> None:
    shown = run_once(tmp_path, "--requests", "400")
    for words in ("40 cities", "failures", "wrong answers", "fetches", "evictions", "p50", "p99", "a second"):
        assert words in shown
    assert "none  (each one was checked)" in shown
    assert "tokyo v4 answered" in shown
    assert "curl" not in shown
    assert len(list((tmp_path / "demo-data" / "models").iterdir())) == 40


def test_the_models_are_made_once_and_what_was_published_goes_again(tmp_path: Path) -> None:
    run_once(tmp_path, "--requests", "50")
    models = tmp_path / "demo-data" / "models"
    made = {path: path.stat().st_mtime_ns for path in models.glob("*/[123]/fare.joblib")}
    assert (models / "tokyo" / "4").is_dir()
    run_once(tmp_path, "--requests", "50")
    assert {path: path.stat().st_mtime_ns for path in models.glob("*/[123]/fare.joblib")} == made
    assert not (models / "tokyo" / "5").exists()


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
    with demo(tmp_path, "--requests", "1000000") as process:
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


def test_settings_in_the_environment_do_not_reach_the_demos_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSET_MODEL_CACHE_SIZE", "nonsense")
    assert "HOTSET_MODEL_CACHE_SIZE" in os.environ
    run_once(tmp_path, "--requests", "20")
