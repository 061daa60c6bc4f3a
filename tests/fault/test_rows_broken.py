"""Rows of the fault table: models that cannot be loaded, one or a thousand, beside good ones that must not notice."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from fault_models import FaultModels
from fault_stream import Stream
from load_client import Connection, spread
from server_process import ServerProcess, running_server

GOOD = [f"good{number}" for number in range(4)]


def break_file(models: FaultModels, name: str, version: int = 1) -> Path:
    """Write a version whose file is no JSON."""
    file = models.root / name / str(version) / "value.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    return file


def version_status(server: ServerProcess, name: str) -> Any:
    (version,) = server.request("GET", f"/models/{name}").json["versions"]
    return version


@pytest.mark.slow
async def test_a_broken_model_is_left_alone_says_why_and_is_back_once_its_files_change(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    for name in GOOD:
        fault_models.write(name)
    break_file(fault_models, "bad")
    settings = {**fault_models.settings, "sync_interval": "200ms", "load_failure_backoff": "10m"}
    with running_server(tmp_path / "disk", **{**settings, "load_failure_backoff_max": "1h"}) as server:
        async with Stream(server, [*GOOD, "bad"]) as stream:
            stream.fault_begins()
            await stream.goes_on(30, models=GOOD)
            assert len(stream.failures(["bad"])) > 20
            assert len(server.events("load_failed")) == 1, "it was tried again before its time"
            shown = await asyncio.to_thread(version_status, server, "bad")
            assert (shown["state"], shown["failure"]) == ("UNAVAILABLE", "load_failed")
            assert "JSONDecodeError" in shown["reason"]
            assert 500 < shown["retry_in_s"] <= 600
            index = (await stream.beside(server.request, "POST", "/v2/repository/index", {})).json
            assert [
                (it["state"], "JSONDecodeError" in it["reason"]) for it in index if it["name"] == "bad"
            ] == [("UNAVAILABLE", True)]
            stream.fault_begins()
            value = {"is": "bad", "version": 1, "orders": str(fault_models.orders)}
            (fault_models.root / "bad" / "1" / "value.json").write_text(json.dumps(value))
            await stream.recovered()
            await stream.goes_on()
        fault_row("a model is broken, and mended", stream, touched={"bad"}, kinds={"load_failed"})


@pytest.mark.slow
async def test_a_model_that_fails_now_and_then_is_tried_again_later_each_time(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    for name in [*GOOD, "bad"]:
        fault_models.write(name)
    fault_models.order("bad", "load", "raise", times=3)
    settings = {**fault_models.settings, "load_failure_backoff": "200ms", "load_failure_backoff_max": "1h"}
    with running_server(tmp_path / "disk", **settings) as server:
        async with Stream(server, [*GOOD, "bad"]) as stream:
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on()
        fault_row("a model fails to load three times", stream, touched={"bad"}, kinds={"load_failed"})
        waits = [it["retry_in_s"] for it in server.events("load_failed")]
        assert waits == pytest.approx([0.2, 0.4, 0.8], abs=0.05)


# A thousand of them

MANY = 1000
ROUNDS = 1


def write_thousands(models: FaultModels, *, broken: bool) -> None:
    for number in range(MANY):
        models.write(f"good{number}")
        if broken:
            break_file(models, f"bad{number}")


async def ask_in_turn(server: ServerProcess, names: Iterator[str], statuses: dict[str, set[int]]) -> None:
    async def ask(name: str, connection: Connection) -> None:
        answer = await connection.predict(name)
        statuses.setdefault(name, set()).add(answer.status)
        if answer.status == 200:
            assert answer.json["is"] == name
        else:
            assert (answer.status, answer.json["kind"]) == (500, "load_failed"), answer

    await spread(server.host, server.port, connections=4, work=(partial(ask, it) for it in names))


def spent_s(server: ServerProcess) -> float:
    """The processor time of the server and its children, until now."""
    parts = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    return sum(part.cpu_times().user + part.cpu_times().system for part in parts)


async def cost_of_good_ones(server: ServerProcess) -> tuple[float, float]:
    """Ask every good model in turn, far more than fit; return the seconds of the wall and of the processors a request."""
    names = itertools.chain.from_iterable([[f"good{number}" for number in range(MANY)]] * ROUNDS)
    statuses: dict[str, set[int]] = {}
    began_s, before_s = time.perf_counter(), spent_s(server)
    await ask_in_turn(server, names, statuses)
    took_s, processor_s = time.perf_counter() - began_s, spent_s(server) - before_s
    assert all(found == {200} for found in statuses.values())
    assert len(statuses) == MANY
    return took_s / (ROUNDS * MANY), processor_s / (ROUNDS * MANY)


@pytest.mark.slow
async def test_a_thousand_broken_models_cost_a_thousand_good_ones_nothing(
    tmp_path: Path, record_property
) -> None:
    """The same requests with and without them: all are answered, and what they cost is printed."""
    costs = {}
    for broken in (False, True):
        root = tmp_path / f"broken-{broken}"
        root.mkdir()
        models = FaultModels(root / "models")
        write_thousands(models, broken=broken)
        settings = {
            **models.settings,
            "model_cache_size": 100,
            "disk_model_cache_size": 5000,
            "sync_interval": "2s",
            "load_failure_backoff": "1h",
            "load_failure_backoff_max": "1h",
        }
        with running_server(root / "disk", **settings) as server:
            every = [f"good{number}" for number in range(MANY)]
            if broken:  # each has failed once, and is remembered
                every = [
                    name
                    for pair in zip(every, (f"bad{n}" for n in range(MANY)), strict=True)
                    for name in pair
                ]
            statuses: dict[str, set[int]] = {}
            await ask_in_turn(server, iter(every), statuses)
            assert {name: found for name, found in statuses.items() if name.startswith("good")} == {
                f"good{number}": {200} for number in range(MANY)
            }
            assert all(found == {500} for name, found in statuses.items() if name.startswith("bad"))
            costs[broken] = await cost_of_good_ones(server)
            failed = [model for name, model in server.models().items() if name.startswith("bad")]
            assert len(failed) == (MANY if broken else 0)
            assert all(it["versions"][0]["failure"] == "load_failed" for it in failed)
            assert len(server.events("load_failed")) == len(failed), "a broken one was tried twice"
            assert not server.events("worker_died")
    (wall, processor), (wall_beside, processor_beside) = costs[False], costs[True]
    for what, ratio in (("wall", wall_beside / wall), ("processor", processor_beside / processor)):
        print(
            f"{MANY} good models beside {MANY} broken ones, {what} time a request: {ratio:.2f} of that without"
        )
        record_property(f"beside broken models, {what} time", round(ratio, 3))
