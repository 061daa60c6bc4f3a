"""A store to publish into, and directories to publish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hotset.store import WritableStore, open_store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> WritableStore:
    if request.param == "memory":
        return open_store("memory://")
    (tmp_path / "store").mkdir()
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """Make a directory of files: path → content."""

    def make(name: str = "source", **files: str) -> Path:
        for path, content in (files or {"model": "content"}).items():
            file = tmp_path / name / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return tmp_path / name

    return make
