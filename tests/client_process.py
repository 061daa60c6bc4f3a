"""Clients of other projects as they are, each in a process of its own: messages of two of them cannot be in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LIMIT_S = 120
KSERVE_PYTHON = "KSERVE_PYTHON"
"""Names an interpreter that has the package ``kserve``, which cannot be installed beside what our tests need."""


def run_client(script: str, *arguments: object, python: str = sys.executable) -> None:
    """Run ``tests/<script>.py`` to its end; what it printed is shown where it fails."""
    done = subprocess.run(
        [python, Path(__file__).parent / f"{script}.py", *map(str, arguments)],
        env=os.environ | {"GRPC_VERBOSITY": "ERROR"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
