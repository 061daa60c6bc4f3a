"""Counts what one hot request costs, in the gateway and in the child, and what one costs whose model has to be loaded.

    python tests/regression/measure.py [--models N ...] [--only miss]

Prints JSON.
Run by ``test_budget.py`` and ``renew.py`` in a process of its own, as it traces. It serves a real server (``server.py``'s
own, over a store in memory that has N models) on a real socket to one client in the same event loop, with a real child
that runs ``counting_model.py``; beside it, for comparison, a bare ASGI application behind the same uvicorn. Nothing here
depends on how fast the machine is.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, pairwise, repeat
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
# For the child: it loads what is pickled here.

import joblib  # noqa: E402
import uvicorn  # noqa: E402
from counters import CountingLoop, Instructions, NativeCalls  # noqa: E402
from counting_model import CountingModel  # noqa: E402
from one_client import Client, raw_request  # noqa: E402

from hotset import server  # noqa: E402
from hotset.config import load_settings  # noqa: E402
from hotset.replica import Replica  # noqa: E402
from hotset.testing import FakeStore  # noqa: E402

WARM: Final = 30
CYCLES: Final = 60
SETTLING: Final = 5
NAME: Final = "model-{:06}"
ROW: Final = [round(0.25 * number - 1.1, 2) for number in range(10)]
NATIVE: Final = ("/models/{}/predict", {"instances": [ROW]})
OIP: Final = (
    "/v2/models/{}/infer",
    {"inputs": [{"name": "input-0", "shape": [1, 10], "datatype": "FP64", "data": ROW}]},
)
ROOM: Final = 2
TAKE_TURNS: Final = 4
"""So many models are asked for in turn where there is room for ``ROOM``: each request evicts and loads, from disk."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request costs a process: the lower quartile of many. ``child`` is what the child executes for it."""

    instructions: int
    calls: int
    native_calls: int
    callbacks: int
    timers: int
    tasks: int
    futures: int
    sends: int
    receives: int
    child: int


async def measured(
    loop: CountingLoop, port: int, requests: Iterable[bytes], count_of: Callable[[bytes], int]
) -> tuple[Cost, dict[str, int]]:
    """Return what one request costs, and its instructions by module."""
    client = Client(loop, port, requests)
    await client.cycles(WARM, lambda _body: None)
    instructions, native = Instructions(), NativeCalls()
    bodies: list[bytes] = []
    modules: list[dict[str, int]] = []
    readings: list[tuple[int, ...]] = []
    natives: list[tuple[int, ...]] = []

    def read_instructions(body: bytes) -> None:
        bodies.append(body)
        modules.append(dict(instructions.executed))
        called = sum(instructions.calls.values())
        readings.append((called, loop.callbacks, loop.timers, loop.tasks, loop.futures))

    instructions.start()
    await client.cycles(CYCLES, read_instructions)
    instructions.stop()
    native.start()
    await client.cycles(CYCLES, lambda _body: natives.append((native.calls, native.sends, native.receives)))
    native.stop()
    client.close()
    executed, child = typical(
        [(sum(each.values()), count_of(body)) for each, body in zip(modules, bodies, strict=True)]
    )
    calls, callbacks, timers, tasks, futures = typical(readings)
    native_calls, sends, receives = typical(natives)
    cost = Cost(executed, calls, native_calls, callbacks, timers, tasks, futures, sends, receives, child)
    return cost, by_module(modules)


def by_module(readings: Sequence[dict[str, int]]) -> dict[str, int]:
    """Return the instructions of one request in each module, the most first."""
    first, last, cycles = readings[SETTLING], readings[-1], len(readings) - 1 - SETTLING
    spent = {name: round((count - first.get(name, 0)) / cycles) for name, count in last.items()}
    return dict(sorted(spent.items(), key=lambda it: (-it[1], it[0])))


def typical(readings: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the lower quartile of each counter's steps; the first are those of a start.

    What a busy machine does to a request (an answer that comes in two parts, a timer that is due meanwhile) only adds.
    """
    pairs = list(pairwise(readings[SETTLING:]))
    return [
        sorted(after[column] - before[column] for before, after in pairs)[len(pairs) // 4]
        for column in range(len(readings[0]))
    ]


def native_count(body: bytes) -> int:
    return int(json.loads(body)["predictions"][0])


def oip_count(body: bytes) -> int:
    return int(json.loads(body)["outputs"][0]["data"][0])


def store_of(models: int) -> FakeStore:
    """Return a store with so many models; all have the same file."""
    file = io.BytesIO()
    joblib.dump(CountingModel(), file)
    store = FakeStore()
    for number in range(models):
        store.put(f"{NAME.format(number)}/1/model.joblib", file.getvalue())
    return store


@asynccontextmanager
async def served(loop: CountingLoop, models: int, folder: Path, **settings: Any) -> AsyncIterator[int]:
    """Serve so many models; the port."""
    given = {
        "model_dir": "unused",
        "disk_path": str(folder),
        "settle_time": 0,
        "sync_interval": 0,
        "log_level": "warning",
        "processes_per_replica": 1,
        **settings,
    }
    store = store_of(models)
    server.Replica = partial(Replica, store=store)  # type: ignore[assignment,misc]
    with listening() as bound:
        is_up = loop.create_future()
        serving = loop.create_task(server._serve(load_settings(None, {}, given), bound, is_up.set_result))
        await asyncio.wait((is_up, serving), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        yield bound.getsockname()[1]
        os.kill(os.getpid(), signal.SIGTERM)
        await serving


async def gateway(loop: CountingLoop, models: int, folder: Path) -> dict[str, tuple[Cost, dict[str, int]]]:
    """Measure both doors of a server with so many models in its catalog."""
    middle = NAME.format(models // 2)
    async with served(loop, models, folder) as port:
        return {
            "native": await measured(loop, port, repeat(raw_request(NATIVE, middle)), native_count),
            "oip": await measured(loop, port, repeat(raw_request(OIP, middle)), oip_count),
        }


async def missing(loop: CountingLoop, folder: Path) -> tuple[Cost, dict[str, int]]:
    """Measure requests of which each finds its model on disk only, and another one in its place."""
    requests = [raw_request(NATIVE, NAME.format(number)) for number in range(TAKE_TURNS)]
    async with served(loop, TAKE_TURNS, folder, model_cache_size=ROOM) as port:
        return await measured(loop, port, cycle(requests), lambda _body: 0)


async def bare(loop: CountingLoop) -> tuple[Cost, dict[str, int]]:
    """Measure a bare ASGI application behind uvicorn that does the same for one model in its own process."""
    sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))
    from bare_app import BareApp

    model = EchoModel()
    app = BareApp(lambda _path, body: {"predictions": model.predict(body["instances"])})
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
    )
    listener = uvicorn.Server(config)
    with listening() as bound:
        serving = loop.create_task(listener._serve([bound]))
        found = await measured(
            loop, bound.getsockname()[1], repeat(raw_request(NATIVE, "x")), lambda _body: 0
        )
        listener.should_exit = True
        await serving
    return found


class EchoModel:
    """Predicts nothing, so that the bare application's count is of HTTP, JSON and ASGI alone."""

    def predict(self, rows: Any) -> list[float]:
        return [0.0] * len(rows)


def listening() -> socket.socket:
    """Return a socket that listens on a free port. Without its protocol's number, asyncio would leave Nagle's delay on."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    bound.listen(16)
    return bound


def in_loop(work: Callable[[CountingLoop], Coroutine[Any, Any, Any]]) -> Any:
    """Run ``work`` in a loop of its own."""
    loop = CountingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work(loop))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, nargs="*", default=[1_000], help="sizes of the catalog")
    parser.add_argument("--only", choices=["miss"], help="what to measure; else everything")
    asked = parser.parse_args()
    costs: dict[str, Any] = {}
    modules: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hotset-measure-") as folder:
        cost, each = in_loop(lambda loop: missing(loop, Path(folder)))
    costs["miss"], modules["miss"] = asdict(cost), each
    if asked.only:
        print(json.dumps({"costs": costs, "modules": modules}, indent=1))
        return
    for models in asked.models:
        with tempfile.TemporaryDirectory(prefix="hotset-measure-") as folder:
            found = in_loop(lambda loop, models=models, folder=folder: gateway(loop, models, Path(folder)))  # type: ignore[misc]
        costs[str(models)] = {door: asdict(cost) for door, (cost, _) in found.items()}
        modules[str(models)] = {door: each for door, (_, each) in found.items()}
    cost, each = in_loop(bare)
    costs["bare"] = asdict(cost)
    modules["bare"] = each
    print(json.dumps({"costs": costs, "modules": modules}, indent=1))


if __name__ == "__main__":
    main()
