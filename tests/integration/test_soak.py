"""The soak, for less than a minute, its server killed in between: it ends by itself, and every promise is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"
LIMIT_S = 150


@pytest.mark.slow
def test_a_short_soak_keeps_every_promise() -> None:
    command = [sys.executable, str(SOAK), "--minutes", "0.2", "--restarts", "1", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every promise was kept." in done.stdout
