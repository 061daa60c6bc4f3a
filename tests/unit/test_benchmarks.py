"""The benchmarks' own reading and counting: what turns other programs' output into figures."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree as ET

import joblib
import numpy as np
import pytest

from benchmark_modules import BENCHMARKS, Modules, benchmark_modules
from hotset.events import Loaded
from hotset.keys import ModelKey
from hotset.metrics import Metrics


@pytest.fixture(name="bench")
def _bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    with benchmark_modules(monkeypatch) as modules:
        yield modules


def test_every_section_can_be_run(bench: Modules) -> None:
    for name in bench.run.SECTIONS:
        (options,) = inspect.signature(getattr(bench, name).run).parameters
        assert options == "options", name


def test_what_wrk_prints_becomes_a_result(bench: Modules) -> None:
    told = (
        "Running 2s test\n"
        'RESULT {"requests": 1000, "duration": 2000000, "p50": 1500, "p90": 3000, "p99": 9000, "p999": 9500, '
        '"max": 20000, "refused": 40, "broken": 2}\n'
    )
    result = bench.generators.parse_wrk(told, cpu_s=0.5)
    assert (result.seconds, result.p50_ms, result.p99_ms, result.max_ms) == (2.0, 1.5, 9.0, 20.0)
    assert (result.requests, result.per_second, result.failures) == (1002, 480.0, 42)
    assert result.own_cpu == 0.25


@pytest.mark.parametrize("told", ["", "unable to connect", "RESULT {}\nRESULT {}\n"])
def test_no_result_of_wrk_is_an_error_with_what_it_said(bench: Modules, told: str) -> None:
    with pytest.raises(RuntimeError, match="expected one line with RESULT"):
        bench.generators.parse_wrk(told, cpu_s=0.0)


def test_percentiles_are_values_that_occurred(bench: Modules) -> None:
    ordered = [number / 1e3 for number in range(1, 101)]
    assert bench.load.percentiles_ms(ordered, (50, 99, 99.9, 100)) == [50.0, 99.0, 100.0, 100.0]
    assert bench.load.percentiles_ms([], (50, 99)) == [0.0, 0.0]


def test_a_raw_request_says_how_long_its_body_is(bench: Modules) -> None:
    request = bench.load.Request("/x", "é")
    head, _, body = bench.load.raw_request(request).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_a_raw_request_without_a_body_is_a_get(bench: Modules) -> None:
    raw = bench.load.raw_request(bench.load.Request("/x"))
    assert raw == b"GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def test_a_ratio_is_the_median_of_neighbours(bench: Modules) -> None:
    speeds = [(100, 50), (10, 10), (90, 30)]
    samples = [sample(bench, *each) for pair in speeds for each in zip("ab", pair, strict=True)]
    ours, theirs = bench.rounds.of(samples, "a", 8), bench.rounds.of(samples, "b")
    assert bench.rounds.ratio(ours, theirs) == 2.0
    assert bench.rounds.summary(ours).per_second == 90.0


def sample(bench: Modules, subject: str, per_second: int) -> Any:
    result = bench.load.Result(per_second, 1.0, 1.0, 1.5, 2.0, 2.5, 3.0)
    return bench.rounds.Sample(subject, 8, 0.0, result, 100.0)


def test_the_metrics_page_tells_of_answers_hits_and_loads(bench: Modules) -> None:
    metrics = Metrics()
    for tier in ("memory", "memory", "disk"):
        metrics.request_observer("hotset").ok(0.001, tier, ModelKey("paris", 1))
    metrics.on_event(Loaded(ModelKey("paris", 1), 1, "sklearn", 100, 0.5))
    assert bench.churn.counted(metrics.render().decode()) == (3, 2, 1)


def test_zipf_draws_the_same_numbers_again_and_some_much_more_often(bench: Modules) -> None:
    drawn = list(islice(bench.models.zipf(50, exponent=1.0, seed=1), 2000))
    assert drawn == list(islice(bench.models.zipf(50, exponent=1.0, seed=1), 2000))
    assert set(drawn) <= set(range(50))
    most = max(drawn.count(number) for number in range(50))
    assert most > 8 * 2000 / 50


def test_a_request_is_one_line_of_the_file_for_wrk(bench: Modules) -> None:
    request = bench.models.request_for(7)
    assert request.path == "/models/city-000007/predict"
    assert not {"\t", "\n"} & set(request.path + request.body)
    assert len(json.loads(request.body)["instances"][0]) == bench.models.FEATURES


def test_the_models_that_are_measured_load_and_answer_otherwise_each(bench: Modules, tmp_path: Path) -> None:
    models = tmp_path / "models"
    bench.models.write_models(models, 2)
    bench.models.write_version(models, 5, 3)
    bench.models.write_forests(models, 1)
    files = sorted(models.rglob("model.joblib"))
    answers = [joblib.load(file).predict([bench.models.ROW])[0] for file in files]
    assert [file.parent.name for file in files] == ["city-000000", "city-000001", "3", "forest-0000"]
    assert len(set(answers)) == 4


class TestLoadGen:
    """The compiled generator against a server that answers as it is told."""

    @pytest.fixture(scope="class", name="program")
    @staticmethod
    def _program(tmp_path_factory: pytest.TempPathFactory) -> Path:
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None:
            pytest.skip("no C compiler")
        program = tmp_path_factory.mktemp("loadgen") / "loadgen"
        warnings = ["-Wall", "-Wextra", "-Werror"]
        subprocess.run([compiler, "-O2", *warnings, "-o", program, BENCHMARKS / "loadgen.c"], check=True)
        return program

    def test_the_closed_loop_sends_the_next_request_after_the_answer(
        self, bench: Modules, program: Path, answering: Answering
    ) -> None:
        server = answering()
        requests = tuple(bench.load.Request(f"/{number}", "{}") for number in range(3))
        job = bench.load.Job(server.port, requests, 1, 0.3)
        trace = bench.generators.LoadGen(program).trace(job)
        result = trace.result
        assert result.requests == len(trace.took_s) == server.answered > 0
        assert (result.failures, result.unsent) == (0, 0)
        assert server.paths[:4] == [b"/0", b"/1", b"/2", b"/0"]

    def test_the_open_loop_counts_from_the_turn_and_hides_no_waiting(
        self, bench: Modules, program: Path, answering: Answering
    ) -> None:
        server = answering(pause_s=0.05)
        job = bench.load.Job(server.port, (bench.load.Request("/x", "{}"),), 1, 0.5, 100.0)
        trace = bench.generators.LoadGen(program).trace(job)
        result = trace.result
        assert result.requests == 50  # each turn is counted, sent or not
        assert result.unsent >= 50 - 0.5 / 0.05
        assert result.requests == server.answered + result.unsent
        assert trace.turn_s[1] - trace.turn_s[0] == pytest.approx(0.01)
        # At 20 answers a second every request waits longer than the one before: the last for most of the time.
        assert result.max_ms > 200

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno",
            b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        ],
    )
    def test_answers_that_are_no_2xx_are_refused(
        self, bench: Modules, program: Path, answering: Answering, answer: bytes
    ) -> None:
        server = answering(answer)
        job = bench.load.Job(server.port, (bench.load.Request("/x", "{}"),), 1, 0.1)
        result = bench.generators.LoadGen(program).run(job)
        assert result.refused == result.requests == server.answered > 0

    def test_an_answer_in_pieces_is_one_answer(
        self, bench: Modules, program: Path, answering: Answering
    ) -> None:
        server = answering(piece_bytes=7)
        job = bench.load.Job(server.port, (bench.load.Request("/x", "{}"),), 1, 0.2)
        result = bench.generators.LoadGen(program).run(job)
        assert result.answers == server.answered > 0

    def test_nobody_listening_is_told_as_broken(self, bench: Modules, program: Path) -> None:
        job = bench.load.Job(bench.subjects.free_port(), (bench.load.Request("/x", "{}"),), 1, 0.05)
        result = bench.generators.LoadGen(program).run(job)
        assert result.broken > 0
        assert result.answers <= 0


GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n[1]"


class Answering(Protocol):
    """Starts a server that answers as told."""

    def __call__(
        self, answer: bytes = ..., *, pause_s: float = ..., piece_bytes: int = ...
    ) -> ScriptedServer: ...


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Answers every request with the same bytes."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: bytes, pause_s: float, piece_bytes: int) -> None:
        super().__init__(("127.0.0.1", 0), Scripted)
        self.answer, self.pause_s, self.piece_bytes = answer, pause_s, piece_bytes or len(answer)
        self.port: int = self.server_address[1]
        self.paths: list[bytes] = []

    @property
    def answered(self) -> int:
        return len(self.paths)


class Scripted(socketserver.StreamRequestHandler):
    """One connection: requests whose bodies are two bytes."""

    server: ScriptedServer

    def handle(self) -> None:
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while line := self.rfile.readline():
            while self.rfile.readline() != b"\r\n":
                pass
            self.rfile.read(2)
            time.sleep(self.server.pause_s)
            self.server.paths.append(line.split()[1])
            for start in range(0, len(self.server.answer), self.server.piece_bytes):
                self.wfile.write(self.server.answer[start : start + self.server.piece_bytes])


@pytest.fixture(name="answering")
def _answering() -> Iterator[Answering]:
    with ExitStack() as started:

        def start(answer: bytes = GOOD, *, pause_s: float = 0.0, piece_bytes: int = 0) -> ScriptedServer:
            server = started.enter_context(ScriptedServer(answer, pause_s, piece_bytes))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            started.callback(thread.join)
            started.callback(server.shutdown)
            return server

        yield start


class TestReport:
    """One run, written down."""

    def report(self, bench: Modules) -> Any:
        section, report = bench.section, bench.report
        found = section.Section(
            title="Hot <path>",
            about="What was done.",
            grids=(section.Grid("Closed loop", ("server", "req/s"), (("hotset", "1,000"), ("a|b", "7"))),),
            plots=(
                section.Bars(
                    "Rate", "req/s", ("1", "8"), {"hotset": [1000.0, None], "bare": [7.0, 0.0]}, line=3.0
                ),
                section.Lines(
                    "p99", "rate", "ms", {"hotset": [(1.0, 0.2), (2.0, 30.0)], "none": []}, log=True
                ),
            ),
            goals=(
                section.at_least("rate", 3.2, 3.0, unit=" x"),
                section.at_most("p99", 1.6, 1.5, unit=" x"),
            ),
            raw={"figures": [1, 2]},
        )
        return report.Report({"processor": "fast"}, {"hot": found}, {"cold": "Traceback: no"})

    def test_the_page_stands_alone_and_is_well_formed(self, bench: Modules) -> None:
        page = bench.report.html(self.report(bench))
        assert not re.search(r"(src|href)=|https?:|@import", page)
        for plot in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
            ET.fromstring(plot)
        assert page.count("<svg") == 2
        assert "Hot &lt;path&gt;" in page

    def test_goals_say_whether_they_hold(self, bench: Modules) -> None:
        text = bench.report.markdown(self.report(bench))
        assert "| rate | ≥ 3 x | 3.20 x | holds |" in text
        assert "| p99 | ≤ 1.5 x | 1.60 x | missed |" in text
        assert "a\\|b" in text

    def test_raw_figures_goals_and_failures_are_kept(self, bench: Modules, tmp_path: Path) -> None:
        files = bench.report.keep(self.report(bench), tmp_path / "kept", "now")
        assert [file.name for file in files] == ["now.json", "now.md", "now.html"]
        kept = json.loads(files[0].read_text())
        assert kept["sections"]["hot"] == {"figures": [1, 2]}
        assert [goal["holds"] for goal in kept["goals"]] == [True, False]
        assert "no" in kept["failed"]["cold"]


@pytest.mark.parametrize(
    ("value", "step"), [(0.0, 1.0), (0.013, 0.02), (1.0, 1.0), (3.0, 5.0), (70.0, 100.0), (150.0, 200.0)]
)
def test_steps_of_an_axis_are_round(bench: Modules, value: float, step: float) -> None:
    assert bench.charts.round_step(value) == pytest.approx(step)


def test_a_p99_under_load_is_compared_with_that_alone_over_all_rounds(bench: Modules) -> None:
    def one(loading: bool, *took_ms: float) -> Any:
        took_s = np.array(took_ms) / 1e3
        return bench.interference.Round("hotset", loading, took_s, None, 0.0, 0)

    rounds = [one(False, 1, 1, 1), one(True, 2, 2, 5), one(False, 1, 1, 2), one(True, 1, 1, 1)]
    assert bench.interference.p99_ratio(rounds, "hotset") == pytest.approx(2.5)


class TestProfile:
    """What the profilers print becomes figures."""

    def test_stacks_of_the_thread_that_works(self, bench: Modules) -> None:
        raw = (
            "thread (7): MainThread;run (/v/lib/python3.11/asyncio/runners.py);f (/v/src/hotset/api/a.py) 30\n"
            "thread (7): MainThread;run (/v/lib/python3.11/asyncio/runners.py) 10\n"
            "thread (77): hotset-disk_0;_worker (/v/lib/python3.11/concurrent/futures/thread.py) 900\n"
        )
        stacks = bench.request_profile.parse_stacks(raw, thread=7)
        process = bench.request_profile.Process("gateway", 1, 7, 50.0)
        files = bench.request_profile.by_file(stacks, process)
        assert files.rows == (
            ("hotset/api/a.py", "37.5", "75%"),
            (bench.request_profile.IN_THE_LOOP, "12.5", "25%"),
        )
        functions = bench.request_profile.by_function(stacks, process)
        assert functions.rows == (("hotset/api/a.py: f", "37.5", "100%"),)

    def test_shares_of_perf(self, bench: Modules) -> None:
        told = (
            "# Overhead  Shared Object\n\n    81.50%  libpython3.11.so.1.0\n     3.25%  [kernel.kallsyms]\n"
        )
        assert bench.request_profile.parse_perf(told) == {
            "libpython3.11.so.1.0": 8150,
            "[kernel.kallsyms]": 325,
        }

    def test_instructions_of_callgrind_without_those_of_calls(self, bench: Modules) -> None:
        dump = (
            "events: Ir\nob=(1) /lib/libpython3.11.so\nfl=(1) a.c\nfn=(1) eval\n10 100\n+1 20\n"
            "cob=(2) /lib/libc.so.6\ncfn=(2) read\ncalls=3 5\n+2 5000\n* 7\n"
            "ob=(2)\nfn=(2)\n5 40\ntotals: 167\n"
        )
        seen = bench.request_profile.parse_callgrind(dump)
        assert seen == {"libpython3.11.so": 127, "libc.so.6": 40}
