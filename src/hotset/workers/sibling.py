"""Forks a sibling: a copy of this process whose parent is this one's parent. Called by the fork server alone.

So a child that the fork server made is the gateway's own, in every respect: the gateway reaps it and reads its exit
status, the system kills it when the gateway dies, and it does not notice when the fork server dies. With a plain
``fork`` it would be a grandchild, whose status nobody could give to the gateway once the fork server is gone.

There is no function for that in Python or in the C library, so the system call is made here, with the arguments that
glibc's ``fork`` gives it and ``CLONE_PARENT``; and Python's own preparations for a fork around it. What glibc would do
beside that concerns other threads (its locks and those of libraries), so it is refused unless there is only one thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Final

_CLONE_PARENT: Final = 0x0000_8000
_CLONE_CHILD_CLEARTID: Final = 0x0020_0000
_CLONE_CHILD_SETTID: Final = 0x0100_0000
_PR_GET_TID_ADDRESS: Final = 40

_CLONE_NUMBERS: Final = {"x86_64": 56, "aarch64": 220}
"""The number of ``clone``, for the machines on which this was tried. ``clone3`` has one number everywhere, but
container runtimes forbid it."""

_PASSING: Final = (errno.EAGAIN, errno.ENOMEM)

# Not ``CDLL``: that lets go of the interpreter around a call, and the copy must come up holding it.
_libc: Final = ctypes.PyDLL(None, use_errno=True)


class ForkFailedError(Exception):
    """No process was made; the text says why. ``is_lasting``: another attempt would end alike."""

    def __init__(self, reason: str, *, is_lasting: bool = True) -> None:
        super().__init__(reason)
        self.is_lasting = is_lasting


def threads_of_this_process() -> int:
    """Return how many threads there are, those included that native code has started."""
    return len(list(Path("/proc/self/task").iterdir()))


def fork_sibling() -> int:
    """Return the new process's id, or 0 in the new process.

    Raises:
        ForkFailedError: this process has several threads, or the system cannot do this.
    """
    number = _CLONE_NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        raise ForkFailedError(f"siblings are not forked on {sys.platform} {platform.machine()}")
    address = _thread_id_address()
    threads = threads_of_this_process()
    if threads != 1:
        raise ForkFailedError(f"a process with {threads} threads cannot be forked")
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _clone(number, address)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise ForkFailedError(f"clone: {os.strerror(error)}", is_lasting=error not in _PASSING)
    return pid


def _clone(number: int, thread_id_address: int) -> int:
    flags = _CLONE_PARENT | _CLONE_CHILD_CLEARTID | _CLONE_CHILD_SETTID | signal.SIGCHLD
    # flags, stack (0: a copy of this one), parent's thread id; then the child's and the thread-local storage, in the
    # order of the machine. The storage is not read without a flag of its own.
    last = (thread_id_address, 0) if platform.machine() == "x86_64" else (0, thread_id_address)
    return int(_libc.syscall(*map(ctypes.c_long, (number, flags, 0, 0, *last))))


def _thread_id_address() -> int:
    """Return where the C library keeps this thread's id, which the system must renew in the copy.

    The address is asked of the system, and believed if the id is found there: with glibc it is, with musl not.
    """
    found = ctypes.c_void_p()
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(found), 0, 0, 0) != 0 or not found.value:
        raise ForkFailedError("the system does not tell where the thread's id is kept")
    if ctypes.c_int.from_address(found.value).value != os.getpid():
        raise ForkFailedError("the C library keeps the thread's id in a way that is not known")
    return found.value
