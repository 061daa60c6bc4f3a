"""An environment of its own for each peer, outside the repository, with every package pinned.

Called by ``run.py``. An environment that was made from the same requirements is taken as it is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CACHE: Final = "PEERS_CACHE"
"""Names the folder of the environments, where the default is not wanted."""

MADE: Final = ".made"
INSTALL_LIMIT_S: Final = 1800


def cache() -> Path:
    """Return the folder that the environments are kept in."""
    given = os.environ.get(CACHE)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hotset-peers"


def python_of(environment: str) -> Path:
    """Return the Python of an environment, which is made first where it is missing.

    Raises:
        RuntimeError: it cannot be made here; the message says why.
    """
    if not environment:
        return Path(sys.executable)
    requirements = HERE / environment / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache() / f"{environment}-{digest}"
    if not (folder / MADE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        pip = (str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet")
        # What is pinned is all there is: of pytriton only the server is wanted, and not what it asks for.
        _run(*pip, "install", "--no-deps", "--requirement", str(requirements))
        (folder / MADE).touch()
    return folder / "bin" / "python"


def packages(environment: str) -> list[str]:
    """Return what ``requirements.txt`` pins first: what the peer itself is. The rest is what it needs."""
    lines = (HERE / environment / "requirements.txt").read_text().splitlines()
    head = lines[: lines.index("")] if "" in lines else lines
    return [line for line in head if not line.startswith("#")]


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    if ended.returncode:
        errors = [line for line in ended.stderr.splitlines() if "ERROR" in line] or [ended.stderr[-500:]]
        raise RuntimeError(f"its environment cannot be made: {' '.join(errors)[:800]}")
