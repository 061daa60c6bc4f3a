"""The command line: against a small real HTTP server that answers as hotset's own routes do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from typer.testing import CliRunner, Result

from hotset.cli import app
from hotset.cli_tables import models_table
from hotset.client import RequestStatus, StatusPage
from hotset.config import TABLE
from hotset.config_docs import json_schema, markdown
from hotset.config_sources import flag_of
from hotset.errors import ErrorKind
from hotset.status import (
    CatalogStatus,
    DeviceStatus,
    ModelPage,
    ModelStatus,
    Readiness,
    RejectStatus,
    ServerStatus,
    SyncStatus,
    TierStatus,
    VersionState,
    VersionStatus,
    WorkerStatus,
)

PARIS = ModelStatus(
    name="paris",
    latest=4,
    serving=3,
    last_used_s=75.2,
    versions=(
        VersionStatus(
            "paris",
            3,
            VersionState.READY,
            "memory",
            1000,
            1000,
            2 * 1024**2,
            last_used_s=75.0,
            leases=2,
            pinned=True,
        ),
        VersionStatus(
            "paris",
            4,
            VersionState.UNAVAILABLE,
            "disk",
            1000,
            1000,
            reason="ValueError: bad \x1b[31mfile",
            failure=ErrorKind.LOAD_FAILED,
            retry_in_s=12.0,
        ),
    ),
)
ROME = ModelStatus(
    name="rome[bold]",
    latest=1,
    versions=(VersionStatus("rome[bold]", 1, VersionState.UNAVAILABLE, "store", 500),),
)
STATUS = StatusPage(
    server=ServerStatus(
        version="0.1.0",
        uptime_s=3725.4,
        readiness=Readiness(ready=False, reason="the first pass over the store is under way"),
        catalog=CatalogStatus(
            "s3://city-models",
            1000,
            1200,
            unsettled=1,
            rejects=1,
            examples=[RejectStatus("x/y", "no version")],
        ),
        sync=SyncStatus(enabled=True, interval_s=10.0, last_ok_s=42.0, failures=3, reason="access denied"),
        tiers=(
            TierStatus(
                "memory",
                50,
                100 * 1024**2,
                capacity_models=50,
                leases=1,
                oldest_used_s=9.0,
                devices=(DeviceStatus("cuda:1", 3 * 1024**3, 4 * 1024**3),),
            ),
            TierStatus("disk", 200, 1024**3, capacity_bytes=2 * 1024**3),
        ),
        workers=(
            WorkerStatus(0, alive=True, pid=77, models=50),
            WorkerStatus(1, alive=False),
            WorkerStatus(2, alive=True, pid=78, models=1, model="oslo@4"),
        ),
    ),
    requests=RequestStatus(inside=4, max_queue=1024, draining=False),
)


@dataclass
class Remote:
    """A server's canned answers by method and path, and what it was asked."""

    url: str = ""
    answers: dict[tuple[str, str], tuple[int, bytes, dict[str, str]]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, list[str]], bytes, str]] = field(default_factory=list)

    def answer(self, method: str, path: str, content: Any, *, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[method, path] = (status, body, named)


@pytest.fixture
def remote() -> Iterator[Remote]:
    remote = Remote()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            kind = self.headers.get("content-type", "")
            remote.asked.append((self.command, parts.path, parse_qs(parts.query), body, kind))
            missing = (404, b'{"error": "no such route", "kind": "route_not_found"}', {})
            status, answer, headers = remote.answers.get((self.command, parts.path), missing)
            self.send_response(status)
            for name, value in {"content-length": str(len(answer)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        remote.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield remote
        server.shutdown()
        thread.join(timeout=10)


def _run(*words: str, url: str | None = None, stdin: str | bytes | None = None) -> Result:
    env = {"HOTSET_URL": url, "HOTSET_CONFIG": None, "NO_COLOR": "1"}
    return CliRunner().invoke(app, list(words), env=env, input=stdin)


def test_models_are_listed_in_a_table(remote: Remote) -> None:
    remote.answer("GET", "/models", ModelPage((PARIS, ROME), next="rome[bold]"))
    result = _run("models", "--limit", "2", url=remote.url)
    assert result.exit_code == 0
    heading, paris, rome = result.stdout.splitlines()
    assert heading.split()[:4] == ["model", "latest", "serving", "tier"]
    assert paris.split()[:8] == ["paris", "4", "3", "memory", "2MiB", "2KiB", "1m15s", "2"]
    assert "load_failed, again in 12s: ValueError: bad �[31mfile" in paris
    assert rome.split()[:4] == ["rome[bold]", "1", "-", "store"]
    assert "--after rome[bold]" in result.stderr
    assert remote.asked[0][2] == {"limit": ["2"]}


def test_paging_is_passed_on_and_all_follows_every_page(remote: Remote) -> None:
    remote.answer("GET", "/models", ModelPage((PARIS,)))
    assert _run("models", "pa", "--after", "oslo", url=remote.url).exit_code == 0
    assert remote.asked[0][2] == {"prefix": ["pa"], "limit": ["100"], "after": ["oslo"]}

    pages = iter([ModelPage((PARIS,), next="paris"), ModelPage((ROME,))])

    class Pages(dict[tuple[str, str], Any]):
        def get(self, key: tuple[str, str], default: Any = None) -> Any:
            return 200, msgspec.json.encode(next(pages)), {}

    remote.answers = Pages()
    result = _run("models", "--all", "--json", url=remote.url)
    assert [model["name"] for model in json.loads(result.stdout)["models"]] == ["paris", "rome[bold]"]
    assert remote.asked[-1][2]["after"] == ["paris"]


def test_models_as_json_are_what_the_server_answered(remote: Remote) -> None:
    page = ModelPage((PARIS, ROME))
    remote.answer("GET", "/models", page)
    result = _run("models", "--json", url=remote.url)
    assert json.loads(result.stdout) == json.loads(msgspec.json.encode(page))


def test_show_lists_the_versions_of_one_model(remote: Remote) -> None:
    remote.answer("GET", "/models/paris", PARIS)
    lines = _run("show", "paris", url=remote.url).stdout.splitlines()
    assert lines[1].split() == [
        "3",
        "READY",
        "memory",
        "2MiB",
        "1000B",
        "1000B",
        "1m15s",
        "2",
        "serving,",
        "pinned",
    ]
    assert "�[31m" in lines[2]


@pytest.mark.parametrize("verb", ["load", "unload", "pin", "unpin"])
def test_the_verbs_of_an_admin_name_model_and_version(remote: Remote, verb: str) -> None:
    remote.answer("POST", f"/models/acme%2Fparis/versions/3/{verb}", PARIS)
    for words in (["acme/paris", "--version", "3"], ["acme/paris@3"]):
        result = _run(verb, *words, "--json", url=remote.url)
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["name"] == "paris"


@pytest.mark.parametrize("source", ["inline", "file", "stdin"])
def test_predict_sends_the_payload_and_prints_the_answer(remote: Remote, tmp_path: Path, source: str) -> None:
    remote.answer("POST", "/models/paris/predict", b'{"predictions":[1.5]}', x_model_version="3")
    payload = '{"instances": [[1, 2]]}'
    (tmp_path / "rows.json").write_text(payload)
    data = {"inline": payload, "file": f"@{tmp_path / 'rows.json'}", "stdin": "-"}[source]
    result = _run("predict", "paris", "--data", data, url=remote.url, stdin=payload)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == '{"predictions":[1.5]}'
    assert remote.asked[0][3:] == (payload.encode(), "application/json")


def test_predict_takes_bytes_and_a_version(remote: Remote) -> None:
    remote.answer("POST", "/models/paris/versions/3/predict", b"\x00\xff")
    words = ["predict", "paris@3", "--content-type", "application/octet-stream"]
    result = _run(*words, url=remote.url, stdin=b"\x01\xfe")
    assert result.stdout_bytes == b"\x00\xff"
    assert remote.asked[0][3:] == (b"\x01\xfe", "application/octet-stream")


def test_status_shows_store_sync_tiers_and_workers(remote: Remote) -> None:
    remote.answer("GET", "/status", STATUS)
    text = _run("status", url=remote.url).stdout
    assert "hotset 0.1.0, up 1h2m5s, not ready: the first pass over the store is under way" in text
    assert "1000 models, 1200 versions, 1 unsettled, 1 rejected" in text
    assert "every 10s, last good pass 42s ago, failed 3 times: access denied" in text
    assert "x/y: no version" in text
    assert "100MiB" in text
    assert "thread" in text
    assert "oslo@4" in text  # alone in its process
    shown = json.loads(_run("status", "--json", url=remote.url).stdout)
    assert shown == json.loads(msgspec.json.encode(STATUS))


def test_the_servers_own_words_are_the_error(remote: Remote) -> None:
    remote.answer(
        "POST",
        "/models/paris/load",
        {"error": "no room for paris\x1b[2J", "kind": "no_room"},
        status=503,
        retry_after="4",
    )
    result = _run("load", "paris", url=remote.url)
    assert result.exit_code == 1
    assert result.stderr == "hotset: no room for paris�[2J; try again in 4 s\n"
    assert not result.stdout


def test_an_answer_that_is_not_hotsets_is_told(remote: Remote) -> None:
    remote.answer("GET", "/models", b"<html>", status=502)
    assert "answered 502 without a reason" in _run("models", url=remote.url).stderr
    remote.answer("GET", "/models", b'{"models": 3}')
    assert "answered something unexpected" in _run("models", url=remote.url).stderr


def test_a_server_that_is_not_there_is_named_and_how_to_start_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = _run("models", "--url", url)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"hotset: no server answers at {url}; start one with 'hotset serve")
    assert len(result.stderr.splitlines()) == 1


def test_a_server_that_does_not_answer_is_not_waited_for_longer_than_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = _run("status", "--timeout", "100ms", url=url)
    assert result.stderr == f"hotset: {url} did not answer within 100ms; see --timeout\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models", "--url", "nonsense"], "expected a URL such as http://127.0.0.1:8500, found: nonsense"),
        (["models", "--url", "http://"], "expected a URL such as"),
        (["models", "--timeout", "soon"], "--timeout: found 'soon', expected a duration such as 10s"),
        (["load", "../etc"], "found '../etc', expected a model's name, or name@version"),
        (["load", "paris", "--version", "7 8"], "expected a version number, 'latest' or a label"),
        (["predict", "paris", "--data", "@none.json"], "cannot read none.json: No such file or directory"),
    ],
)
def test_wrong_arguments_are_one_sentence(words: list[str], said: str) -> None:
    result = _run(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_wrong_use_of_the_command_is_exit_code_2() -> None:
    assert _run("nonsense").exit_code == 2
    assert _run("models", "--limit", "0").exit_code == 2
    result = _run("serve", "./a", "--model-dir", "./b")
    assert result.exit_code == 2
    assert "found two model directories: ./a and ./b; expected one" in result.stderr


def test_serve_has_a_flag_for_every_setting() -> None:
    words = _run("serve", "--help").stdout
    assert all(f"{flag_of(name)} " in words for name in TABLE)


def test_serve_refuses_wrong_settings_with_one_line_each(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("sync_intervall: 1s\n")
    result = _run("serve", "./models", "--config", str(file), "--port", "http")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"hotset: {file}: sync_intervall: found an unknown setting; did you mean sync_interval?",
        "hotset: --port: found 'http', expected a whole number from 0 to 65535",
    ]


def test_config_check_tells_what_differs_and_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("model_dir: ./models\nsync_interval: 90s\nport: 8500\n")
    result = _run("config", "check", str(file))
    assert result.exit_code == 0
    first, *table = result.stdout.splitlines()
    assert first == f"{file}: good"
    assert [line.split() for line in table[1:]] == [["model_dir", "./models"], ["sync_interval", "1m30s"]]
    assert json.loads(_run("config", "check", str(file), "--json").stdout)["port"] == "8500"

    file.write_text("model_dir: ./models\nsync_interval: soon\n")
    result = _run("config", "check", str(file))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"hotset: {file}: sync_interval: found 'soon'")


def test_config_schema_and_docs_are_printed() -> None:
    assert json.loads(_run("config", "schema").stdout) == json_schema()
    assert _run("config", "docs").stdout == markdown()


def test_the_version_is_printed() -> None:
    assert _run("version").stdout.startswith("hotset 0.")


@pytest.mark.parametrize("module", ["hotset", "hotset.cli"])
def test_the_package_runs_as_a_module(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "version"], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("hotset ")


def test_config_check_of_a_store_that_does_not_fit_prints_both_trees(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x")
    result = CliRunner().invoke(app, ["config", "check", "--store"], env={"HOTSET_MODEL_DIR": str(tmp_path)})
    assert result.exit_code == 1
    assert "paris/" in result.output
    assert "readme.txt" in result.output
    assert "no models that fit" in result.output


def test_config_check_of_a_store_that_fits_counts_its_models(tmp_path: Path) -> None:
    (tmp_path / "paris" / "1").mkdir(parents=True)
    (tmp_path / "paris" / "1" / "model.joblib").write_text("x")
    result = CliRunner().invoke(app, ["config", "check", "--store"], env={"HOTSET_MODEL_DIR": str(tmp_path)})
    assert result.exit_code == 0
    assert "1 models, 1 versions" in result.output


def test_device_memory_is_shown_where_there_is_any(remote: Remote) -> None:
    remote.answer("GET", "/status", STATUS)
    text = _run("status", url=remote.url).stdout
    assert "cuda:1" in text
    assert "3GiB" in text
    assert "4GiB" in text
    on_device = VersionStatus("paris", 1, VersionState.READY, "memory", device_bytes=5 * 1024**3)
    table = models_table([ModelStatus("paris", 1, versions=(on_device,))])
    assert "device" in [column.header for column in table.columns]
    assert "device" not in [column.header for column in models_table([ModelStatus("rome", 1)]).columns]
