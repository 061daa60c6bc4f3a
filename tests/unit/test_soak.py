"""The soak's own checks: each of them can fail, and is silent where nothing is wrong."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmark_modules import Modules, benchmark_modules


@pytest.fixture(name="bench")
def _bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    with benchmark_modules(monkeypatch) as modules:
        yield modules


class TestJournal:
    """Promises 1, 2 and 3, at every load and unload."""

    def journal(self, bench: Modules, *lines: str, most: int = 2, dead: tuple[int, ...] = ()) -> Any:
        journal = bench.soak_journal.Journal(most, lives=lambda pid: pid not in dead)
        for line in lines:
            journal.note(line)
        return journal

    def test_as_many_as_may_be_are_right(self, bench: Modules) -> None:
        journal = self.journal(bench, "load 7 0 a 1 1", "load 8 0 b 1 1", "unload 7 0", "load 8 1 c 1 1")
        assert (journal.broken, journal.peak, journal.loads.total()) == ([], 2, 3)

    def test_one_more_is_too_many(self, bench: Modules) -> None:
        journal = self.journal(bench, "load 7 0 a 1 1", "load 8 0 b 1 1", "load 8 1 c 1 1")
        (sentence,) = journal.broken
        assert sentence.startswith("3 models in memory, where 2 may be")

    def test_what_a_dead_process_held_is_gone(self, bench: Modules) -> None:
        lines = ("load 7 0 a 1 1", "load 8 0 b 1 1", "load 8 1 a 1 1", "unload 7 0")
        journal = self.journal(bench, *lines, dead=(7,))
        for now_s in (100.0, 111.0):
            journal.look(now_s)
        assert (journal.broken, journal.doubles) == ([], set())

    def test_an_unload_of_what_is_not_there(self, bench: Modules) -> None:
        journal = self.journal(bench, "load 7 0 a 1 1", "unload 7 0", "unload 7 0")
        assert journal.broken == ["process 7 unloaded its model 0, which was not there"]

    def test_two_that_stay_are_right_for_a_copy_alone(self, bench: Modules) -> None:
        journal = self.journal(bench, "load 7 0 a 1 1", "load 8 0 a 1 1")
        log = bench.soak_journal.ServerLog()
        journal.look(100.0)
        assert bench.soak_journal.loaded_twice(journal, log) == []
        journal.look(111.0)
        assert bench.soak_journal.loaded_twice(journal, log) == ["a@1 was in memory twice, and is no copy"]
        log.note(json.dumps({"event": "copied", "model": "a", "version": 1}))
        assert bench.soak_journal.loaded_twice(journal, log) == []

    def test_another_revision_is_another_model(self, bench: Modules) -> None:
        journal = self.journal(bench, "load 7 0 a 1 1", "load 8 0 a 1 2")
        for now_s in (100.0, 111.0):
            journal.look(now_s)
        assert journal.doubles == set()

    def test_one_that_is_loaded_anew_while_it_leaves_is_right(self, bench: Modules) -> None:
        journal = self.journal(bench, "load 7 0 a 1 1", "load 8 0 a 1 1")
        journal.look(100.0)
        journal.note("unload 7 0")
        for now_s in (105.0, 111.0, 130.0):
            journal.look(now_s)
        assert journal.doubles == set()

    @pytest.mark.parametrize(
        ("fetches", "loads", "deaths", "problems"),
        [(1, 1, 0, 0), (2, 1, 0, 1), (1, 2, 0, 1), (1, 2, 1, 0), (1, 0, 0, 1), (2, 2, 0, 2)],
    )
    def test_a_crowd_at_one_cold_model_is_one_fetch_and_one_load(
        self, bench: Modules, fetches: int, loads: int, deaths: int, problems: int
    ) -> None:
        lines = [line for n in range(loads) for line in (f"load 7 {n} a 1 1", f"unload 7 {n}")]
        log = bench.soak_journal.ServerLog()
        events = [{"event": "fetched", "model": "a"}] * fetches + [{"event": "worker_died"}] * (3 + deaths)
        for line in ("no JSON", *map(json.dumps, events)):
            log.note(line)
        found = bench.soak_journal.crowd_was_served_once(
            "a", self.journal(bench, *lines), log, deaths_before=3
        )
        assert len(found) == problems

    def test_only_whole_lines_are_read_and_each_once(self, bench: Modules, tmp_path: Path) -> None:
        tail = bench.soak_journal.Tail(tmp_path / "journal")
        assert [*tail.lines()] == []
        with (tmp_path / "journal").open("w", buffering=1) as file:
            file.write("one\ntw")
            file.flush()
            assert [*tail.lines()] == ["one"]
            file.write("o\nthree\n")
            assert [*tail.lines()] == ["two", "three"]


class TestNeighbours:
    """Promises 4 and 10: ratios, and none of too little."""

    @pytest.mark.parametrize(("beside", "is_delayed"), [(200.0, False), (101.0, False), (3.0, True)])
    def test_who_answers_next_to_nothing_beside_a_slow_model_is_delayed(
        self, bench: Modules, beside: float, is_delayed: bool
    ) -> None:
        neighbours = bench.soak_neighbours.Neighbours()
        for _ in range(bench.soak_neighbours.LEAST_PHASES):
            neighbours.note(200.0, is_beside=False)
            assert neighbours.delayed() == []
            neighbours.note(beside, is_beside=True)
        assert bool(neighbours.delayed()) == is_delayed

    @pytest.mark.parametrize(("many_ms", "is_dearer"), [(1.0, False), (1.4, False), (1.7, True)])
    def test_a_request_that_looks_at_every_model_is_dearer(
        self, bench: Modules, many_ms: float, is_dearer: bool
    ) -> None:
        others = [50.0] * 60  # passes over the store, in most of the answers
        few = [[1.0] * 40 + others, [1.1] * 40 + others]
        scale = bench.soak_neighbours.Scale(few, [many_ms] * 40 + others, 5000)
        assert bool(scale.dearer()) == is_dearer


class TestPages:
    """Promises 1, 2 and 9, as the server's own pages tell."""

    TIER: Mapping[str, object] = {
        "tier": "disk", "models": 5, "bytes": 50, "capacity_models": 5, "capacity_bytes": None, "leases": 0,
    }  # fmt: skip

    def test_a_full_tier_is_right_and_a_fuller_one_is_not(self, bench: Modules) -> None:
        assert [*bench.soak_status.over_capacity([self.TIER])] == []
        fuller = [{**self.TIER, "models": 6}, {**self.TIER, "capacity_bytes": 49}]
        assert len([*bench.soak_status.over_capacity(fuller)]) == 2

    def test_leases_and_requests_that_nobody_has(self, bench: Modules) -> None:
        status = {"requests": {"inside": 0}, "server": {"tiers": [self.TIER]}}
        assert [*bench.soak_status.still_in_use(status)] == []
        status = {"requests": {"inside": 1}, "server": {"tiers": [{**self.TIER, "leases": 2}]}}
        assert len([*bench.soak_status.still_in_use(status)]) == 2

    def test_what_clients_say_is_in_no_metric(self, bench: Modules) -> None:
        page = '# HELP x\nhotset_requests_total{outcome="ok"} 7\n'
        assert [*bench.soak_status.kept_of_clients(page)] == []
        assert len([*bench.soak_status.kept_of_clients(page + 'x{model="nobody-7"} 1\n')]) == 1
        assert len([*bench.soak_status.kept_of_clients("x 1\n" * 3001)]) == 1


class TestGrowth:
    """Promise 8, as far as a soak lasts."""

    def grown(self, bench: Modules, mib: float, files: float, *, looks: int = 120) -> list[str]:
        growth = bench.soak_growth.Growth()
        for number in range(looks):
            part = number / looks
            growth.note(
                "child",
                bench.soak_growth.Sample(number, 7, 100 + mib * part, 50 + int(files * part), 9),
            )
        return [*growth.too_much()]

    def test_a_process_that_grows_is_told(self, bench: Modules) -> None:
        assert self.grown(bench, 30, 20) == []
        (sentence,) = self.grown(bench, 100, 0)
        assert "resident MiB" in sentence
        (sentence,) = self.grown(bench, 0, 200)
        assert "open files" in sentence

    def test_a_few_looks_say_nothing(self, bench: Modules) -> None:
        assert self.grown(bench, 1000, 1000, looks=20) == []


class TestVerdict:
    """Promises 5, 6 and 7, in every answer."""

    @pytest.fixture(name="models")
    @staticmethod
    def _models(bench: Modules, tmp_path: Path) -> Any:
        return bench.soak_models.Models(tmp_path / "store" / "models", random.Random(1), count=2)

    def judged(
        self, bench: Modules, models: Any, asked: Any, *, status: int = 200, verdict: Any = None, **more: Any
    ) -> Any:
        verdict = verdict or bench.soak_verdict.Verdict(models)
        told = {"name": asked.name, "version": 1, "revision": 1, "torn": False, "unloaded": False} | more
        headers = {"x-model-version": str(told["version"]), "retry-after": "1"}
        answer = bench.soak_verdict.Answer(status, headers, json.dumps(told).encode(), 0.1)
        verdict.prediction(asked, answer, {})
        return verdict

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({}, ""),
            ({"name": "city-00002"}, "another model"),
            ({"version": 2}, "never offered"),
            ({"revision": 2}, "never offered"),
            ({"torn": True}, "torn"),
            ({"unloaded": True}, "unloaded while it predicted"),
        ],
    )
    def test_an_answer(self, bench: Modules, models: Any, wrong: dict[str, Any], words: str) -> None:
        verdict = self.judged(bench, models, bench.soak_verdict.Question("city-00001"), **wrong)
        assert (verdict.counts["wrong"], len(verdict.broken)) == ((1, 1) if words else (0, 0))
        assert words in "".join(verdict.broken)

    def test_a_refusal_without_a_fault_is_a_failure(self, bench: Modules, models: Any) -> None:
        models.touched_at.clear()
        asked = bench.soak_verdict.Question("city-00001")
        for kind in ("store_unavailable", "worker_died", "disk_full", "shutting_down", "internal", "loading"):
            verdict = self.judged(bench, models, asked, status=503, kind=kind)
            assert verdict.counts["failed"] == 1, kind

    def test_what_is_on_disk_is_answered_while_the_store_is_away(self, bench: Modules, models: Any) -> None:
        listed = [
            {"name": "city-00001", "latest": 1, "versions": [{"version": 1, "tier": "disk"}]},
            {
                "name": "city-00002",
                "latest": 2,
                "versions": [{"version": 1, "tier": "disk"}, {"version": 2, "tier": "store"}],
            },
        ]
        for name, failed in (("city-00001", 1), ("city-00002", 0)):
            verdict = bench.soak_verdict.Verdict(models)
            verdict.away_until_s = time.monotonic() + 60
            verdict.outage = bench.soak_verdict.Outage.seen(listed)
            asked = bench.soak_verdict.Question(name)
            self.judged(bench, models, asked, verdict=verdict, status=503, kind="store_unavailable")
            assert verdict.counts["failed"] == failed, name
        later = bench.soak_verdict.Outage(0.0, frozenset({"city-00001"}), frozenset(), until_s=1.0)
        assert not later.must_be_answered(bench.soak_verdict.Question("city-00001"))

    @pytest.mark.parametrize(
        ("touched_s", "began_s", "failed"),
        [(-5, -100, 0), (-20, -100, 1), (-20, -10, 0), (-40, -20, 1), (-500, -1, 1)],
    )
    def test_a_change_is_felt_until_it_has_settled_at_the_server_that_sees_it(
        self, bench: Modules, models: Any, touched_s: float, began_s: float, failed: int
    ) -> None:
        """Times are from now."""
        verdict = bench.soak_verdict.Verdict(models)
        asked = bench.soak_verdict.Question("city-00001")
        models.touched_at["city-00001"] = asked.began_s + touched_s
        verdict.began_s = asked.began_s + began_s
        self.judged(bench, models, asked, verdict=verdict, status=503, kind="store_unavailable")
        assert verdict.counts["failed"] == failed

    @pytest.mark.parametrize(("before_s", "failed"), [(1.0, 1), (0.0, 0)])
    def test_a_request_that_was_inside_as_the_server_was_asked_to_end(
        self, bench: Modules, models: Any, before_s: float, failed: int
    ) -> None:
        verdict = bench.soak_verdict.Verdict(models)
        asked = bench.soak_verdict.Question("city-00001")
        verdict.ended_s = asked.began_s + before_s
        verdict.cut_off(asked, ConnectionError("ended"), is_killed=False)
        self.judged(bench, models, asked, verdict=verdict, status=503, kind="shutting_down")
        assert verdict.counts["failed"] == 2 * failed


async def test_a_version_is_written_file_by_file_and_deleted_so(bench: Modules, tmp_path: Path) -> None:
    """A torn version can be seen: each of its files tells where it is from."""
    models = bench.soak_models.Models(tmp_path / "store" / "models", random.Random(1), count=1)
    await models.change("city-00001")
    directory = models.root / "city-00001" / "1"
    parts = sorted(directory.iterdir())
    namespace: dict[str, Any] = {}
    exec(bench.soak_predictor.source(tmp_path / "journal"), namespace)
    predictor = namespace["Predictor"]()
    whole = predictor.load_model(directory)
    assert predictor.predict(whole) == {
        "name": "city-00001", "version": 1, "revision": 2, "torn": False, "unloaded": False,
    }  # fmt: skip
    parts[1].write_text(parts[1].read_text().replace('"revision": 2', '"revision": 1'))
    assert predictor.predict(predictor.load_model(directory))["torn"]
    parts[1].unlink()
    assert predictor.predict(predictor.load_model(directory))["torn"]
    predictor.unload_model(whole)
    assert predictor.predict(whole)["unloaded"]
    verbs = [line.split()[0] for line in (tmp_path / "journal").read_text().splitlines()]
    assert verbs == ["load", "load", "load", "unload"]
    await models.delete_model("city-00001")
    assert not directory.exists()
