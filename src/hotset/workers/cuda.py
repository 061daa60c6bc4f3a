"""What models of this process take of its CUDA device. Made by ``devices.py`` in a worker that is bound to one.

Two sources, as neither sees all. PyTorch knows to the byte what its tensors take (``memory_allocated``), and keeps more for
later; what other libraries take (ONNX Runtime's arenas, a user's own CUDA) the driver alone knows, by process, and it says
nothing of who within it. So: PyTorch's own figure, and of what the driver counts for this process beyond PyTorch's whole
share, the growth since the device was opened. What opening takes (a context, kernels: hundreds of megabytes) is no model's.
Where the driver does not tell processes apart, it is what the whole device has lost, and others' loads disturb it.

It imports no framework: it looks whether one is there.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, Final, NamedTuple, Protocol

from hotset.nvml import Nvml

_FIRST: Final = 0
"""The device that this process is bound to is the only one that frameworks see."""


class Driver(Protocol):
    """Tells what processes take. Thread-safe."""

    def taken_by(self, pid: int, id_: str) -> int | None: ...

    def taken(self, id_: str) -> int: ...


class _Others(NamedTuple):
    """What is taken that is not PyTorch's: by this process, or where the driver does not tell (yet), by all."""

    bytes: int
    is_own: bool


class CudaMeter:
    """Implements ``DeviceMeter``. Thread-safe."""

    def __init__(self, id_: str, *, driver: Driver | None = None, torch: Any = None) -> None:
        """``torch`` None: the one that is imported by then, if any."""
        self._id = id_
        self._driver: Driver = driver if driver is not None else Nvml()
        self._given = torch
        self._lock = threading.Lock()
        self._base: _Others | None = None

    def in_use(self) -> int:
        torch = self._torch()
        own = int(torch.cuda.memory_allocated(_FIRST)) if torch is not None else 0
        base = self._base
        if base is None:
            return own
        now = self._others()
        return own + (max(0, now.bytes - base.bytes) if now.is_own == base.is_own else 0)

    def settle(self) -> bool:
        with self._lock:
            now = self._others()
            if not now.bytes or (self._base is not None and self._base.is_own == now.is_own):
                return False
            self._base = now
        # PyTorch's own is exact from the first byte on, whatever else the device was opened for.
        return self._torch() is None

    def give_back(self) -> None:
        torch = self._torch()
        if torch is not None:
            torch.cuda.empty_cache()

    def _others(self) -> _Others:
        own = self._driver.taken_by(os.getpid(), self._id)
        taken = self._driver.taken(self._id) if own is None else own
        torch = self._torch()
        reserved = 0 if torch is None else int(torch.cuda.memory_reserved(_FIRST))
        return _Others(max(0, taken - reserved), own is not None)

    def _torch(self) -> Any:
        """PyTorch, once it has opened the device; asking it before would open it."""
        torch = self._given if self._given is not None else sys.modules.get("torch")
        cuda = getattr(torch, "cuda", None)  # while it is being imported it has none yet
        return torch if cuda is not None and cuda.is_initialized() else None
