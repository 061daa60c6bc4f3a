"""On which device a version is loaded, and what it is expected to take there. Used by ``arrival`` where a replica has devices.

A version that computes on a device says so in its ``model.yaml``; what it takes is known from the last load, else its files say
how much about. The device with most room is chosen, before room is asked for, and with it the workers that are bound to it.
What turns out to take device memory without having said so is counted where it was loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from hotset.catalog import VersionEntry
from hotset.devices import Assignment, name_of
from hotset.errors import LoadFailedError
from hotset.keys import Fingerprint, ModelKey
from hotset.runtimes.modelyaml import read_model_yaml
from hotset.runtimes.options import MODEL_YAML, Device
from hotset.tiers.books import on_device
from hotset.tiers.disk import DiskTier
from hotset.tiers.ledger import Capacity, Entry, Weight
from hotset.tiers.memory import MemoryTier
from hotset.tiers.record import DiskRecord
from hotset.workers.pool import Resident, WorkerPool

ESTIMATE_FACTOR: Final = 1.2
"""What weights in a file become on a device, before it was measured: the same tensors, and what goes with them."""

_MOST_KNOWN: Final = 10_000
_ANY: Final = Device("cuda")


class Devices:
    """Owned by the event loop. For one load: ``weigh``; then ``forget``, however it ended."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        memory: MemoryTier[Any],
        disk: DiskTier,
        pool: WorkerPool,
        has_predictor: bool,
    ) -> None:
        """With a predictor, which says nothing of devices, every version is taken to use one until it was loaded once."""
        self._assignment = assignment
        self._memory = memory
        self._disk = disk
        self._pool = pool
        self._has_predictor = has_predictor
        self._wanted: dict[Fingerprint, Device | None] = {}

    async def weigh(self, version: VersionEntry, bytes_: int) -> Weight:
        """Return what a version is expected to take, ``bytes_`` of it of the host, and have it loaded where that is.

        Raises:
            LoadFailedError: it names a device that the replica does not have.
        """
        record = self._disk.lookup(version.fingerprint)
        wanted = None if record is None else await self._wants(record)
        if wanted is not None and (wanted.index or 0) >= len(self._assignment.devices):
            raise LoadFailedError(
                f"{MODEL_YAML}: device: found {wanted}, expected one that this server uses:"
                f" {', '.join(map(name_of, range(len(self._assignment.devices))))}; or cuda, for any of them"
            )
        needed = _needed(record, wanted)
        if wanted is None and not needed:
            return Weight(bytes=bytes_)
        device = self._place(version.key, wanted)
        self._pool.bounds[version.key] = partial(self._is_at, device)
        return Weight(1, bytes_, on_device(device, needed))

    def forget(self, key: ModelKey) -> None:
        """Its load has ended."""
        self._pool.bounds.pop(key, None)

    def expected(self, version: VersionEntry, bytes_: int) -> Weight:
        """Return what is known of what it will take, wherever there is most room."""
        record = self._disk.lookup(version.fingerprint)
        needed = _needed(record, None)
        return Weight(1, bytes_, on_device(self._roomiest(), needed) if needed else ())

    def measured(self, resident: Resident) -> Weight:
        """Return what was loaded takes, where it was loaded."""
        reply = resident.reply
        return Weight(
            1, reply.bytes, on_device(self._assignment.device_of(resident.worker.id), reply.device_bytes)
        )

    def moved(self, weight: Weight, worker: int) -> Weight:
        """Return what a copy takes in that worker, of what takes ``weight`` in another."""
        taken = sum(weight.device_bytes)
        return weight._replace(device_bytes=on_device(self._assignment.device_of(worker), taken))

    def suits(self, version: VersionEntry, worker: int) -> bool:
        """Whether that worker's device is the one that a version in memory asks for, if it asks for a certain one."""
        wanted = self._wanted.get(version.fingerprint)
        return wanted is None or wanted.index in {None, self._assignment.device_of(worker)}

    def is_beside(self, place: Entry[ModelKey, Any], at: int, worker: int) -> bool:
        """Whether a model in the worker ``at`` takes memory of the device of ``worker``."""
        device = self._assignment.device_of(worker)
        return bool(place.weight.device_bytes) and self._is_at(device, at)

    def _is_at(self, device: int, worker: int) -> bool:
        return self._assignment.device_of(worker) == device

    def _place(self, key: ModelKey, wanted: Device | None) -> int:
        wished = self._pool.wishes.get(key)
        if wanted is not None and wanted.index is not None:
            return wanted.index
        return self._roomiest() if wished is None else self._assignment.device_of(wished)

    def _roomiest(self) -> int:
        return roomiest(
            self._memory.capacity,
            (self._memory.usage, self._memory.commitment),
            len(self._assignment.devices),
        )

    async def _wants(self, record: DiskRecord) -> Device | None:
        """Return the device that a version asks for; None: the processor."""
        files = [file.path for file in record.files]
        if self._has_predictor or "predictor.py" in files:
            return _ANY if record.device_bytes is None else None
        if MODEL_YAML not in files:
            return None
        fingerprint = record.fingerprint
        if fingerprint not in self._wanted:
            if len(self._wanted) >= _MOST_KNOWN:
                self._wanted.clear()
            path = Path(self._disk.files_at(fingerprint))
            self._wanted[fingerprint] = await asyncio.to_thread(_device_in, path, files)
        return self._wanted[fingerprint]


def _device_in(path: Path, files: Sequence[str]) -> Device | None:
    try:
        device = read_model_yaml(path, files).runtime_options.device
    except LoadFailedError:
        return None  # the worker says so, in the same words
    return None if device.kind == "cpu" else device


def _needed(record: DiskRecord | None, wanted: Device | None) -> int:
    if record is not None and record.device_bytes is not None:
        return record.device_bytes
    return 0 if record is None or wanted is None else int(record.bytes * ESTIMATE_FACTOR)


def roomiest(capacity: Capacity, taken: Sequence[Weight], devices: int) -> int:
    """Return the place of the device with most room, by whatever of ``taken`` leaves least; the first of equals."""

    def room(device: int) -> float:
        limit = capacity.device_bytes[device] if device < len(capacity.device_bytes) else None
        used = max(
            weight.device_bytes[device] if device < len(weight.device_bytes) else 0 for weight in taken
        )
        return float("inf") if limit is None else limit - used

    return max(range(devices), key=room)
