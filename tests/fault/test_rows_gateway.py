"""Rows of the fault table: the gateway is asked to end, or is ended, under a stream of requests and whatever else goes on."""

from __future__ import annotations

import asyncio
import http.client
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from fault_models import FaultModels
from fault_stream import NO_ANSWER, Stream
from load_client import Connection
from server_process import ServerProcess, end, running_server, start_server

MODELS = 6
BAD = "bad"
DRAIN_S = 4
ON_ITS_WAY_S = 0.05
"""A request that was sent so shortly before the signal may not have been inside."""


def only_later_ones_failed(stream: Stream) -> None:
    assert stream.began_s is not None
    early = [it for it in stream.failures() if it.sent_s < stream.began_s - ON_ITS_WAY_S]
    assert not early, f"{len(early)} requests that came before the signal failed: {early[:3]}"


async def ended(server: ServerProcess, stream: Stream) -> int:
    """Wait for the end, which takes no longer than ``drain_timeout``; the row tells how long."""
    assert stream.began_s is not None
    status = await asyncio.to_thread(server.process.wait, 60)
    stream.recovery_s = time.monotonic() - stream.began_s
    return status


async def stream_sees(look: Callable[[ServerProcess], Awaitable[bool]], server: ServerProcess) -> bool:
    """Whether it is so, soon: the signal is on its way."""
    async with asyncio.timeout(2):
        while not await look(server):
            await asyncio.sleep(0.005)
    return True


async def is_unready(server: ServerProcess) -> bool:
    try:
        return (await asyncio.to_thread(server.request, "GET", "/health/ready")).status == 503
    except (OSError, http.client.HTTPException):
        return True  # not even connected


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
async def test_sigterm_under_load(
    processes: int, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    """One slow thread, so that most of what is inside waits in a queue."""
    names = fault_models.write_many(MODELS, predict_s=0.02)
    fault_models.write("long", predict_s=1.0)
    with running_server(
        tmp_path / "disk",
        **fault_models.settings,
        processes_per_replica=processes,
        drain_timeout=f"{DRAIN_S}s",
    ) as server:
        async with (
            Stream(server, names, connections=12) as stream,
            Connection(server.host, server.port) as own,
        ):
            await stream.goes_on()
            assert (await stream.beside(server.predict, "long")).status == 200
            long = asyncio.create_task(own.predict("long"))
            await stream.server_says(
                lambda: server.status()["requests"]["inside"] > 3, what="some are inside"
            )
            server.children()
            stream.fault_begins()
            server.process.send_signal(signal.SIGTERM)
            assert await stream_sees(is_unready, server)
            assert (await long).json == {"is": "long", "version": 1}
            assert await ended(server, stream) == 0
        fault_row(
            f"SIGTERM under load, {processes} processes (s: until the end)",
            stream,
            touched=names,
            kinds={"shutting_down", NO_ANSWER},
        )
        only_later_ones_failed(stream)
        assert server.left_behind() == []
        assert not [line for line in server.lines() if line["level"] in {"warning", "error"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("predict", "hang"),
        ("load", "hang"),
        pytest.param("predict", "hold", marks=pytest.mark.faults),
        pytest.param("load", "hold", marks=pytest.mark.faults),
    ],
)
async def test_sigterm_while_something_hangs(
    verb: str, what: str, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    """What hangs is answered 503 at the end; all else that came before is answered."""
    names = fault_models.write_many(MODELS)
    fault_models.write(BAD)
    with running_server(
        tmp_path / "disk",
        **fault_models.settings,
        processes_per_replica=2,
        threads_per_process=2,
        drain_timeout=f"{DRAIN_S}s",
    ) as server:
        async with Stream(server, names) as stream, Connection(server.host, server.port) as own:
            await stream.goes_on()
            fault_models.order(BAD, verb, what)
            hanging = asyncio.create_task(own.predict(BAD))
            await stream.until(fault_models.carried_out, what="it hangs")
            server.children()
            stream.fault_begins()
            server.process.send_signal(signal.SIGTERM)
            status = await ended(server, stream)
            answer = await hanging
        fault_row(
            f"SIGTERM while a {verb} {'hangs' if what == 'hang' else 'holds the interpreter'} (s: until the end)",
            stream,
            touched=names,
            kinds={"shutting_down", NO_ANSWER},
        )
        assert status == 0
        assert (answer.status, answer.json["kind"]) == (503, "shutting_down")
        assert server.left_behind() == []
        if what == "hang":  # what shares a held interpreter shares its fate
            only_later_ones_failed(stream)


def nothing(_server: ServerProcess, _models: FaultModels) -> None:
    """Just serving."""


def drains(server: ServerProcess, _models: FaultModels) -> None:
    server.process.send_signal(signal.SIGTERM)


def in_the_middle(verb: str, what: str) -> Callable[[ServerProcess, FaultModels], None]:
    """A model hangs as it is loaded or predicted; nobody waits for it."""

    def cause(server: ServerProcess, models: FaultModels) -> None:
        models.order(BAD, verb, what)
        connection = http.client.HTTPConnection(server.host, server.port)
        connection.request("POST", f"/models/{BAD}/predict", b"{}")
        server.wait_until(models.carried_out, limit_s=30, what="it hangs")
        connection.close()

    return cause


MOMENTS: dict[str, Callable[[ServerProcess, FaultModels], None]] = {
    "it serves": nothing,
    "it drains": drains,
    "a predict hangs": in_the_middle("predict", "hang"),
    "a load hangs": in_the_middle("load", "hang"),
    "a predict holds the interpreter": in_the_middle("predict", "hold"),
    "a load holds the interpreter": in_the_middle("load", "hold"),
}


IN_THE_SUITE = {"it serves", "a load hangs"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [pytest.param(moment, marks=() if moment in IN_THE_SUITE else pytest.mark.faults) for moment in MOMENTS],
)
async def test_sigkill_and_the_next_start(
    moment: str, fault_models: FaultModels, tmp_path: Path, fault_row
) -> None:
    names = fault_models.write_many(MODELS)
    fault_models.write(BAD)
    settings = {**fault_models.settings, "processes_per_replica": 2}
    with running_server(tmp_path / "disk", **settings) as server:
        async with Stream(server, names) as stream:
            await stream.goes_on()
            await asyncio.to_thread(MOMENTS[moment], server, fault_models)
            stream.fault_begins()
            await asyncio.to_thread(server.kill)  # and no child outlives it
            second = await asyncio.to_thread(start_server, tmp_path / "disk", **settings)
            try:
                await asyncio.to_thread(second.wait_ready)
                stream.now_at(second)
                await stream.recovered()
                await stream.goes_on()
            finally:
                stream.stop()
                await asyncio.to_thread(end, second)
        fault_row(
            f"SIGKILL while {moment}, and a new start",
            stream,
            touched=names,
            kinds={NO_ANSWER, "shutting_down", "worker_died"},
        )
        (recovered,) = second.events("recovered")
        assert recovered["adopted"] >= MODELS
        assert second.events("fetched") == [], "all is on disk"
        assert not [line for line in second.lines() if line["level"] in {"warning", "error"}]


@pytest.mark.faults
@pytest.mark.parametrize("round_", range(2))
def test_sigkill_at_any_moment_of_a_start(round_: int, fault_models: FaultModels, tmp_path: Path) -> None:
    """Killed sooner and later after the beginning: no process is left, and the directory is whole."""
    names = fault_models.write_many(MODELS)
    settings = {**fault_models.settings, "processes_per_replica": 2, "preload": "all"}
    for step in range(8):
        server = start_server(tmp_path / "disk", **settings)
        try:
            until_s = time.monotonic() + 0.05 + 0.12 * step + 0.06 * round_
            while time.monotonic() < until_s:
                family(server)
                time.sleep(0.005)
        finally:
            server.kill()
    with running_server(tmp_path / "disk", **settings) as server:
        assert [server.predict(name).json["is"] for name in names] == names
        assert not [line for line in server.lines() if line["level"] in {"warning", "error"}]


def family(server: ServerProcess) -> None:
    """Note all the server's processes, its fork server and what is just being forked included."""
    try:
        found = psutil.Process(server.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    server.known_children |= {child.pid: child for child in found}
