"""Rows of the fault table: requests that are wrong, and models that cannot answer, under a stream for models that can."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fault_models import FaultModels
from fault_stream import Stream
from load_client import Connection
from server_process import running_server

MODELS = 4
BAD = "bad"


async def test_requests_that_are_wrong(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    names = fault_models.write_many(MODELS)
    wrong = {
        ("/models/m0/predict", b"{", "JSON"): (400, "invalid_input"),
        ("/models/m%00/predict", b"{}", "m"): (400, "invalid_input"),
        ("/models/m0/versions/-1/predict", b"{}", "-1"): (400, "invalid_input"),
        ("/models/nobody/predict", b"{}", "nobody"): (404, "model_not_found"),
        ("/models/m0/versions/7/predict", b"{}", "7"): (404, "version_not_found"),
        ("/v2/models/m0/infer", b"{}", "inputs"): (400, "invalid_input"),
    }
    with running_server(tmp_path / "disk", **fault_models.settings) as server:
        async with Stream(server, names) as stream, Connection(server.host, server.port) as own:
            await stream.goes_on()
            stream.fault_begins()
            for _ in range(20):
                for (path, body, named), (status, kind) in wrong.items():
                    answer = await own.ask("POST", path, body)
                    assert (answer.status, answer.json["kind"]) == (status, kind), answer
                    assert named in answer.json["error"]
            await stream.recovered()
            await stream.goes_on()
        fault_row("requests are wrong", stream)
        assert not server.events("fetch_failed")
        assert not server.events("load_failed")


async def test_a_version_is_asked_of_a_static_model(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = fault_models.write_many(2)
    static = {name: str(fault_models.root / name / "1") for name in names}
    settings = {name: value for name, value in fault_models.settings.items() if name != "model_dir"}
    with running_server(tmp_path / "disk", **settings, models=static) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            for _ in range(20):
                answer = await stream.beside(server.predict, "m0/versions/1")
                assert (answer.status, answer.json["kind"]) == (400, "version_not_allowed"), answer
            await stream.recovered()
        fault_row("a version is asked of a static model", stream)


@pytest.mark.parametrize(("what", "kind"), [("raise", "predict_failed"), ("exhaust", "out_of_memory")])
async def test_a_model_that_fails_in_every_predict(
    what: str, kind: str, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    with running_server(tmp_path / "disk", **fault_models.settings) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            fault_models.order(BAD, "predict", what, times=None)
            await stream.until(lambda: len(stream.failures([BAD])) > 10, what="failures")
            await stream.goes_on(models=names[:-1])
            fault_models.relent()
            stream.fault_begins()
            await stream.recovered()
        words = {"raise": "raises", "exhaust": "runs out of memory"}[what]
        fault_row(f"a model {words} in every predict", stream, touched={BAD}, kinds={kind})
        assert all("as ordered" in it.detail for it in stream.failures()) or what == "exhaust"
        assert not server.events("worker_died")


async def test_a_model_that_runs_out_of_memory_once(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    """It is tried once more, after others have left that worker."""
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    with running_server(tmp_path / "disk", **fault_models.settings, processes_per_replica=1) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            fault_models.order(BAD, "predict", "exhaust")
            await stream.until(fault_models.carried_out, what="it is done")
            await stream.recovered()
            await stream.goes_on()
        fault_row("a model runs out of memory once", stream)


async def test_a_model_is_larger_than_the_memory(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD, bytes=64 << 20)
    with running_server(tmp_path / "disk", **fault_models.settings, model_cache_size="32MiB") as server:
        async with Stream(server, names) as stream:
            stream.fault_begins()
            await stream.recovered(names[:-1])
            await stream.goes_on(models=names[:-1])
            await stream.until(lambda: bool(stream.failures([BAD])), what="a refusal")
        fault_row("a model is larger than the memory", stream, touched={BAD}, kinds={"too_large"})
        assert "33554432" in stream.failures()[0].detail, "both figures"


async def test_a_load_that_takes_longer_than_a_request_may(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    """It goes on, and the retry finds the model."""
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD, load_s=2.5)
    with running_server(tmp_path / "disk", **fault_models.settings, request_timeout="1s") as server:
        async with Stream(server, names) as stream:
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on()
        kinds = {"loading", "deadline"}  # it may end just before a request does
        fault_row("a load takes longer than a request may", stream, touched={BAD}, kinds=kinds)
        assert stream.failures()
        assert len([it for it in server.events("loaded") if it["model"] == BAD]) == 1


async def test_all_that_is_in_memory_is_in_use(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    """Two predictions hold both places; a third model is refused until one of them ends. The models in memory answer."""
    for name in ("held0", "held1"):
        fault_models.write(name, predict_s=3.0)
    fault_models.write(BAD)
    settings = {"model_cache_size": 2, "threads_per_process": 4, "request_timeout": "10s"}
    with running_server(tmp_path / "disk", **fault_models.settings, **settings) as server:
        stream = Stream(server, [BAD], connections=1)
        async with Connection(server.host, server.port) as one, Connection(server.host, server.port) as two:
            holding = [asyncio.create_task(it.predict(name)) for it, name in ((one, "held0"), (two, "held1"))]
            await stream.server_says(lambda: server.tier("memory")["leases"] == 2, what="both are in use")
            async with stream:
                stream.fault_begins()
                await stream.recovered()
            assert [(await it).json["is"] for it in holding] == ["held0", "held1"]
        fault_row("all that is in memory is in use", stream, touched={BAD}, kinds={"no_room", "loading"})


async def test_more_models_than_memory_holds_are_asked_at_once(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    """With a churn guard those in memory are answered, all of them; the others are refused, as it would take too long."""
    hot = fault_models.write_many(4)
    others = [f"other{number}" for number in range(12)]
    for name in others:
        fault_models.write(name)
    settings = {"model_cache_size": 4, "min_churn_age": "60s", "request_timeout": "2s"}
    with running_server(tmp_path / "disk", **fault_models.settings, **settings) as server:
        assert all(server.predict(name).status == 200 for name in hot)
        async with Stream(server, [*hot, *others], connections=16) as stream:
            stream.fault_begins()
            await stream.until(lambda: {it.model for it in stream.failures()} == set(others), what="refusals")
            await stream.recovered(hot)
            await stream.goes_on(models=hot)
        fault_row("more models are hot than memory holds", stream, touched=others, kinds={"no_room"})
        assert not [it for it in server.events("evicted") if it["model"] in hot]
