"""What a real S3 server is asked by each kind of discovery, counted on the wire: docs/stores.md has the formula."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from counting_proxy import CountingProxy, counting_proxy
from hotset.catalog import Layout
from hotset.clock import SystemClock
from hotset.publishing import Publisher, Target, rebuild_index, update_index
from hotset.store import WritableStore, open_store
from residency_bench import Bench, bench
from servers import S3Server, moto_s3

MODELS = 500
PASSES = 3
_buckets = count()


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_s3() as server:
        yield server


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[CountingProxy]:
    with counting_proxy(moto.endpoint) as made:
        yield made


@pytest.fixture
def bucket(moto: S3Server) -> str:
    return moto.make_bucket(f"city-models-{next(_buckets)}")


def opened(url: str, server: S3Server, endpoint: str | None = None) -> WritableStore:
    return open_store(url, options={**server.options, "endpoint": endpoint or server.endpoint})


async def fill(store: WritableStore, models: int, versions: int = 1) -> None:
    """Models of two objects and a marker for each version."""
    names = iter(range(models))

    async def some() -> None:
        for number in names:
            for version in range(1, versions + 1):
                for name in ("model.txt", "more.txt", "_SUCCESS"):
                    await store.write(f"m{number:04}/{version}/{name}", f"{number}-{version}".encode())

    await asyncio.gather(*(some() for _ in range(8)))


@asynccontextmanager
async def served(
    path: Path, url: str, server: S3Server, proxy: CountingProxy, **settings: Any
) -> AsyncIterator[Bench]:
    store: Any = opened(url, server, proxy.endpoint)
    async with bench(path, store, sync_interval=10.0, settle_time=10.0, **settings) as it:
        yield it


async def cost_of_a_pass(it: Bench, proxy: CountingProxy) -> dict[str, float]:
    proxy.take()
    for _ in range(PASSES):
        it.clock.advance(11.0)
        await it.sync()
    return {kind: number / PASSES for kind, number in proxy.take().items()}


@pytest.mark.slow
async def test_on_demand_costs_what_is_in_use_however_many_models_there_are(
    tmp_path: Path, moto: S3Server, proxy: CountingProxy
) -> None:
    costs = {}
    for models in (10, MODELS):
        url = moto.make_bucket(f"on-demand-{models}")
        await fill(opened(url, moto), models)
        async with served(tmp_path / str(models), url, moto, proxy, discovery="on_demand") as it:
            for number in range(7):
                assert await it.ask(f"m{number:04}") == f"m{number:04}@1|{number}-1|{number}-1"
            await it.sync()
            costs[models] = await cost_of_a_pass(it, proxy)
            page = await it.replica.dataplane.residency.models(
                prefix="", limit=10, after="", deadline_s=it.clock.now_s + 60.0
            )
            assert [model.name for model in page.models] == [f"m{number:04}" for number in range(10)]
            assert proxy.take() == {"LIST": 1}
    assert costs[10] == costs[MODELS] == {"LIST": 7}


@pytest.mark.slow
async def test_list_costs_a_request_for_a_thousand_objects_and_an_index_one_in_all(
    tmp_path: Path, moto: S3Server, proxy: CountingProxy, bucket: str
) -> None:
    store = opened(bucket, moto)
    await fill(store, MODELS)
    async with served(tmp_path / "list", bucket, moto, proxy) as it:
        cost = await cost_of_a_pass(it, proxy)
        assert cost.pop("LIST") >= MODELS * 3 / 1000
        assert cost == {"GET": 1}, "is there an index?"
    assert (await rebuild_index(store, Layout(), clock=SystemClock())).models == MODELS
    async with served(tmp_path / "index", bucket, moto, proxy) as it:
        assert it.replica.sync.status().source == "index"
        assert await cost_of_a_pass(it, proxy) == {"GET": 1}
        source = tmp_path / "source"
        source.mkdir()
        (source / "model.txt").write_text("published")
        key = (await Publisher(store, clock=SystemClock()).publish(source, Target("", "m0003", None))).key
        assert await update_index(store, Layout(), "m0003", clock=SystemClock())
        await it.sync()
        assert await it.ask("m0003") == f"m0003@{key.version}|published"
        assert await it.ask("m0004") == "m0004@1|4-1|4-1"


async def test_publishers_at_the_same_time_are_all_in_the_index_of_a_bucket(
    tmp_path: Path, moto: S3Server, bucket: str
) -> None:
    store, clock = opened(bucket, moto), SystemClock()
    await rebuild_index(store, Layout(), clock=clock)
    one_at_a_time = asyncio.Lock()  # moto compares and writes in two steps; real ones do it in one
    write_if = store.write_if

    async def in_one_step(*arguments: Any) -> None:
        async with one_at_a_time:
            await write_if(*arguments)

    store.write_if = in_one_step  # type: ignore[method-assign]

    async def publish(name: str) -> None:
        source = tmp_path / name
        source.mkdir()
        (source / "model.txt").write_text(name)
        await Publisher(store, clock=clock).publish(source, Target("", name, None))
        assert await update_index(store, Layout(), name, clock=clock)

    names = {f"city-{number}" for number in range(6)}
    await asyncio.gather(*map(publish, names))
    async with bench(tmp_path / "served", store, settle_time=10.0) as it:  # type: ignore[arg-type]
        assert it.replica.sync.status().source == "index"
        assert set(it.manager.catalog.snapshot.models) == names
