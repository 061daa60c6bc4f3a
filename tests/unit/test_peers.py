"""The comparison with other servers: what it reads, says and leaves behind. The servers themselves are not needed."""

from __future__ import annotations

import importlib
import json
import sys
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PEERS = BENCHMARKS / "peers"
SERVER = """
import http.server, os, subprocess, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"value": %s}' % self.headers["model"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass

if sys.argv[1] == "break":
    raise SystemExit("nothing works")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("child", child.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


class Modules:
    """The modules of ``benchmarks/peers`` and those that they use, by name."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(name)


@pytest.fixture(name="bench")
def _bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(PEERS))
    yield Modules()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


@dataclass(frozen=True)
class FakePeer:
    """A server of a few lines, which starts a child that does not end by itself."""

    bench: Modules
    how: str = "serve"
    key: str = "fake"
    title: str = "a fake"
    environment: str = ""
    most: int = 1
    cannot: dict[Any, str] = field(default_factory=dict)

    def launch(self, place: Any) -> Any:
        script = place.folder / "script.py"
        script.write_text(SERVER)
        return self.bench.peer.Launch((sys.executable, str(script), self.how, str(place.port)))

    def request(self, model: str) -> Any:
        return self.bench.peer.PeerRequest("/predict", "{}", (("model", model),))

    def value(self, answer: Any) -> float:
        return float(answer["value"])


def place_in(bench: Modules, folder: Path) -> Any:
    return bench.peer.Place(
        Path(sys.executable), folder / "models", folder / "fake", bench.subjects.free_port(), 1, ()
    )


def test_a_peer_answers_and_leaves_nothing_behind(bench: Modules, tmp_path: Path) -> None:
    with bench.server.started(FakePeer(bench), place_in(bench, tmp_path), "7") as it:
        assert it.predict("3") == 3.0
        assert it.start_s > 0
        weight = it.weight()
        assert weight.processes == 2
        assert weight.pss_mb >= weight.uss_mb > 1
        child = int((tmp_path / "fake" / "log.txt").read_text().split()[1])
        pids = {it.server.pid, child}
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_peer_that_ends_is_told_with_the_end_of_its_log(bench: Modules, tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"ended with status 1: nothing works"),
        bench.server.started(FakePeer(bench, "break"), place_in(bench, tmp_path), "7"),
    ):
        pass


def test_variables_that_would_configure_a_peer_are_not_passed_on(
    bench: Modules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSET_PORT", "1")
    monkeypatch.setenv("RAY_SERVE_X", "1")
    monkeypatch.setenv("MLSERVER_DEBUG", "1")
    monkeypatch.setenv("SOMETHING", "else")
    with bench.server.started(FakePeer(bench), place_in(bench, tmp_path), "7") as it:
        found = psutil.Process(it.server.pid).environ()
    assert not {"HOTSET_PORT", "RAY_SERVE_X", "MLSERVER_DEBUG"} & found.keys()
    assert found["SOMETHING"] == "else"
    assert found["PATH"].startswith(str(Path(sys.executable).parent))


def test_headers_follow_the_first_line(bench: Modules) -> None:
    request = bench.peer.PeerRequest("/", "{}", (("model", "paris"), ("other", "1")))
    head, body = bench.server.raw_with_headers(request).split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[:3] == [b"POST / HTTP/1.1", b"model: paris", b"other: 1"]
    assert b"Content-Length: 2" in lines
    assert body == b"{}"
    plain = bench.load.Request("/x", "{}")
    assert bench.server.raw_with_headers(plain) == bench.load.raw_request(plain)


def test_every_peer_is_pinned_and_says_what_it_cannot_do(bench: Modules) -> None:
    chosen = [peer for module in bench.compare.MODULES for peer in module.CHOSEN]
    tried = [peer for module in bench.compare.MODULES for peer in module.CANDIDATES]
    for peers in (chosen, tried):
        assert len({it.key for it in peers}) == len(peers)
    for it in (*chosen, *tried):
        lines = (PEERS / it.environment / "requirements.txt").read_text().splitlines()
        wanted = [line for line in lines if line and not line.startswith("#")]
        assert all("==" in line for line in wanted), it.key
        assert "scikit-learn==" in " ".join(bench.environments.packages(it.environment))
        assert all(len(reason) > 20 for reason in it.cannot.values())
        assert json.loads(it.request("city-000000").body)


def test_a_new_version_and_loads_are_only_asked_of_who_can(bench: Modules, tmp_path: Path) -> None:
    row = bench.peer.Row
    for it in (peer for module in bench.compare.MODULES for peer in module.CHOSEN):
        if row.INTERFERENCE in it.cannot:
            with pytest.raises(NotImplementedError):
                it.loads(["a"])
        else:
            assert it.loads(["a", "b"]).requests
        if row.VERSION in it.cannot:
            with pytest.raises(NotImplementedError):
                it.publish(place_in(bench, tmp_path), "a", tmp_path, 2)


def outcome_of(bench: Modules, **cannot: str) -> Any:
    row = bench.peer.Row
    peer = FakePeer(bench, cannot={row[name]: reason for name, reason in cannot.items()})
    return bench.side_by_side.Outcome(peer, ["fake==1"])


def test_the_overview_shows_factors_and_why_there_are_none(bench: Modules) -> None:
    row, rows = bench.peer.Row, bench.rows
    outcome = outcome_of(bench, CHURN="it never unloads a model")
    figures = (
        rows.Figure(row.HOT, "req/s, 1 conn.", 300, 200, 1.5),
        rows.Figure(row.HOT, "req/s, 32 conn.", 2200, 100, 22.0),
        rows.Figure(row.HOT, "p99 ms, 32 conn.", 4, 2, 0.5),
    )
    outcome.found[row.HOT] = rows.Found(figures, {})
    outcome.failed[row.MANY] = "RuntimeError: no room\nand more"
    outcome.others[row.HOT] = 0.25
    found = bench.side_by_side.sections([outcome])
    grid = found["overview"].grids[0]
    cells = dict(zip(grid.columns, grid.rows[0], strict=True))
    assert cells["peer"] == "a fake"
    assert (cells["req/s, 1"], cells["req/s, 32"], cells["p99, 32"]) == ("1.50", "22", "0.50")
    assert (cells["churn, req/s"], cells["many models, req/s"], cells["memory"]) == (
        "cannot",
        "failed",
        "failed",
    )
    assert cells["start"] == "not run"
    assert cells["others took"] == "25%"
    assert found["churn"].grids[0].rows[0][-1] == "cannot: it never unloads a model"
    assert found["many"].grids[0].rows[0][-1] == "failed: RuntimeError: no room"
    assert "start" not in found


def test_the_watch_sees_when_an_answer_changes(bench: Modules) -> None:
    answers = iter([1.0, 1.0, OSError("away"), 2.0])

    def ask() -> float:
        found = next(answers, 2.0)
        if isinstance(found, OSError):
            raise found
        return found

    with bench.watch.watched(ask) as watch:
        first = watch.wait_for(1.0, limit_s=10, tolerance=1e-6)
        assert watch.wait_for(2.0000000001, limit_s=10, tolerance=1e-6) > first
        with pytest.raises(
            RuntimeError, match=r"expected the answer 3\.0 within 0\.1 s, found \[1\.0, 2\.0\]"
        ):
            watch.wait_for(3.0, limit_s=0.1, tolerance=1e-6)


def test_a_model_that_is_not_ready_yet_is_asked_again(
    bench: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([400, 400, 7.0])

    def ask(port: int, request: Any, *, limit_s: float) -> Any:
        del port, request, limit_s
        found = next(answers)
        if found == 400:
            raise urllib.error.HTTPError("http://x", 400, "not ready", Message(), None)
        return {"value": found}

    monkeypatch.setattr(bench.server, "ask", ask)
    it = bench.server.Started(FakePeer(bench), place_in(bench, Path("unused")), None, 0.0)
    assert it.first_prediction("a") == 7.0
    assert next(answers, None) is None
