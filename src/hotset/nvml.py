"""NVIDIA's management library, as far as memory goes: which devices there are, and what a process takes of one.

The only file that imports ``pynvml`` (the package ``nvidia-ml-py``, an extra). It needs no CUDA and opens no context, so the
gateway can ask it too. Where the package or the driver is missing, there are no devices.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from hotset.devices import CUDA_METER, FoundDevice

_FIRST_NAMESPACE: Final = "pid:[4026531836]"
"""The number is the system's own, and always this."""


class Nvml:
    """Implements ``DeviceDriver``. Thread-safe, as the library is. ``close`` once, last; after it there are no devices."""

    def __init__(self) -> None:
        self._library = _library()

    @property
    def meter(self) -> str:
        return CUDA_METER

    def devices(self) -> Sequence[FoundDevice]:
        return tuple(self._devices())

    def _devices(self) -> Iterator[FoundDevice]:
        library = self._library
        if library is None:
            return
        for index in range(library.nvmlDeviceGetCount()):
            with contextlib.suppress(library.NVMLError):  # one that fell off the bus
                yield self._found(library.nvmlDeviceGetHandleByIndex(index))

    def device(self, id_: str) -> FoundDevice | None:
        library = self._library
        if library is None:
            return None
        fitting = [device for device in self.devices() if device.id.startswith(id_)]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
        with contextlib.suppress(library.NVMLError):  # a part of a device (MIG) is not among them
            return self._found(library.nvmlDeviceGetHandleByUUID(id_))
        return None

    def taken_by(self, pid: int, id_: str) -> int | None:
        """Return what one process takes of a device: 0 if it has not opened it; None if the driver does not tell,
        as in a container that has process ids of its own."""
        library = self._library
        if library is None:
            return None
        try:
            running = library.nvmlDeviceGetComputeRunningProcesses(library.nvmlDeviceGetHandleByUUID(id_))
        except library.NVMLError:
            return None
        taken = [process.usedGpuMemory for process in running if process.pid == pid]
        if taken:
            return None if taken[0] is None else int(taken[0])
        return 0 if not running or _sees_true_ids() else None

    def taken(self, id_: str) -> int:
        """Return what all processes together take of a device."""
        device = self.device(id_)
        return 0 if device is None else device.total_bytes - device.free_bytes

    def close(self) -> None:
        library, self._library = self._library, None
        if library is not None:
            with contextlib.suppress(library.NVMLError):
                library.nvmlShutdown()

    def _found(self, handle: Any) -> FoundDevice:
        library = self._library
        memory = library.nvmlDeviceGetMemoryInfo(handle)
        return FoundDevice(str(library.nvmlDeviceGetUUID(handle)), int(memory.total), int(memory.free))


def _sees_true_ids() -> bool:
    """Whether this process's id is the one that the driver knows: it is in the system's first namespace of processes."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == _FIRST_NAMESPACE
    except OSError:
        return False


def _library() -> Any:
    """Return the library, ready to be asked; None where there is none, or no driver behind it."""
    try:
        library: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        library.nvmlInit()
    except library.NVMLError:
        return None
    return library
