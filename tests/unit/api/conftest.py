from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from unit.api.scripted import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    assert bench.residency.leased == 0, "a lease was not released"
    assert bench.dataplane.inside == 0


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=bench.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hotset") as client:
        yield client
