"""The devices of a replica, found once at its start: which there are, which worker has which, how much of each is for models.

The composition root asks for them. Devices are counted in the order of the list, as a model's ``model.yaml`` counts them:
``cuda:0`` is the first that this replica may use, whatever number the system gives it. Nothing here opens a device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hotset.errors import ConfigError

CONTEXT_BYTES: Final = 512 << 20
"""What each process that uses a device takes of it for itself, beside its models: kernels, handles, workspaces."""

CUDA_METER: Final = "hotset.workers.cuda:CudaMeter"

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

DEVICE_SHARE: Final = 0.8
"""Of what is left of a device, for models; the rest is for predictions and for what allocators keep."""


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device of this machine. ``id`` is its own for as long as it lives, wherever it is counted (``GPU-…``, ``MIG-…``)."""

    id: str
    total_bytes: int
    free_bytes: int


class DeviceDriver(Protocol):
    """Tells of devices. Thread-safe."""

    @property
    def meter(self) -> str:
        """The name of what measures its devices within a worker: ``module:function`` of a device's id."""
        ...

    def devices(self) -> Sequence[FoundDevice]:
        """Return all of this machine's, in the system's order; none where there are none, or no driver."""
        ...

    def device(self, id_: str) -> FoundDevice | None:
        """Return the one of this id, which may be cut short as long as it is clear; None if there is none."""
        ...


def visible(driver: DeviceDriver, said: str | None) -> tuple[FoundDevice, ...]:
    """Return what a process may use whose ``CUDA_VISIBLE_DEVICES`` says this; None: it says nothing, and that is all.

    As with CUDA itself, what comes behind a word that names no device does not count.
    """
    found = tuple(driver.devices())
    if said is None:
        return found
    chosen: list[FoundDevice] = []
    for word in said.split(","):
        name = word.strip()
        number = int(name) if name.isdecimal() else None
        if number is not None:
            device = found[number] if number < len(found) else None
        else:
            device = driver.device(name) if name.startswith(("GPU-", "MIG-")) else None
        if device is None or device in chosen:
            break
        chosen.append(device)
    return tuple(chosen)


def chosen(
    wanted: Sequence[int] | None, there: Sequence[FoundDevice], *, processes: int
) -> tuple[FoundDevice, ...]:
    """Return the devices of the replica: those ``wanted`` by their place, or with None as many as there are processes for.

    Raises:
        ConfigError: one is not there.
    """
    if wanted is None:
        return tuple(there[:processes])
    missing = [f"cuda:{place}" for place in wanted if place >= len(there)]
    if missing:
        has = f"{len(there)}, counted from 0" if there else "none"
        raise ConfigError(
            f"devices: found {', '.join(missing)}, expected devices that are there; this process sees {has}"
            " (NVIDIA's driver and the package nvidia-ml-py are needed: pip install 'hotset[cuda]')"
        )
    return tuple(there[place] for place in wanted)


@dataclass(frozen=True, slots=True)
class Bound:
    """A worker's device: its ``place`` in the replica's list, its ``id``, and the name of what measures it there,
    ``module:function`` of the id. Crosses to a child with its configuration."""

    place: int
    id: str
    meter: str = CUDA_METER


@dataclass(frozen=True, slots=True)
class Assignment:
    """The devices of a replica, of which there is one at least, and which worker has which. Frozen; pure."""

    devices: tuple[FoundDevice, ...]
    meter: str = CUDA_METER

    def device_of(self, worker: int) -> int:
        """Return the place of the device that a worker is bound to: workers are counted from 1, and take turns."""
        return (worker - 1) % len(self.devices)

    def bound(self, worker: int) -> Bound:
        """Return what a worker is bound to."""
        place = self.device_of(worker)
        return Bound(place, self.devices[place].id, self.meter)

    def capacities(self, limit_bytes: int | None, *, workers: int) -> tuple[int, ...]:
        """Return how much of each device is for models, of so many workers in all: the limit, or what is left beside them."""
        if limit_bytes is not None:
            return (limit_bytes,) * len(self.devices)
        shares = Counter(self.device_of(worker) for worker in range(1, workers + 1))
        return tuple(default_device_bytes(device, shares[place]) for place, device in enumerate(self.devices))


def assign(
    wanted: Sequence[int] | None,
    driver: DeviceDriver,
    *,
    said: str | None,
    processes: int,
) -> Assignment | None:
    """Return which of the devices that this process sees are used, and by whom; None where there is nothing to bind.

    ``said`` is what ``CUDA_VISIBLE_DEVICES`` says to this process. Threads of the server itself are not bound.

    Raises:
        ConfigError: a device that is wanted is not there.
    """
    if wanted == () or processes == 0:
        return None
    devices = chosen(wanted, visible(driver, said), processes=processes)
    return Assignment(devices, driver.meter) if devices else None


def default_device_bytes(device: FoundDevice, workers: int) -> int:
    """Return a device's capacity for models where the settings leave it open, with so many workers bound to it."""
    return max(0, int((device.free_bytes - workers * CONTEXT_BYTES) * DEVICE_SHARE))


def name_of(device: int) -> str:
    """Return what a device is called, in settings, status and metrics."""
    return f"cuda:{device}"
