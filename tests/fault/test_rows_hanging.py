"""A row of the fault table: a store in which some models' objects hang, and never more than that is said of them."""

from __future__ import annotations

import asyncio

import pytest

from fault_city import FAR, KEPT, UNAVAILABLE, City
from fault_stream import Stream
from faulty_store import as_it_is, hangs, only
from hotset.store import StoreLimits
from load_client import Connection
from server_process import HttpAnswer

HUNG = [f"hung{number}" for number in range(3)]
OBJECTS = 20
AT_ONCE = StoreLimits().max_parallel
assert AT_ONCE < OBJECTS, "one version alone takes all requests that there may be"


@pytest.mark.slow
async def test_objects_that_hang_hold_up_no_other_model(city: City, fault_row) -> None:
    """Without slots that are given away, nothing else would be fetched until the last attempt has failed, after 80 s."""
    for name in HUNG:
        city.models.write(name)
        files = city.models.root / name / "1"
        for number in range(OBJECTS):
            (files / f"part{number}").write_text("x" * 100)
    with city.warm_server(request_timeout="60s", parallel_fetches=2) as server:
        hanging = 0

        async def hang(call, forward):
            nonlocal hanging
            hanging += 1
            return await hangs(call, forward)

        city.store.fault = only(hang, where=lambda call: "/hung" in call.path)
        async with Stream(server, KEPT, connections=4) as stream, asyncio.TaskGroup() as group:
            clients = [group.create_task(asked(server, name)) for name in HUNG]
            await stream.until(lambda: hanging >= AT_ONCE, what="all that may be under way at once hangs")
            stream.fault_begins()
            for name in FAR:
                assert (await asked(server, name)).status == 200
            assert not any(client.done() for client in clients)
            await stream.goes_on()
            city.store.fault = as_it_is
            city.store.reset()
            await asyncio.wait(clients)
            assert [client.result().status for client in clients] == [200] * len(HUNG)
        fault_row("some models' objects hang", stream, touched=HUNG, kinds=UNAVAILABLE)


async def asked(server, name: str) -> HttpAnswer:
    async with Connection(server.host, server.port) as connection:
        return await connection.predict(name)
