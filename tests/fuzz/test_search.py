"""A short search with a seed, over all targets in turn: what has once been searched for hours stays unbroken."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.targets import TARGETS

SEARCH = Path(__file__).parent / "search.py"
RUNS = 4_000
LIMIT_S = 150

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None,
        reason="atheris is not installed; it has wheels for CPython 3.11 to 3.13 on Linux: pip install 'hotset[fuzz]'",
    ),
]


def test_a_short_search_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(SEARCH), "--runs", str(RUNS), "--found", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"number_of_executed_units: {RUNS}" in done.stderr or "Done" in done.stderr
    assert len(TARGETS) > 20
