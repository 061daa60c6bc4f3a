"""What a request costs with 1,000 and with 100,000 models in the catalog: it must be the same. A section of ``run.py``.

Once through real requests to one hot model, with two servers taking turns; and once by itself, without sockets and
processes, where a difference could not hide behind them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from load import Generator
from models import name_of, request_for, write_models
from rich.table import Table
from rounds import WARM_UP, Plan, Sample, of, ratio, summary, take_turns
from subjects import hotset

from hotset.config import load_settings
from hotset.keys import ModelRef
from hotset.replica import Replica
from hotset.testing import FakeStore, FakeWorker, WorkerScript, versions

SIZES: Final = (1_000, 100_000)
CONNECTIONS: Final = 8
HOT: Final = 50
CALLS: Final = 20_000
REPEATS: Final = 7
LEASE: Final = "manager.lease_now and release"
RESOLVE: Final = "catalog.resolve"


def run(generator: Generator, folder: Path, plan: Plan, *, tell: Callable[[str], None]) -> list[Sample]:
    """Measure a hot model through real requests, with a small and a large catalog. The sync loop rests meanwhile."""
    few, many = SIZES
    for size in SIZES:
        tell(f"lookup, writing {size:,} models")
        write_models(folder / str(size), size, trained=1)
    tell("lookup, real requests")
    request, settings = request_for(0), {"sync-interval": "0s"}
    with (
        hotset(folder / str(few), folder / f"{few}-server", request, settings=settings) as small,
        hotset(folder / str(many), folder / f"{many}-server", request, settings=settings) as large,
    ):
        servers = {_name(few): small, _name(many): large}
        for size, server in zip(SIZES, servers.values(), strict=True):
            _check_catalog(server.get("/status"), size)
        take_turns(generator, servers, request, connections=CONNECTIONS, plan=WARM_UP)
        return take_turns(generator, servers, request, connections=CONNECTIONS, plan=plan)


def _check_catalog(status: Any, size: int) -> None:
    found = status["server"]["catalog"]["models"]
    if found != size:
        raise RuntimeError(f"expected {size} models in the catalog, found: {found}")


def _name(size: int) -> str:
    return f"{size:,} models"


def run_alone(folder: Path, *, tell: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Return the nanoseconds of each step, for each size of the catalog."""
    tell("lookup, without sockets")
    return asyncio.run(_run_alone(folder))


async def _run_alone(folder: Path) -> dict[str, dict[str, float]]:
    replicas = {size: await _replica(folder / f"{size}-alone", size) for size in SIZES}
    hot = [ModelRef(name_of(number)) for number in range(HOT)]
    known = [ModelRef(name_of(number)) for number in range(SIZES[0])]
    steps = {
        (name, size): step
        for size, replica in replicas.items()
        for name, step in ((LEASE, _lease(replica, hot)), (RESOLVE, _resolve(replica, known)))
    }
    times: dict[tuple[str, int], list[float]] = {key: [] for key in steps}
    for _ in range(REPEATS):
        for key, step in steps.items():
            times[key].append(step())
    for replica in replicas.values():
        await replica.stop()
    return {name: {_name(size): median(times[name, size]) for size in SIZES} for name in (LEASE, RESOLVE)}


async def _replica(folder: Path, size: int) -> Replica:
    """Return a replica with a catalog of this size and ``HOT`` models in memory; store and worker are fakes."""
    store = FakeStore()
    versions(store, {name_of(number): [1] for number in range(size)})
    given = {"model_dir": "unused", "disk_path": str(folder), "settle_time": 0, "sync_interval": 0}
    script = WorkerScript()
    replica = Replica(
        load_settings(None, {}, given),
        store=store,
        make_worker=lambda number, on_death: FakeWorker(number, on_death, script),
    )
    await replica.start()
    await replica.sync.first_pass.wait()
    for number in range(HOT):
        lease = await replica.manager.lease(ModelRef(name_of(number)), deadline_s=time.monotonic() + 60)
        lease.release()
    _check_catalog({"server": {"catalog": {"models": len(replica.manager.snapshot.models)}}}, size)
    return replica


def _lease(replica: Replica, refs: Sequence[ModelRef]) -> Callable[[], float]:
    def step() -> float:
        lease_now, rounds = replica.manager.lease_now, CALLS // len(refs)
        started = time.perf_counter_ns()
        for _ in range(rounds):
            for ref in refs:
                lease = lease_now(ref)
                assert lease is not None
                lease.release()
        return (time.perf_counter_ns() - started) / (rounds * len(refs))

    return step


def _resolve(replica: Replica, refs: Sequence[ModelRef]) -> Callable[[], float]:
    def step() -> float:
        resolve, rounds = replica.manager.catalog.resolve, CALLS // len(refs)
        started = time.perf_counter_ns()
        for _ in range(rounds):
            for ref in refs:
                resolve(ref)
        return (time.perf_counter_ns() - started) / (rounds * len(refs))

    return step


def table(samples: Sequence[Sample], alone: dict[str, dict[str, float]]) -> Table:
    """Return both measurements; the ratio is of the large catalog's cost to the small one's."""
    few, many = (_name(size) for size in SIZES)
    grid = Table(title="Cost of a lookup, by the number of models in the catalog", title_justify="left")
    for column in ("", few, many, "ratio of cost"):
        grid.add_column(column, justify="right" if column else "left")
    small, large = of(samples, few, CONNECTIONS), of(samples, many, CONNECTIONS)
    one, other = summary(small), summary(large)
    label = f"real requests, {CONNECTIONS} connections"
    cost = f"{ratio(small, large):.2f}"
    grid.add_row(f"{label}: req/s", f"{one.per_second:,.0f}", f"{other.per_second:,.0f}", cost)
    grid.add_row(f"{label}: p50 ms", f"{one.p50_ms:.2f}", f"{other.p50_ms:.2f}", "")
    cpu = f"{other.cpu_us / max(one.cpu_us, 1e-9):.2f}"
    grid.add_row(f"{label}: CPU µs/req", f"{one.cpu_us:.0f}", f"{other.cpu_us:.0f}", cpu)
    for name, found in alone.items():
        grid.add_row(
            f"{name}, ns", f"{found[few]:,.0f}", f"{found[many]:,.0f}", f"{found[many] / found[few]:.2f}"
        )
    return grid
