"""The tiers of a replica: their directory, how much they may hold, and what a version will weigh before it was ever loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from hotset.assembly.ground import Ground
from hotset.config import Settings
from hotset.config_values import CacheSize
from hotset.errors import ConfigError, LoadFailedError
from hotset.events import Cause, Evicted, TierName
from hotset.own_processes import with_process, within_processes
from hotset.residency.arrival import Occupant
from hotset.residency.pressure import default_disk_bytes
from hotset.runtimes import registry as runtimes
from hotset.tiers.disk import DiskTier
from hotset.tiers.ledger import Capacity
from hotset.tiers.memory import MemoryTier
from hotset.tiers.record import DiskRecord

HANDLER_DISK_LIMIT_S: Final = 1.0
"""So long a fetch waits for room on disk on behalf of a handler: longer, and its request gives way to others."""
LEAST_ESTIMATE_BYTES: Final = 64 * 1024


def disk_tier(ground: Ground, directory: Path) -> DiskTier:
    """Return the disk tier in a directory that is made if need be; it is opened by ``recover``.

    It is unbounded where the settings leave that open: ``bound_by_free_space`` decides once it has recovered.

    Raises:
        ConfigError: the directory cannot be made.
    """
    _make_directory(directory)
    settings, events = ground.settings, ground.events
    size = settings.disk_model_cache_size or CacheSize()

    def tell(record: DiskRecord, cause: Cause, seconds: float) -> None:
        events.publish(Evicted(TierName.DISK, record.key, cause, record.bytes, seconds))

    return DiskTier(
        directory,
        Capacity(models=size.models, bytes=size.bytes),
        clock=ground.clock,
        on_evicted=tell,
        room_timeout_s=settings.request_timeout if settings.cortex is None else HANDLER_DISK_LIMIT_S,
    )


def bound_by_free_space(disk: DiskTier, settings: Settings) -> None:
    """Limit a disk tier that has recovered, where the settings leave that open, and no platform fills the disk."""
    if settings.disk_model_cache_size is None and not settings.sagemaker:
        disk.limit(Capacity(bytes=default_disk_bytes(Path(settings.disk_path), disk.usage.bytes)))


def memory_tier(
    settings: Settings, size: CacheSize, *, device_bytes: Sequence[int] = ()
) -> MemoryTier[Occupant]:
    """Return the memory tier; ``device_bytes`` is how much of each device is for models."""
    capacity = within_processes(settings, Capacity(models=size.models, bytes=size.bytes))
    return MemoryTier(capacity._replace(device_bytes=tuple(device_bytes)))


def estimate_of(settings: Settings) -> Callable[[DiskRecord], int]:
    """Return what says how many bytes a version will take in memory, by its files alone."""
    return with_process(settings, _by_size if settings.predictor else _by_runtime)


def _by_size(record: DiskRecord) -> int:
    return max(LEAST_ESTIMATE_BYTES, record.bytes)


def _by_runtime(record: DiskRecord) -> int:
    try:
        factor = runtimes.detect([file.path for file in record.files]).size_factor
    except LoadFailedError:
        factor = 1.0  # the worker will say so, in the words of whatever it loads with
    return max(LEAST_ESTIMATE_BYTES, int(record.bytes * factor))


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"disk_path: cannot make the directory {path}: {error.strerror}; choose one that can be written"
        ) from error
