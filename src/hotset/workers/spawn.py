"""Child processes of the gateway: how one is started from a fresh interpreter, and how each is watched until its end.

Called by ``process.py``. ``subprocess`` and not ``multiprocessing``: no fork of a process with threads, no pickled
state. ``forking.py`` starts children in another way, faster, and falls back on this one.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

CHILD_COMMAND: Final = (sys.executable, "-P", "-m", "hotset.workers.child")

_ONE_THREAD: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


_NO_THREAD: Final = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Arrow's allocator starts a thread when it is imported, which pandas does, and so scikit-learn. No process with threads is
forked, so each child would have to import them all for itself."""


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` with one thread for each numeric library, except where the user has set a number.

    Children are how hotset uses several cores; libraries that each take all of them only get in each other's way.
    """
    return dict.fromkeys(_ONE_THREAD, "1") | _NO_THREAD | dict(environment)


def described_exit(status: int) -> str:
    """Return what ended a process, in words: its exit status, or the signal."""
    if status >= 0:
        return f"exited with status {status}"
    number = -status
    with contextlib.suppress(ValueError):
        return f"killed by signal {number} ({signal.Signals(number).name})"
    return f"killed by signal {number}"


class ProcessHandle(Protocol):
    """A process that is this one's child. ``wait`` blocks, reaps it and returns its status; ``kill`` may come any time."""

    @property
    def pid(self) -> int: ...

    def wait(self) -> int: ...

    def kill(self) -> None: ...


class ForkedProcess:
    """Implements ``ProcessHandle`` for a child that another process has forked. Thread-safe; ``wait`` once.

    Where somebody else reaps it, its end is seen and its status is not: 0, as ``subprocess`` has it.
    """

    def __init__(self, pid: int) -> None:
        self.pid: Final = pid
        self._lock = threading.Lock()
        self._is_reaped = False

    def wait(self) -> int:
        status = 0
        try:
            # In two steps: as long as it is not reaped, nobody else can get its number, and be killed in its place.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            with self._lock:
                self._is_reaped = True
                _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            # Somebody else has reaped it: the system where SIGCHLD is ignored, or the program that embeds us.
            self._is_reaped = True
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            if not self._is_reaped:
                os.kill(self.pid, signal.SIGKILL)


class WatchedProcess:
    """A running process. ``exited`` gives its status, after it was reaped.

    Owned by the event loop. The loop must run in a thread that outlives the process: Linux kills a child when the
    thread that started it ends.
    """

    def __init__(self, handle: ProcessHandle) -> None:
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        # A thread that waits works with any loop and any system; it ends with the child.
        threading.Thread(target=self._wait, name=f"hotset-reap-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._handle.pid

    def kill(self) -> None:
        self._handle.kill()

    async def reap(self, limit_s: float) -> int:
        """Wait for the end; past ``limit_s`` kill. Return the status."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self.exited), limit_s)
        self.kill()
        return await asyncio.shield(self.exited)

    def _wait(self) -> None:
        status = self._handle.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed before the child was
            self._loop.call_soon_threadsafe(self._set_exited, status)

    def _set_exited(self, status: int) -> None:
        if not self.exited.done():
            self.exited.set_result(status)


class ChildProcess(WatchedProcess):
    """A worker's child, with the gateway's ends of its two sockets, which whoever opens them closes. Owned as its base."""

    def __init__(self, handle: ProcessHandle, sockets: SocketPairs) -> None:
        super().__init__(handle)
        self.control: Final = sockets.control
        self.data: Final = sockets.data


@dataclass(frozen=True, slots=True)
class SocketPairs:
    """Both ends of a child's control and data sockets, before it has its own."""

    control: socket.socket
    data: socket.socket
    child_control: socket.socket
    child_data: socket.socket

    @property
    def child_descriptors(self) -> tuple[int, int]:
        return self.child_control.fileno(), self.child_data.fileno()


@contextlib.contextmanager
def socket_pairs() -> Iterator[SocketPairs]:
    """Make the sockets; afterwards the child's ends are closed here, and after an error the gateway's too."""
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        control, child_control = socket.socketpair()
        ours.enter_context(control)
        theirs.enter_context(child_control)
        data, child_data = socket.socketpair()
        ours.enter_context(data)
        theirs.enter_context(child_data)
        yield SocketPairs(control, data, child_control, child_data)
        ours.pop_all()


class ChildSource(Protocol):
    """Where children come from. Owned by the event loop."""

    @property
    def modules(self) -> tuple[str, ...]:
        """What each child should import ahead of need, once it is ready."""
        ...

    async def start_child(self) -> ChildProcess:
        """Return a running child that waits for its configuration.

        Raises:
            OSError: the system could not start one.
        """
        ...


class FreshInterpreters:
    """Starts each child from nothing: ``command`` with the numbers of its two sockets as last arguments."""

    def __init__(
        self, command: Sequence[str] = CHILD_COMMAND, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = command
        self._environment = environment

    @property
    def modules(self) -> tuple[str, ...]:
        return ()

    async def start_child(self) -> ChildProcess:
        with socket_pairs() as sockets:
            numbers = sockets.child_descriptors
            return ChildProcess(start_program(self._command, numbers, self._environment), sockets)


def start_program(
    command: Sequence[str], inherited: Sequence[int], environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    """Start ``command`` with the ``inherited`` files' numbers as last arguments; ``environment`` None: our own."""
    return subprocess.Popen(
        [*command, *map(str, inherited)],
        pass_fds=inherited,
        stdin=subprocess.DEVNULL,
        env=child_environment(os.environ if environment is None else environment),
    )
