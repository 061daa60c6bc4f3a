"""NVIDIA's library as a server process finds it on a machine with two devices: what a process takes is in a file of its own.

``FAKE_NVML`` is the directory: ``<device>/<process id>`` holds a number of bytes. Whoever runs this is on ``PYTHONPATH`` of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

TOTAL = 10 << 30
IDS = ("GPU-aaaa", "GPU-bbbb")


class NVMLError(Exception):
    pass


def nvmlInit() -> None:
    if "FAKE_NVML" not in os.environ:
        raise NVMLError("no driver")


def nvmlShutdown() -> None: ...


def nvmlDeviceGetCount() -> int:
    return len(IDS)


def nvmlDeviceGetHandleByIndex(index: int) -> str:
    return IDS[index]


def nvmlDeviceGetHandleByUUID(id_: str) -> str:
    if id_ not in IDS:
        raise NVMLError("not found")
    return id_


def nvmlDeviceGetUUID(handle: str) -> str:
    return handle


def nvmlDeviceGetComputeRunningProcesses(handle: str) -> list[SimpleNamespace]:
    folder = Path(os.environ["FAKE_NVML"], handle)
    return [
        SimpleNamespace(pid=int(file.name), usedGpuMemory=int(file.read_text() or 0))
        for file in sorted(folder.glob("[0-9]*"))
    ]


def nvmlDeviceGetMemoryInfo(handle: str) -> SimpleNamespace:
    used = sum(process.usedGpuMemory for process in nvmlDeviceGetComputeRunningProcesses(handle))
    return SimpleNamespace(total=TOTAL, free=TOTAL - used, used=used)
