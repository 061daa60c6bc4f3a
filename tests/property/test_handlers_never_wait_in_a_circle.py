"""Any requests of handlers, each for any models, at any capacity that can hold the largest of them: all of them end.

There is neither time nor a thread in the loop (``virtual_loop``): where it has nothing left to do and a request has not
ended, they wait for each other for ever. The promises of the tiers are checked at every step.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler_bench import HandlerBench
from hotset.testing import FakeStore, ManualClock, versions
from virtual_loop import VirtualLoop

NAMES: Final = "abcdef"

ENSEMBLES: Final = st.lists(
    st.tuples(
        st.lists(st.sampled_from(NAMES), min_size=0, max_size=4, unique=True),
        st.sampled_from([None, *NAMES]),
        st.integers(0, 6),
    ),
    min_size=2,
    max_size=10,
)


class _Stuck(AssertionError):
    """Nobody has anything left to do."""


def _run_all(
    ensembles: list[tuple[list[str], str | None, int]],
    *,
    capacity: int,
    disk: int,
    workers: int,
    threads: int,
    seed: int,
) -> None:
    clock = ManualClock()
    loop = VirtualLoop(clock, seed=seed)
    try:
        with tempfile.TemporaryDirectory() as directory:
            loop.run(
                _served(loop, clock, Path(directory) / "disk", ensembles, capacity, disk, workers, threads)
            )
    finally:
        loop.close()


async def _served(
    loop: VirtualLoop,
    clock: ManualClock,
    path: Path,
    ensembles: list[tuple[list[str], str | None, int]],
    capacity: int,
    disk: int,
    workers: int,
    threads: int,
) -> None:
    store = FakeStore()
    versions(store, {name: [1] for name in NAMES})
    bench = HandlerBench(
        path,
        store,
        clock=clock,
        threads=threads,
        processes_per_replica=workers,
        model_cache_size=capacity,
        disk_model_cache_size=disk,
        request_timeout=200,
    )
    await bench.start()

    main = _this_task()

    def step() -> None:
        bench.check()
        if loop.is_idle():
            timers = [it.when() for it in loop._scheduled if not it.cancelled()]  # type: ignore[attr-defined]
            if timers:
                clock.now_s = max(clock.now_s, min(timers))
            elif not main.done():
                raise _Stuck("nothing is left to do:\n" + "\n".join(map(str, asyncio.all_tasks(loop))))

    loop.after_step = step
    began_s = clock.now_s

    async def ask(models: list[str], hint: str | None, delay: int) -> None:
        await asyncio.sleep(delay / 100)
        given = await bench.handle(*models, hint=hint)
        assert given == [f"{name}-1" for name in models]

    async with asyncio.TaskGroup() as group:
        for models, hint, delay in ensembles:
            group.create_task(ask(models, hint, delay))
    assert clock.now_s - began_s < 100, "somebody waited for a deadline"
    assert max(bench.calls.values()) <= 2, "a handler was called more than twice for one request"
    await bench.settled()
    await bench.stop()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


@given(
    ensembles=ENSEMBLES,
    spare=st.integers(0, 3),
    more_disk=st.integers(0, 2),
    workers=st.integers(1, 3),
    threads=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
@pytest.mark.slow
@settings(max_examples=40, deadline=None)
def test_every_request_ends(
    ensembles: list[tuple[list[str], str | None, int]],
    spare: int,
    more_disk: int,
    workers: int,
    threads: int,
    seed: int,
) -> None:
    largest = max(1, *(len(models) for models, _, _ in ensembles))
    capacity = largest + spare
    _run_all(
        ensembles,
        capacity=capacity,
        disk=capacity + more_disk,
        workers=workers,
        threads=threads,
        seed=seed,
    )
