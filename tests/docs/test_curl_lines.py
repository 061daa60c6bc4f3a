"""The curl lines of README and docs, asked of a real server with the predictor that stands on the same page.

docs/api.md has a test of its own, which asks its lines of the application itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from doc_pages import PAGES, ROOT, Block, blocks, commands, name_of
from server_process import ServerProcess, running_server

API = ROOT / "docs" / "api.md"
ASKED = [
    page for page in PAGES if page != API and any("curl" in block.text for block in blocks("sh", page=page))
]
TARIFF = {"base": 2.5, "per_km": 1.8, "per_minute": 0.3}

pytestmark = pytest.mark.slow


def lines_of(page: Path) -> list[list[str]]:
    return [words for block in blocks("sh", page=page) for words in commands(block) if words[0] == "curl"]


def predictor_of(page: Path) -> Block:
    return next(block for block in blocks("python", page=page) if "class Predictor" in block.text)


@pytest.fixture(params=ASKED, ids=name_of)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def server(page: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    for version in ("1", "2", "7"):
        directory = tmp_path / "models" / "paris" / version
        directory.mkdir(parents=True)
        (directory / "tariff.json").write_text(json.dumps(TARIFF))
    predictor = tmp_path / "predictor.py"
    predictor.write_text(predictor_of(page).text)
    disk = tmp_path / "disk"
    with running_server(disk, model_dir=tmp_path / "models", predictor=predictor, settle_time=0) as running:
        yield running


def test_the_lines_are_answered(page: Path, server: ServerProcess) -> None:
    lines = lines_of(page)
    assert lines
    for words in lines:
        method, path, body = read(words)
        answer = server.request(method, path, body)
        assert answer.status == 200, (words, answer.body)
        if path.endswith("/predict"):
            assert answer.json["fare"] == pytest.approx(10.06)


def read(words: list[str]) -> tuple[str, str, bytes | None]:
    """Return what a curl line asks for; it must name the port that a server has by itself."""
    arguments = words[1:]
    url = next(word for word in arguments if word.startswith("http"))
    match = re.fullmatch(r"http://127\.0\.0\.1:8500(/.*)", url)
    assert match is not None, url
    body = arguments[arguments.index("-d") + 1].encode() if "-d" in arguments else None
    return ("POST" if body is not None else "GET"), match[1], body
