"""Rows of the fault table: a child that crashes, hangs or is killed, under a stream of requests for other models too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fault_models import FaultModels
from fault_stream import Stream
from server_process import ServerProcess, running_server

MODELS = 6
BAD = "bad"


@contextmanager
def serving(models: FaultModels, tmp_path: Path, **more: object) -> Iterator[ServerProcess]:
    settings = {"processes_per_replica": 1, "threads_per_process": 2, "load_failure_backoff": "1s"}
    with running_server(tmp_path / "disk", **{**settings, **models.settings, **more}) as server:
        yield server


def kill_one_with_models(server: ServerProcess) -> None:
    busiest = max(server.status()["server"]["workers"], key=lambda worker: worker["models"])
    assert busiest["models"] > 0
    os.kill(busiest["pid"], signal.SIGKILL)


def deaths(server: ServerProcess) -> list[str]:
    return [event["reason"] for event in server.events("worker_died")]


def version_of(server: ServerProcess, name: str) -> Mapping[str, object]:
    (found,) = server.models()[name]["versions"]
    return found


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_child_is_killed(
    processes: int, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = fault_models.write_many(MODELS)
    with serving(fault_models, tmp_path, processes_per_replica=processes) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            kill_one_with_models(server)
            await stream.recovered()
            await stream.goes_on()
        fault_row(f"a child of {processes} is killed", stream)


async def test_a_child_dies_while_idle(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    names = fault_models.write_many(MODELS)
    with serving(fault_models, tmp_path) as server:
        assert all(server.predict(name).status == 200 for name in names)
        stream = Stream(server, names)
        stream.fault_begins()
        kill_one_with_models(server)
        async with stream:
            await stream.recovered()
            await stream.goes_on()
        fault_row("a child dies while idle", stream)
        assert "at" not in server.events("worker_died")[0]


@pytest.mark.parametrize(
    ("what", "ends"),
    [
        pytest.param("crash", "signal 11", id="crash"),
        pytest.param("exit", "status 3", id="exit", marks=pytest.mark.faults),
        pytest.param("half", "status 0", id="half"),
    ],
)
async def test_a_child_ends_in_predict(
    what: str, ends: str, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    with serving(fault_models, tmp_path) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            fault_models.order(BAD, "predict", what)
            await stream.until(fault_models.carried_out, what="it is done")
            await stream.recovered()
            await stream.goes_on()
        words = {"crash": "crashes", "exit": "exits", "half": "exits, frames half written,"}[what]
        fault_row(f"a child {words} in predict", stream)
        (died,) = server.events("worker_died")
        assert ends in died["reason"]
        assert f"{BAD}@1" in died["at"]


@pytest.mark.slow
async def test_a_model_crashes_in_every_predict(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    with serving(fault_models, tmp_path) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            fault_models.order(BAD, "predict", "crash", times=None)
            await stream.server_says(lambda: server.events("quarantined"), what="it is quarantined")
            await stream.goes_on(models=set(names) - {BAD})
            found = version_of(server, BAD)
            assert (found["failure"], found["state"]) == ("quarantined", "UNAVAILABLE")
            assert "signal 11" in str(found["reason"])
            fault_models.relent()
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on()
        fault_row(
            "a model crashes in every predict: quarantined",
            stream,
            touched={BAD},
            kinds={"worker_died", "quarantined"},
        )
        assert server.metric("hotset_quarantines_total") >= 1
        assert len(deaths(server)) >= 3


@pytest.mark.slow
async def test_a_quarantine_ends_when_the_files_change(
    fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = [*fault_models.write_many(3), BAD]
    fault_models.write(BAD)
    with serving(
        fault_models,
        tmp_path,
        sync_interval="200ms",
        load_failure_backoff="10m",
        load_failure_backoff_max="10m",
    ) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            fault_models.order(BAD, "predict", "crash", times=None)
            await stream.server_says(lambda: server.events("quarantined"), what="it is quarantined")
            fault_models.relent()
            stream.fault_begins()
            fault_models.write(BAD, 1, again=True)
            await stream.recovered()
        fault_row(
            "a quarantined model is mended",
            stream,
            touched={BAD},
            kinds={"worker_died", "quarantined"},
        )


async def test_a_child_crashes_in_load(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    fault_models.order(BAD, "load", "crash")
    with serving(fault_models, tmp_path) as server:
        async with Stream(server, names) as stream:
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on()
        fault_row("a child crashes in load_model", stream)
        (died,) = server.events("worker_died")
        assert f"{BAD}@1" in died["at"].split()  # others may have been predicted beside it
        assert not server.events("quarantined")
        assert all(version_of(server, name).get("failure") is None for name in names[:-1])


@pytest.mark.faults
async def test_a_model_crashes_in_every_load(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    with serving(fault_models, tmp_path) as server:
        async with Stream(server, names[:-1]) as stream:
            await stream.goes_on()
        fault_models.order(BAD, "load", "crash", times=None)
        async with Stream(server, names) as stream:
            await stream.server_says(lambda: server.events("quarantined"), what="it is quarantined")
            await stream.goes_on(models=set(names) - {BAD})
            assert version_of(server, BAD)["failure"] == "quarantined"
            fault_models.relent()
            stream.fault_begins()
            await stream.recovered()
        fault_row(
            "a model crashes in every load: quarantined",
            stream,
            touched={BAD},
            kinds={"load_failed", "quarantined"},
        )


@pytest.mark.slow
async def test_a_load_hangs(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    fault_models.order(BAD, "load", "hang")
    with serving(fault_models, tmp_path, load_timeout="2s") as server:
        async with Stream(server, names[:-1]) as stream:
            await stream.goes_on()
            stream.versions[BAD] = {1}
            stream.fault_begins()
            asked = await stream.beside(server.predict, BAD)
            assert (asked.status, asked.json["kind"]) == (500, "load_failed")
            await stream.server_says(lambda: server.predict(BAD).status == 200, what="it is tried again")
            await stream.recovered(names[:-1])
            await stream.goes_on(models=names[:-1])
        fault_row("a load hangs", stream)
        assert [event["at"] for event in server.events("worker_died")] == [f"{BAD}@1"]


@pytest.mark.slow
async def test_a_predict_hangs(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    """One of two threads is gone, so the child is replaced; only the request that hung is answered 504."""
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    with serving(fault_models, tmp_path, request_timeout="4s") as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            fault_models.order(BAD, "predict", "hang")
            await stream.until(lambda: bool(stream.failures()), what="a request is answered 504")
            await stream.server_says(lambda: server.events("worker_died"), what="the child is replaced")
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on()
        fault_row("a predict hangs: one thread of two", stream, touched={BAD}, kinds={"deadline"})
        assert len(stream.failures()) == 1
        (died,) = server.events("worker_died")
        assert "1 of its 2 predict threads did not come back" in died["reason"]
        assert died["at"] == f"{BAD}@1"


@pytest.mark.faults
async def test_stuck_threads_are_counted(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    """One of four is none too many: it is shown, the others go on, and a second one is."""
    names = [*fault_models.write_many(3), BAD]
    fault_models.write(BAD)
    with serving(fault_models, tmp_path, request_timeout="3s", threads_per_process=4) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            fault_models.order(BAD, "predict", "hang")
            await stream.server_says(lambda: server.metric("hotset_worker_stuck") == 1, what="one is stuck")
            await stream.goes_on()
            assert not server.events("worker_died")
            stream.fault_begins()
            fault_models.order(BAD, "predict", "hang")
            await stream.server_says(lambda: server.events("worker_died"), what="the child is replaced")
            await stream.recovered()
            await stream.server_says(lambda: server.metric("hotset_worker_stuck") == 0, what="none is stuck")
        fault_row("a predict hangs: two threads of four", stream, touched={BAD}, kinds={"deadline"})


@pytest.mark.faults
async def test_the_only_thread_hangs(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    """Whoever waits behind it in the only thread shares its fate, if it has no time left when the child is replaced."""
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    with serving(fault_models, tmp_path, request_timeout="3s", threads_per_process=1) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            fault_models.order(BAD, "predict", "hang")
            await stream.server_says(lambda: server.events("worker_died"), what="the child is replaced")
            await stream.recovered()
            await stream.goes_on()
        fault_row(
            "a predict hangs: the only thread",
            stream,
            touched=names,
            kinds={"deadline", "loading", "worker_died"},
        )
        assert len(server.events("worker_died")) == 1


@pytest.mark.faults
@pytest.mark.timeout(240)
async def test_the_interpreter_is_held(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    """Native code that does nothing, and never gives the interpreter back: pings stay without an answer."""
    names = [*fault_models.write_many(MODELS), BAD]
    fault_models.write(BAD)
    with serving(fault_models, tmp_path) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            fault_models.order(BAD, "predict", "hold")
            await stream.recovered()
        fault_row("a predict holds the interpreter for ever", stream)
        (died,) = server.events("worker_died")
        assert "did nothing for 10 s, did not answer pings" in died["reason"]
        assert f"{BAD}@1" in died["at"].split()  # others may wait beside it


@pytest.mark.faults
async def test_a_child_hangs_as_a_whole(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    """Nobody tells the gateway: it is found out, as it does not answer pings."""
    names = fault_models.write_many(MODELS)
    with serving(fault_models, tmp_path) as server:
        assert all(server.predict(name).status == 200 for name in names)
        busiest = max(server.status()["server"]["workers"], key=lambda worker: worker["models"])
        stream = Stream(server, names)
        psutil.Process(busiest["pid"]).suspend()
        stream.fault_begins()
        async with stream:
            await stream.recovered()
            await stream.goes_on()
        fault_row("a child hangs while idle", stream)
        (died,) = server.events("worker_died")
        assert "was stopped by a signal, did not answer pings" in died["reason"]


async def test_a_child_is_stopped_while_idle(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    """It hangs as a whole; what it does not answer goes elsewhere once it is found out, here by its own end."""
    names = fault_models.write_many(MODELS)
    with serving(fault_models, tmp_path) as server:
        assert all(server.predict(name).status == 200 for name in names)
        busiest = max(server.status()["server"]["workers"], key=lambda worker: worker["models"])
        stream = Stream(server, names)
        psutil.Process(busiest["pid"]).suspend()
        stream.fault_begins()
        async with stream:
            await stream.server_says(
                lambda: server.status()["requests"]["inside"] > 0, what="requests wait for it"
            )
            psutil.Process(busiest["pid"]).kill()
            await stream.recovered()
            await stream.goes_on()
        fault_row("a child hangs while idle, and is killed", stream)


@pytest.mark.faults
@pytest.mark.parametrize("processes", [1, 2])
async def test_every_child_is_killed_again_and_again(
    processes: int, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = fault_models.write_many(MODELS)
    with serving(fault_models, tmp_path, processes_per_replica=processes) as server:
        async with Stream(server, names) as stream:
            for _ in range(3):
                await stream.goes_on()
                stream.fault_begins()
                kill_one_with_models(server)
                await stream.recovered()
        fault_row(f"children of {processes} are killed three times", stream)


@pytest.mark.faults
async def test_the_fork_server_is_killed(fault_models: FaultModels, tmp_path: Path, fault_row) -> None:
    names = fault_models.write_many(MODELS)
    with serving(fault_models, tmp_path) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            stream.fault_begins()
            for child in psutil.Process(server.pid).children():
                if child.name() == "hotset-forks":
                    child.kill()
            kill_one_with_models(server)
            await stream.recovered()
            await stream.goes_on()
        fault_row("the fork server and a child are killed", stream)
