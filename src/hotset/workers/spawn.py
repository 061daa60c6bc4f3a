"""Starts a child process with its two sockets, and watches for its end. Called by ``process.py``.

``subprocess`` and not ``multiprocessing``: no fork of a process with threads, no pickled state, no helper process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Final

CHILD_COMMAND: Final = (sys.executable, "-P", "-m", "hotset.workers.child")

_ONE_THREAD: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` with one thread for each numeric library, except where the user has set a number.

    Children are how hotset uses several cores; libraries that each take all of them only get in each other's way.
    """
    return dict.fromkeys(_ONE_THREAD, "1") | dict(environment)


def described_exit(status: int) -> str:
    """Return what ended a process, in words: its exit status, or the signal."""
    if status >= 0:
        return f"exited with status {status}"
    number = -status
    with contextlib.suppress(ValueError):
        return f"killed by signal {number} ({signal.Signals(number).name})"
    return f"killed by signal {number}"


class ChildProcess:
    """A running child. ``exited`` gives its status, after it was reaped.

    Owned by the event loop. The loop must run in a thread that outlives the child: Linux kills the child when the
    thread that started it ends.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        """Start ``command`` with the file numbers of its control and its data socket as last arguments."""
        self.control, control = socket.socketpair()
        self.data, data = socket.socketpair()
        numbers = (control.fileno(), data.fileno())
        try:
            self._process = subprocess.Popen(
                [*command, *map(str, numbers)],
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                env=child_environment(os.environ if environment is None else environment),
            )
        except BaseException:
            self.control.close()
            self.data.close()
            raise
        finally:
            control.close()
            data.close()
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        # A thread that waits works with any loop and any system; it ends with the child.
        threading.Thread(target=self._wait, name=f"hotset-reap-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()

    async def reap(self, limit_s: float) -> int:
        """Wait for the end; past ``limit_s`` kill. Return the status."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self.exited), limit_s)
        self.kill()
        return await asyncio.shield(self.exited)

    def _wait(self) -> None:
        status = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed before the child was
            self._loop.call_soon_threadsafe(self._set_exited, status)

    def _set_exited(self, status: int) -> None:
        if not self.exited.done():
            self.exited.set_result(status)
