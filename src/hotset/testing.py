"""Fakes that hotset ships, for its own tests and for those of embedders: a clock, a store and a worker under control.

No fake sleeps or reads the system's clock. What it should wait for is a gate that the test opens; what it should
fail with is an error that the test puts there.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from hotset.devices import FoundDevice
from hotset.errors import (
    ErrorKind,
    HotsetError,
    LoadFailedError,
    OverloadedError,
    UnavailableError,
    WorkerDiedError,
)
from hotset.payload import Encoded, Signature
from hotset.store import Content, ObjectChangedError, ObjectMeta, Revision
from hotset.store.target import new_file
from hotset.workers.base import DeathHandler, LoadReply, LoadSpec, PredictCall, Swapped
from hotset.workers.executions import Told
from hotset.workers.intact import intact_files


class ManualClock:
    """A clock that moves when it is told to."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class Gate:
    """A place to hold callers up. Open at first; ``close`` it, wait until ``arrived``, then ``open`` it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._arrivals = asyncio.Semaphore(0)

    async def pass_through(self) -> None:
        if not self._open.is_set():
            self._arrivals.release()
        await self._open.wait()

    async def arrived(self) -> None:
        """Return when one more caller waits at the closed gate."""
        await self._arrivals.acquire()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


@dataclass(slots=True)
class _Object:
    data: bytes
    etag: str
    modified_s: float


class FakeStore:
    """An object store in memory. ``gate`` holds listings and downloads up; ``fault`` fails them; ``counts`` counts."""

    def __init__(self, *, page_size: int = 1000) -> None:
        self.objects: Final[dict[str, _Object]] = {}
        self.counts: Final[Counter[str]] = Counter()
        self.downloads: Final[Counter[str]] = Counter()
        self.list_gate: Final = Gate()
        self.download_gate: Final = Gate()
        self.list_fault: Exception | None = None
        self.download_fault: Exception | None = None
        self.read_fault: Exception | None = None
        self._page_size = page_size
        self._writes = 0

    @property
    def url(self) -> str:
        return "fake://store"

    def put(self, path: str, data: bytes = b"x", *, modified_s: float = 0.0) -> None:
        """Write an object; each write gives it another etag."""
        self._writes += 1
        self.objects[path] = _Object(data, f"etag-{self._writes}", modified_s)

    def delete(self, prefix: str) -> None:
        """Delete every object below a prefix."""
        for path in [path for path in self.objects if path.startswith(prefix)]:
            del self.objects[path]

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        self.counts["list"] += 1
        await self.list_gate.pass_through()
        if self.list_fault is not None:
            raise self.list_fault
        found = [self._meta(path) for path in sorted(self.objects) if path.startswith(prefix)]
        for start in range(0, len(found), self._page_size):
            yield found[start : start + self._page_size]

    async def scan(self, start: str = "", *, behind: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        """Count each page as a ``scan``, as each is a request."""
        await self.list_gate.pass_through()
        beyond = f"{behind}0" if behind else ""
        found = [
            self._meta(path) for path in sorted(self.objects) if path.startswith(start) and path > beyond
        ]
        for begin in range(0, max(1, len(found)), self._page_size):
            self.counts["scan"] += 1
            if self.list_fault is not None:
                raise self.list_fault
            yield found[begin : begin + self._page_size]

    async def open(self, path: str, *, unless: str | None = None) -> Content | None:
        self.counts["open"] += 1
        if self.list_fault is not None:
            raise self.list_fault
        found = self.objects.get(path)
        if found is None:
            return None
        return Content(Revision(found.etag), None if found.etag == unless else _in_chunks(found.data))

    async def read(self, path: str, *, limit_bytes: int = 1 << 20) -> bytes | None:
        self.counts["read"] += 1
        if self.read_fault is not None:
            raise self.read_fault
        found = self.objects.get(path)
        return None if found is None else found.data[:limit_bytes]

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        self.counts["download"] += 1
        self.downloads[object_.path] += 1
        await self.download_gate.pass_through()
        if self.download_fault is not None:
            raise self.download_fault
        found = self.objects.get(object_.path)
        if found is None or found.etag != object_.etag:
            raise ObjectChangedError(f"not the object that was listed any more: {object_.path}")
        with os.fdopen(new_file(target), "wb") as file:
            file.write(found.data)

    def _meta(self, path: str) -> ObjectMeta:
        found = self.objects[path]
        return ObjectMeta(path, len(found.data), found.etag, found.modified_s)


async def _in_chunks(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class FakeMeter:
    """The device of this process, which the code under test takes memory of. Implements ``DeviceMeter``.

    ``kept`` is what was given back to the framework, and by the framework to nobody yet.
    """

    taken: ClassVar[int] = 0
    kept: ClassVar[int] = 0

    def __init__(self, id_: str) -> None:
        self.id: Final = id_

    @classmethod
    def take(cls, bytes_: int) -> None:
        cls.kept = max(0, cls.kept - bytes_)
        cls.taken += bytes_

    @classmethod
    def drop(cls, bytes_: int) -> None:
        cls.taken -= bytes_
        cls.kept += bytes_

    def in_use(self) -> int:
        return self.taken

    def settle(self) -> bool:
        return False

    def give_back(self) -> None:
        FakeMeter.kept = 0


class FakeDriver:
    """A machine with devices of these sizes, all of them free. Implements ``DeviceDriver``."""

    def __init__(self, *sizes: int) -> None:
        self.found: Final = [FoundDevice(f"GPU-{place}", size, size) for place, size in enumerate(sizes)]
        self.meter: Final = "hotset.testing:FakeMeter"

    def devices(self) -> Sequence[FoundDevice]:
        return self.found

    def device(self, id_: str) -> FoundDevice | None:
        fitting = [device for device in self.found if device.id.startswith(id_)]
        return fitting[0] if len(fitting) == 1 else None


@dataclass(slots=True)
class WorkerScript:
    """What fake workers do: shared by all of a pool, so that a replaced worker follows it too."""

    start_fault: Exception | None = None
    """What every start fails with."""
    gates: dict[str, Gate] = field(default_factory=dict)
    unload_gate: Gate = field(default_factory=Gate)
    load_faults: dict[str, Exception] = field(default_factory=dict)
    """By model, or by version: ``paris@2``."""
    weights: dict[str, int] = field(default_factory=dict)
    device_weights: dict[str, int] = field(default_factory=dict)
    """What a model takes of its worker's device."""
    short_of_memory: Counter[str] = field(default_factory=Counter)
    """How many of the next predictions of a model run out of memory."""
    loads: Counter[str] = field(default_factory=Counter)
    """How many loads of a version have begun."""
    asked: list[LoadSpec] = field(default_factory=list)
    """The loads that were asked for, in order: some wait for others to be gone."""
    live: dict[int, LoadSpec] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    """In which worker each model was loaded, by its handle."""
    most_live: int = 0
    light: bool = False
    """Whether loads say that they are light, and models may be swapped."""
    swap_gate: Gate = field(default_factory=Gate)
    swaps: Counter[str] = field(default_factory=Counter)
    """How many swaps have brought a version in."""
    coming: set[int] = field(default_factory=set)
    """What is swapped in and not there yet; predictions of it wait."""
    in_use: bool = False
    """Whether what is unloaded is still used by a prediction, so that nothing can come in behind it."""
    imported: list[str] = field(default_factory=list)
    trims: int = 0
    """How often a worker was told to give back what is free."""
    used_after_unload: list[int] = field(default_factory=list)

    def gate(self, name: str) -> Gate:
        """Return the gate at which loads of this model wait."""
        return self.gates.setdefault(name, Gate())


class FakeWorker:
    """A worker on the event loop. Its answer to anything is ``name@version|file contents`` of the model asked."""

    def __init__(self, number: int, on_death: DeathHandler, script: WorkerScript) -> None:
        self.queued = 0
        """Predictions sent and not answered, as the test has it."""
        self.calls = 0
        self.stuck = 0
        self.suspects: frozenset[int] = frozenset()
        self._number = number
        self._on_death = on_death
        self._script = script
        self._contents: dict[int, str] = {}
        self._dead: str | None = None
        self._died = asyncio.Event()
        self._left = Gate()
        self.refused: set[int] = set()
        """Models that were to be swapped in, and were not."""
        self._order: asyncio.Future[Swapped] | None = None
        """The last swap that was sent: what comes behind it waits for it."""

    @property
    def id(self) -> int:
        return self._number

    @property
    def pid(self) -> int | None:
        return None

    async def start(self) -> None:
        self._check_alive()
        if self._script.start_fault is not None:
            raise self._script.start_fault

    async def load(self, spec: LoadSpec) -> LoadReply:
        self._script.asked.append(spec)
        if spec.after and self._script.in_use:
            raise OverloadedError("still in use", kind=ErrorKind.NO_ROOM)
        while any(handle in self._contents for handle in spec.after):
            self._left.close()
            await self._unless_dead(self._left)
        self._script.loads[f"{spec.name}@{spec.version}"] += 1
        await self._unless_dead(self._script.gate(spec.name))
        self._take_in(spec)
        weight = self._script.weights.get(spec.name, 100)
        taken = self._script.device_weights.get(spec.name, 0)
        self._script.places[spec.handle] = self._number
        return LoadReply("fake", weight, Signature("fake"), is_light=self._script.light, device_bytes=taken)

    async def unload(self, handle: int) -> None:
        await self._unless_dead(self._script.unload_gate)
        self._contents.pop(handle, None)
        self._script.live.pop(handle, None)
        self._left.open()

    def trim(self) -> None:
        self._script.trims += 1

    def swap(self, spec: LoadSpec) -> Awaitable[Swapped]:
        self._script.asked.append(spec)
        self._script.coming.add(spec.handle)
        swap = asyncio.ensure_future(self._swap(spec, self._order))
        self._order = swap
        return swap

    async def _swap(self, spec: LoadSpec, before: asyncio.Future[Swapped] | None) -> Swapped:
        try:
            await self._after(before)
            await self._unless_dead(self._script.swap_gate)
            return self._swapped(spec)
        finally:
            self._script.coming.discard(spec.handle)

    async def _after(self, swap: asyncio.Future[Swapped] | None) -> None:
        """Return when all is carried out that was sent before."""
        if swap is not None:
            await asyncio.wait((swap,))

    def _swapped(self, spec: LoadSpec) -> Swapped:
        script = self._script
        if script.in_use or not script.light:
            self.refused.add(spec.handle)
            return Swapped(is_loaded=False, are_gone=False)
        for handle in spec.after:
            self._contents.pop(handle, None)
            script.live.pop(handle, None)
        try:
            self._take_in(spec)
        except HotsetError:
            self.refused.add(spec.handle)
            return Swapped(is_loaded=False, are_gone=True)
        script.swaps[f"{spec.name}@{spec.version}"] += 1
        return Swapped(is_loaded=True, are_gone=True, is_light=True)

    def import_ahead(self, modules: Sequence[str]) -> None:
        self._script.imported += modules

    async def executions(self, name: str) -> Sequence[Told]:
        """It counts none."""
        del name
        return ()

    def predict(self, call: PredictCall) -> Awaitable[Encoded]:
        self.calls += 1
        return self._answer(call)

    def give_up(self, reason: str, *, suspects: Collection[int] = ()) -> None:
        self.die(reason, suspects=suspects)

    def kill(self) -> None:
        self.die("killed")

    async def close(self) -> None:
        self._forget()

    def die(self, reason: str = "killed by the test", *, suspects: Collection[int] = ()) -> None:
        """End as a child does that was killed; ``suspects`` are the handles of what it was at."""
        self._dead = reason
        self.suspects = frozenset(suspects)
        self._forget()
        self._died.set()
        self._on_death(reason)

    def _take_in(self, spec: LoadSpec) -> None:
        faults = self._script.load_faults
        fault = faults.get(spec.name) or faults.get(f"{spec.name}@{spec.version}")
        if fault is not None:
            raise copy(fault)  # each load fails with an error of its own
        intact_files(spec.path, spec.files or ())
        self._contents[spec.handle] = _contents_of(Path(spec.path))
        self._script.live[spec.handle] = spec
        self._script.most_live = max(self._script.most_live, len(self._script.live))

    async def _answer(self, call: PredictCall) -> Encoded:
        await self._after(self._order)
        self._check_alive()
        contents = self._contents.get(call.handle)
        if contents is None:
            if call.handle not in self.refused:
                self._script.used_after_unload.append(call.handle)
            raise UnavailableError(f"no such handle: {call.handle}", kind=ErrorKind.NOT_LOADED)
        await asyncio.sleep(0)
        self._check_alive()
        spec = self._script.live[call.handle]
        if self._script.short_of_memory[spec.name] > 0:
            self._script.short_of_memory[spec.name] -= 1
            raise UnavailableError(f"no memory left: {spec.name}", kind=ErrorKind.OUT_OF_MEMORY)
        return Encoded(f"{spec.name}@{spec.version}|{contents}".encode())

    async def _unless_dead(self, gate: Gate) -> None:
        self._check_alive()
        task = asyncio.ensure_future(gate.pass_through())
        died = asyncio.ensure_future(self._died.wait())
        try:
            await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            died.cancel()
        self._check_alive()

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise WorkerDiedError(self._dead)

    def _forget(self) -> None:
        for handle in self._contents:
            self._script.live.pop(handle, None)
        self._contents.clear()


def _contents_of(path: Path) -> str:
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    if not files:
        raise LoadFailedError(f"no files in {path}")
    return "|".join(file.read_text() for file in files)


def versions(store: FakeStore, tree: Mapping[str, Sequence[int]]) -> None:
    """Put models into a store: name → version numbers, each with one file that says which it is."""
    for name, numbers in tree.items():
        for number in numbers:
            store.put(f"{name}/{number}/model.txt", f"{name}-{number}".encode())
