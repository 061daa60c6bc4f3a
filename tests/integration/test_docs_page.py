"""The page at /docs, in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model_files import regressor
from server_process import ServerProcess, running_server

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "models" / "paris").mkdir(parents=True)
    (folder / "models" / "paris" / "model.pkl").write_bytes(regressor(7.0))
    with running_server(folder / "disk", model_dir=folder / "models", settle_time=0) as server:
        yield server


def browser(folder: Path, *arguments: str) -> str:
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-quic",
        f"--user-data-dir={folder}/profile",
    ]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=True)
    return ended.stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_every_operation_is_on_the_page(server: ServerProcess, tmp_path: Path) -> None:
    url = f"http://{server.host}:{server.port}"
    document = httpx.get(f"{url}/openapi.json").json()
    operations = [(method.upper(), path) for path, item in document["paths"].items() for method in item]
    page = browser(tmp_path, "--virtual-time-budget=5000", "--dump-dom", f"{url}/docs")
    shown = re.findall(r'<summary><b class="method \w+">(\w+)</b><code>([^<]+)</code>', page)
    assert sorted(shown) == sorted(operations)
    assert f"API ({len(operations)} operations)" in page


def test_the_page_asks_no_other_server(server: ServerProcess) -> None:
    answer = httpx.get(f"http://{server.host}:{server.port}/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text
    assert "https://" not in answer.text
