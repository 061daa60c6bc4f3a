"""One measurement of a large catalog, in a process of its own: printed as one line of JSON. ``catalog_scale.py`` calls it.

Names and objects are made up page by page and never held, so that what grows is the catalog. The replica is the real
one but for its store and its worker.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import obstore.store
import psutil

from hotset.catalog import Layout, ListingReader, Settling, Snapshot, diff, settle
from hotset.config import load_settings
from hotset.replica import Replica
from hotset.residency.snapshot_file import SnapshotFile
from hotset.server import SWITCH_INTERVAL_S
from hotset.store import ObjectMeta, open_store
from hotset.store.page import ObjectPage
from hotset.store.remote import RemoteStore
from hotset.testing import FakeWorker, WorkerScript

PAGE: Final = 1000
PROBE_S: Final = 0.0005
DISTURBED_S: Final = 0.005
WARM_PASSES: Final = 2
REPEATS: Final = 5
ROUNDS: Final = 3
DELAY_S: Final = 0.05


def name_of(number: int) -> str:
    return f"city-{number:07d}"


class MadeUpStore:
    """Each model has one version of one object; ``changed`` of a hundred have another content since the last pass."""

    url = "made-up://models"

    def __init__(self, models: int, *, columns: bool = True) -> None:
        self.models = models
        self.first = 0
        self.changed: dict[int, str] = {}
        self._columns = columns

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        assert not prefix
        for page in self.pages():
            yield page if self._columns else [*page]
            await asyncio.sleep(0)

    def pages(self) -> Iterator[ObjectPage]:
        for start in range(self.first, self.first + self.models, PAGE):
            numbers = range(start, min(start + PAGE, self.first + self.models))
            yield ObjectPage(
                [f"{name_of(number)}/1/model.joblib" for number in numbers],
                [2048] * len(numbers),
                [self.changed.get(number, f"{number:032x}") for number in numbers],
                [1.0e9] * len(numbers),
            )

    async def open(self, path: str, *, unless: str | None = None) -> None:
        """There is no index."""


def make_replica(store: Any, folder: Path) -> Replica:
    given = {"model_dir": "unused", "disk_path": str(folder), "settle_time": 0, "sync_interval": 0}
    script = WorkerScript()
    return Replica(
        load_settings(None, {}, given),
        store=store,
        make_worker=lambda number, on_death: FakeWorker(number, on_death, script),
    )


def resident_bytes() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


async def memory(models: int, folder: Path) -> dict[str, float]:
    """All that a pass leaves behind: snapshot, digests, what the sync loop and the manager remember."""
    small = make_replica(MadeUpStore(PAGE), folder / "small")
    await small.sync.pass_once()  # imports, pools of the allocator
    replica = make_replica(MadeUpStore(models), folder / "large")
    before = resident_bytes()
    await replica.sync.pass_once()
    first = resident_bytes()
    await replica.sync.pass_once()
    after = resident_bytes()
    assert len(replica.manager.catalog.snapshot.models) == models
    return {
        "models": models,
        "bytes_per_model": (after - before) / models,
        "after_first_pass": (first - before) / models,
        "peak": psutil.Process().memory_info().rss / models,
    }


class Gaps:
    """How long the loop was not there for others: the longest delay of a short nap.

    Once by the clock, and once less the time for which threads of this process were ready and had no processor: so much
    of a delay is the doing of whatever else runs on the machine, as Linux counts it for each thread. A nap in which
    the machine took much from us says nothing, and is only counted.
    """

    def __init__(self) -> None:
        self.by_clock: list[float] = []
        self.own: list[float] = []
        self.disturbed = 0

    async def watch(self) -> None:
        while True:
            waited_s = waited_for_processor_s()  # first: it gives the interpreter's lock away many times
            due_s = time.perf_counter() + PROBE_S
            await asyncio.sleep(PROBE_S)
            late_s = time.perf_counter() - due_s
            self.by_clock.append(late_s)
            others_s = waited_for_processor_s() - waited_s
            if others_s > DISTURBED_S:
                self.disturbed += 1
            else:
                self.own.append(max(0.0, late_s - others_s))

    def clear(self) -> None:
        self.by_clock.clear()
        self.own.clear()

    def figures(self) -> dict[str, float]:
        own = sorted(self.own) or [0.0]
        return {
            "longest_ms": own[-1] * 1e3,
            "p99_ms": own[int(len(own) * 0.99)] * 1e3,
            "longest_by_clock_ms": max(self.by_clock) * 1e3,
            "naps": len(own),
            "disturbed": self.disturbed,
        }


def waited_for_processor_s() -> float:
    """Return for how long the threads of this process were ready to run and did not, all together."""
    waited_ns = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            waited_ns += int((task / "schedstat").read_text().split()[1])
    return waited_ns / 1e9


async def watched(work: Callable[[], Awaitable[object]]) -> dict[str, float]:
    gaps = Gaps()
    watching = asyncio.create_task(gaps.watch())
    await asyncio.sleep(PROBE_S * 4)
    gaps.clear()
    started_s, cpu_s = time.perf_counter(), time.process_time()
    await work()
    took = {"seconds": time.perf_counter() - started_s, "cpu_s": time.process_time() - cpu_s}
    await asyncio.sleep(PROBE_S * 4)
    watching.cancel()
    return gaps.figures() | took


async def apply(models: int, folder: Path, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """The gaps of the loop while snapshots are applied, and over whole passes: the best of a few rounds.

    What holds the loop up does so in every round; what only one round shows was the machine.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()  # as the server does
    store = MadeUpStore(models)
    replica = make_replica(store, folder)
    found: dict[str, Any] = {"pass, the first": await watched(replica.sync.pass_once)}
    everything = replica.manager.catalog.snapshot
    fewer = _without_some(everything)
    gc.collect()
    for number in range(rounds):
        store.changed = {}
        _best(found, "pass, nothing changed", await watched(replica.sync.pass_once))
        store.changed = {each: f"new-{number}-{each}" for each in range(0, models, 100)}
        _best(found, "pass, one in 100 changed", await watched(replica.sync.pass_once))
        changed = replica.manager.catalog.snapshot
        for name, snapshot in (
            ("apply, one in 100 changed back", everything),
            ("apply, one in 100 changed", changed),
            ("apply, one in 100 removed", fewer),
            ("apply, all removed", replace(everything, models={})),
            ("apply, all added", everything),
        ):
            _best(found, name, await watched(lambda snapshot=snapshot: replica.manager.offer.apply(snapshot)))
    seconds = found["apply, all removed"]["cpu_s"]
    for _ in range(rounds):
        _best(found, "for comparison: nothing at all", await watched(lambda: asyncio.sleep(seconds)))
        _best(
            found,
            "for comparison: a thread that counts",
            await watched(lambda: asyncio.to_thread(_count, seconds)),
        )
    return found


def _count(seconds: float) -> None:
    """Do in a thread what holds no lock longer than any Python does."""
    end_s = time.thread_time() + seconds
    while time.thread_time() < end_s:
        sum(range(100))


def _best(found: dict[str, Any], name: str, figures: dict[str, float]) -> None:
    if name not in found or figures["longest_ms"] < found[name]["longest_ms"]:
        found[name] = figures


def _without_some(snapshot: Any) -> Any:
    gone = {name: None for number, name in enumerate(snapshot.models) if number % 100 == 0}
    return replace(snapshot, models=snapshot.models.with_changes(gone))


async def sync(models: int, folder: Path) -> dict[str, Any]:
    """Processor time of a pass with nothing changed: of the whole, and of its steps."""
    return {
        "pages as columns": await _pass_cpu(MadeUpStore(models), folder / "columns"),
        "pages of objects": await _pass_cpu(MadeUpStore(models, columns=False), folder / "objects"),
        "steps": _steps(models),
        "from obstore": await _obstore(models),
    }


async def _pass_cpu(store: MadeUpStore, folder: Path) -> dict[str, float]:
    """Of passes less the making up of pages, which is measured by itself."""
    replica = make_replica(store, folder)
    for _ in range(WARM_PASSES):
        await replica.sync.pass_once()
    passes, pages = [], []
    for _ in range(REPEATS):
        started_s = time.process_time()
        await replica.sync.pass_once()
        passes.append(time.process_time() - started_s)
        started_s = time.process_time()
        async for _page in store.list():
            pass
        pages.append(time.process_time() - started_s)
    return {"cpu_s": min(passes) - min(pages), "pages_cpu_s": min(pages)}


def _steps(models: int) -> dict[str, float]:
    pages = [*MadeUpStore(models).pages()]
    layout = Layout()

    def listed(known: Any) -> tuple[ListingReader, float]:
        reader, started_s = ListingReader(layout, known=known), time.process_time()
        for page in pages:
            reader.feed(page)
        return reader, time.process_time() - started_s

    first = listed(None)[0].finish()
    snapshot, settling = settle(first, Settling(), Snapshot(), now_s=0.0, wall_s=2.0e9, settle_time_s=10.0)
    reader, feed_s = listed(snapshot.models)
    times = {"feed": feed_s}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started_s = time.process_time()
        result = work()
        times[name] = time.process_time() - started_s
        return result

    listing = timed("finish", reader.finish)
    again, _ = timed(
        "settle",
        lambda: settle(listing, settling, snapshot, now_s=1.0, wall_s=2.0e9, settle_time_s=10.0),
    )
    timed("compare", lambda: diff(snapshot, again))
    timed("is it what is kept on disk", lambda: snapshot == again)
    return times


async def _obstore(models: int) -> dict[str, float]:
    """The same through obstore's store in memory, whose listing makes a Python object of each attribute."""
    raw = obstore.store.MemoryStore()
    for page in MadeUpStore(models).pages():
        for path in page.paths:
            raw.put(path, b"x")
    store = RemoteStore(raw, url="memory://")
    reader = ListingReader(Layout())
    async for page in store.list():
        reader.feed(page)
    known = reader.finish().models
    whole, listing = [], []
    for _ in range(REPEATS):
        reader, started_s = ListingReader(Layout(), known=known), time.process_time()
        async for page in store.list():
            reader.feed(page)
        reader.finish()
        whole.append(time.process_time() - started_s)
        started_s = time.process_time()
        async for _page in store.list():
            pass
        listing.append(time.process_time() - started_s)
    return {"listing_cpu_s": min(listing), "listing_and_reading_cpu_s": min(whole)}


async def local(models: int, folder: Path) -> dict[str, float]:
    """A local directory: what the walk costs, and what the rest of a pass."""
    root = folder / "models"
    for number in range(models):
        version = root / name_of(number) / "1"
        version.mkdir(parents=True)
        (version / "model.joblib").write_bytes(b"x")
    store = open_store(str(root))
    replica = make_replica(store, folder / "replica")
    for _ in range(WARM_PASSES):
        await replica.sync.pass_once()
    walks, passes = [], []
    for _ in range(3):
        started_s = time.process_time()
        async for _page in store.list():
            pass
        walks.append(time.process_time() - started_s)
        started_s = time.process_time()
        await replica.sync.pass_once()
        passes.append(time.process_time() - started_s)
    return {"walk_cpu_s": min(walks), "pass_cpu_s": min(passes)}


async def listing(models: int, _folder: Path) -> dict[str, Any]:
    """A bucket that takes ``DELAY_S`` for a page: by one listing, by several that know nothing of it, and by known keys."""
    command = [sys.executable, str(Path(__file__).with_name("slow_bucket.py")), str(models), str(DELAY_S)]
    server = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop yet
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        raw = obstore.store.S3Store(
            "b", endpoint=endpoint, region="r", skip_signature=True, client_options={"allow_http": True}
        )
        alone = RemoteStore(raw, url="s3://b", max_listings=1)
        several = RemoteStore(raw, url="s3://b")
        return {
            "one listing": await _listed(alone, endpoint, models),
            "several, the first pass": await _listed(several, endpoint, models),
            "several, later passes": await _listed(several, endpoint, models),
        }
    finally:
        server.stdin.close()
        server.wait(timeout=30)


async def _listed(store: RemoteStore, endpoint: str, models: int) -> dict[str, float]:
    before, started_s, cpu_s = _requests(endpoint), time.perf_counter(), time.process_time()
    found = 0
    async for page in store.list():
        found += len(page)
    assert found == models
    return {
        "seconds": time.perf_counter() - started_s,
        "cpu_s": time.process_time() - cpu_s,
        "requests": _requests(endpoint) - before,
    }


def _requests(endpoint: str) -> int:
    with urllib.request.urlopen(f"{endpoint}/requests", timeout=60) as answer:
        return int(answer.read())


async def keep(models: int, folder: Path) -> dict[str, float]:
    """Write a snapshot as a server of the empty directory ``folder/models`` would have, and read it once."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    replica = make_replica(MadeUpStore(models), folder / "maker")
    await replica.sync.pass_once()
    url = open_store(str(folder / "models")).url
    file = SnapshotFile(folder / "disk" / "catalog", origin=f"{url} with {Layout().expected}")
    started_s = time.perf_counter()
    file.write(replica.manager.catalog.snapshot)
    written_s = time.perf_counter() - started_s
    started_s = time.perf_counter()
    assert file.read() == replica.manager.catalog.snapshot
    return {
        "write_s": written_s,
        "read_s": time.perf_counter() - started_s,
        "bytes_per_model": file.path.stat().st_size / models,
    }


async def apply_once(models: int, folder: Path) -> dict[str, Any]:
    """The same, one round."""
    return await apply(models, folder, rounds=1)


PARTS: Final = {
    "memory": memory,
    "apply": apply,
    "apply-once": apply_once,
    "sync": sync,
    "local": local,
    "listing": listing,
    "keep": keep,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("models", type=int)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hotset-bench-") as scratch:
        print(json.dumps(asyncio.run(PARTS[asked.part](asked.models, asked.folder or Path(scratch)))))


if __name__ == "__main__":
    main()
