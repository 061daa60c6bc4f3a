"""The benchmarks' own reading and counting: what turns other programs' output into figures."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from hotset.events import Loaded
from hotset.keys import ModelKey
from hotset.metrics import Metrics

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Modules:
    """The modules of ``benchmarks``, by name."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(name)


@pytest.fixture(name="bench")
def _bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield Modules()
    ours = {file.stem for file in BENCHMARKS.glob("*.py")}
    for name in ours & sys.modules.keys():
        del sys.modules[name]


def test_what_wrk_prints_becomes_a_result(bench: Modules) -> None:
    told = (
        "Running 2s test\n"
        'RESULT {"requests": 1000, "duration": 2000000, "p50": 1500, "p99": 9000, "refused": 40, "broken": 2}\n'
    )
    result = bench.load.parse_wrk(told)
    assert (result.seconds, result.p50_ms, result.p99_ms) == (2.0, 1.5, 9.0)
    assert (result.per_second, result.failures) == (480.0, 42)


@pytest.mark.parametrize("told", ["", "unable to connect", "RESULT {}\nRESULT {}\n"])
def test_no_result_of_wrk_is_an_error_with_what_it_said(bench: Modules, told: str) -> None:
    with pytest.raises(RuntimeError, match="expected one line with RESULT"):
        bench.load.parse_wrk(told)


def test_percentiles(bench: Modules) -> None:
    ordered = [float(number) for number in range(100)]
    assert [bench.load.percentile(ordered, it) for it in (0, 50, 99, 100)] == [0.0, 50.0, 99.0, 99.0]
    assert bench.load.percentile([], 99) == 0.0


def test_an_answer_is_whole_once_its_body_is_there(bench: Modules) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n[1]\n"
    wholes = [bench.asyncio_load.is_whole(answer[:end]) for end in range(len(answer) + 1)]
    assert wholes == [False] * len(answer) + [True]


def test_a_raw_request_says_how_long_its_body_is(bench: Modules) -> None:
    head, _, body = bench.asyncio_load.raw_request({"path": "/x", "body": "é"}).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_a_ratio_is_the_median_of_neighbours(bench: Modules) -> None:
    speeds = [(100, 50), (10, 10), (90, 30)]
    samples = [sample(bench, *each) for pair in speeds for each in zip("ab", pair, strict=True)]
    ours, theirs = bench.rounds.of(samples, "a", 8), bench.rounds.of(samples, "b", 8)
    assert bench.rounds.ratio(ours, theirs) == 2.0
    assert bench.rounds.summary(ours).per_second == 90.0


def sample(bench: Modules, server: str, per_second: int) -> object:
    result = bench.load.Result(per_second, 1.0, 1.0, 2.0, 0, 0)
    return bench.rounds.Sample(server, 8, result, 100.0)


def test_the_metrics_page_tells_of_answers_hits_and_loads(bench: Modules) -> None:
    metrics = Metrics()
    for tier in ("memory", "memory", "disk"):
        metrics.request_observer("hotset").ok(0.001, tier)
    metrics.on_event(Loaded(ModelKey("paris", 1), 1, "sklearn", 100, 0.5))
    assert bench.churn.counts(metrics.render().decode()) == (3, 2, 1)


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
