"""What the disk tier's tests share: fingerprints by number, a clock to turn, and a look at the real directory."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from pathlib import Path
from typing import Any, Self

from hotset.events import Cause
from hotset.keys import Fingerprint, ModelKey, fingerprint
from hotset.store.target import make_directory
from hotset.tiers.disk import DiskRecord, DiskTier, Stage
from hotset.tiers.ledger import Capacity
from hotset.tiers.medium import BOOT_ID


class Turned:
    """A clock that stands still until ``now_s`` is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


def fp(number: int) -> Fingerprint:
    return fingerprint([("model", number, "etag")])


def key(number: int) -> ModelKey:
    return ModelKey("paris", number)


class Opened:
    """A tier on ``path`` and what it said of evictions; ``async with`` recovers and closes it."""

    def __init__(
        self,
        path: Path,
        capacity: Capacity | None = None,
        *,
        fsync: bool = False,
        boot_file: Path = BOOT_ID,
        write_delay_s: float = 60.0,
    ) -> None:
        self.evicted: list[tuple[Fingerprint, Cause]] = []
        self.clock = Turned()
        self.tier = DiskTier(
            path,
            capacity or Capacity(),
            clock=self.clock,
            on_evicted=self._note,
            fsync=fsync,
            boot_file=boot_file,
            write_delay_s=write_delay_s,
            threads=2,
        )

    def _note(self, record: DiskRecord, cause: Cause, seconds: float) -> None:
        assert seconds >= 0
        self.evicted.append((record.fingerprint, cause))

    async def __aenter__(self) -> Self:
        self.report = await self.tier.recover()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.tier.check_invariants()
        await self.tier.close()

    def crash(self) -> None:
        """Let go of the directory as a dying process does: nothing is waited for, saved or cleaned up."""
        self.tier._behind.stop()
        self.tier._files.close()
        self.tier._directory.ownership.give_back()


def content(number: int, size: int) -> dict[str, bytes]:
    """Two files that differ for each number, of ``size`` bytes in all."""
    return {"model": bytes([number % 256]) * (size // 2), "part/weights": b"w" * (size - size // 2)}


def write_files(stage: Stage, files: Mapping[str, bytes]) -> None:
    """What a download does."""
    for name, target in stage.targets(files).items():
        make_directory(target.parent)
        target.write_bytes(files[name])


async def put(tier: DiskTier, number: int, size: int = 10) -> DiskRecord:
    files = content(number, size)
    async with tier.stage(fp(number), key=key(number), bytes=size) as stage:
        write_files(stage, files)
        return await stage.publish({name: len(data) for name, data in files.items()})


def in_objects(path: Path) -> set[str]:
    return {entry.name.partition(".")[0] for entry in (path / "objects").iterdir()}


def in_staging(path: Path) -> set[str]:
    return {entry.name for entry in (path / "staging").iterdir()}


def bytes_of_files(path: Path) -> int:
    """What all models' files take, published, staged or being deleted."""
    return sum(
        file.stat().st_size
        for file in path.rglob("*")
        if file.is_file() and "files" in file.relative_to(path).parts
    )


class CancelledAt:
    """Runs a coroutine and cancels its task while it is suspended for the ``at``-th time (from 0)."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int) -> None:
        self._work = work
        self._at = at

    async def run(self) -> bool:
        """Return whether the coroutine ended before it was to be cancelled."""
        self._task = asyncio.create_task(self._drive())
        await asyncio.wait([self._task])
        if self._task.cancelled():
            return False
        self._task.result()
        return True

    async def _drive(self) -> None:
        await self._steps()

    @types.coroutine
    def _steps(self) -> Generator[Any, None, None]:
        suspensions = 0
        resume: Callable[[], Any] = lambda: self._work.send(None)
        while True:
            try:
                waits_for = resume()
            except StopIteration:
                return
            if suspensions == self._at:
                asyncio.get_running_loop().call_soon(self._task.cancel)
            suspensions += 1
            resume = lambda: self._work.send(None)
            try:
                yield waits_for
            except BaseException as error:
                thrown = error
                resume = lambda thrown=thrown: self._work.throw(thrown)
