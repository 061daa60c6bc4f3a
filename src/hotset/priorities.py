"""How threads share the processors: what a client waits for goes first, what loads goes when nothing else wants to.

Called once by the server for its own thread, from which its children inherit it, and by each thread that loads. Both are
requests to Linux that need no privilege; elsewhere, and where they are refused, threads share as usual.

Linux gives a thread that wakes up the processor at once only if its *slice* (how long it wants to run) is the shorter
one; else the one that runs goes on for a slice or until the next tick, which is up to 4 ms. Slices can be asked for
since Linux 6.12 (``sched_setattr(2)``); before that, the request is taken and does nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import sys
import threading
from typing import Final

PROMPT_SLICE_S: Final = 0.0001
"""The shortest there is."""
LOADING_SLICE_S: Final = 0.1
"""The longest there is: it gives way to whatever wakes up, and goes on long where nothing does."""
LOADING_NICE: Final = 10
"""Measured with a load that unpickles and a one-row predict beside it: without this the predict's p99 was 20 to 100
times its own."""

_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")
"""size, policy, flags, nice, priority, runtime, deadline, period"""


def go_first() -> None:
    """Have this thread, and all threads and processes that it starts from now on, run as soon as they can."""
    _ask(PROMPT_SLICE_S)


def give_way() -> None:
    """Have this thread run when the others leave it time."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            nice = max(LOADING_NICE, os.getpriority(os.PRIO_PROCESS, thread))
            os.setpriority(os.PRIO_PROCESS, thread, nice)
    _ask(LOADING_SLICE_S)


def _ask(slice_s: float) -> None:
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or sys.maxsize < 2**32:
        return
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return  # whoever started us has chosen another way to share
    nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())  # it has to be said again
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, round(slice_s * 1e9), 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # refused or not, all goes on
