"""What a request costs with 1,000 and with 100,000 models in the catalog (quick: 20,000): the same. A section.

Once through real requests to one hot model, with two servers taking turns; and once by itself, without sockets and
processes, where a difference could not hide behind them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

from models import name_of, request_for, write_models
from rounds import COLUMNS, Sample, Subject, of, ratio, summary, take_turns, warm_up
from section import Grid, Options, Section, at_most
from subjects import hotset

from hotset.config import load_settings
from hotset.keys import ModelRef
from hotset.replica import Replica
from hotset.testing import FakeStore, FakeWorker, WorkerScript, versions

SIZES: Final = (1_000, 100_000)
SIZES_QUICK: Final = (1_000, 20_000)
CONNECTIONS: Final = 8
HOT: Final = 50
CALLS: Final = 20_000
REPEATS: Final = 7
LEASE: Final = "manager.lease_now and release"
RESOLVE: Final = "catalog.resolve"

Alone = Mapping[str, Mapping[str, float]]


def run(options: Options) -> Section:
    """Measure a hot model with a small and a large catalog. The sync loop rests meanwhile."""
    few, many = sizes = SIZES_QUICK if options.quick else SIZES
    folder = options.folder
    for size in sizes:
        options.tell(f"lookup, writing {size:,} models")
        write_models(folder / str(size), size, trained=1)
    options.tell("lookup, real requests")
    request, settings = request_for(0), {"sync-interval": "0s"}
    with (
        hotset(folder / str(few), folder / f"{few}-server", request, settings=settings) as small,
        hotset(folder / str(many), folder / f"{many}-server", request, settings=settings) as large,
    ):
        subjects = {_name(few): Subject(small, (request,)), _name(many): Subject(large, (request,))}
        for size, server in zip(sizes, (small, large), strict=True):
            _check_catalog(server.get("/status"), size)
        warm_up(options.closed, subjects, plan=options.plan)
        samples = take_turns(options.closed, subjects, connections=CONNECTIONS, plan=options.plan)
    options.tell("lookup, without sockets")
    alone = asyncio.run(_run_alone(folder, sizes))
    return _section(samples, alone, sizes)


def _section(samples: Sequence[Sample], alone: Alone, sizes: tuple[int, int]) -> Section:
    few, many = (_name(size) for size in sizes)
    small, large = of(samples, few), of(samples, many)
    rows = tuple((name, *summary(of(samples, name)).cells()) for name in (few, many))
    steps = tuple(
        (name, f"{found[few]:,.0f}", f"{found[many]:,.0f}", f"{found[many] / found[few]:.2f}")
        for name, found in alone.items()
    )
    return Section(
        title="Cost of a lookup",
        about=(
            f"One hot model, {CONNECTIONS} connections, in a catalog of {few} and in one of {many}. The "
            "steps by themselves go through 50 hot models in turn, on fakes of store and worker."
        ),
        grids=(
            Grid("Requests, closed loop", ("catalog", *COLUMNS), rows),
            Grid("Steps by themselves, ns", ("", few, many, "ratio"), steps),
        ),
        goals=(
            at_most(
                f"CPU of a request with {many}, to {few}",
                ratio(large, small, of_what=lambda it: it.cpu_us),
                1.1,
            ),
        ),
        raw={"requests": [asdict(it) for it in samples], "alone_ns": alone},
    )


def _check_catalog(status: Any, size: int) -> None:
    found = status["server"]["catalog"]["models"]
    if found != size:
        raise RuntimeError(f"expected {size} models in the catalog, found: {found}")


def _name(size: int) -> str:
    return f"{size:,} models"


async def _run_alone(folder: Path, sizes: tuple[int, int]) -> dict[str, dict[str, float]]:
    replicas = {size: await _replica(folder / f"{size}-alone", size) for size in sizes}
    hot = [ModelRef(name_of(number)) for number in range(HOT)]
    known = [ModelRef(name_of(number)) for number in range(min(sizes))]
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
    return {name: {_name(size): median(times[name, size]) for size in sizes} for name in (LEASE, RESOLVE)}


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
    _check_catalog({"server": {"catalog": {"models": len(replica.manager.catalog.snapshot.models)}}}, size)
    return replica


def _lease(replica: Replica, refs: Sequence[ModelRef]) -> Callable[[], float]:
    def step() -> float:
        lease_now, rounds = replica.manager.lease_now, CALLS // len(refs)
        started = time.thread_time_ns()
        for _ in range(rounds):
            for ref in refs:
                lease = lease_now(ref)
                assert lease is not None
                lease.release()
        return (time.thread_time_ns() - started) / (rounds * len(refs))

    return step


def _resolve(replica: Replica, refs: Sequence[ModelRef]) -> Callable[[], float]:
    def step() -> float:
        resolve, rounds = replica.manager.catalog.resolve, CALLS // len(refs)
        started = time.thread_time_ns()
        for _ in range(rounds):
            for ref in refs:
                resolve(ref)
        return (time.thread_time_ns() - started) / (rounds * len(refs))

    return step
