"""Workers under control: what they do is a script that all of a pool share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Collection, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from hotset.errors import (
    ErrorKind,
    HotsetError,
    LoadFailedError,
    OverloadedError,
    UnavailableError,
    WorkerDiedError,
)
from hotset.payload import Encoded, Signature
from hotset.testing.gate import Gate
from hotset.workers.base import DeathHandler, LoadReply, LoadSpec, PredictCall, Swapped
from hotset.workers.executions import Told
from hotset.workers.intact import intact_files


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
