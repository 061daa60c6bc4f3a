"""Counts what one thread does, whatever the machine and its load: bytecode instructions, calls, callbacks, sends.

``measure.py`` drives requests through the event loop below and reads the counters between them. What belongs to the
event loop itself is left out: in production that is uvloop, which has no bytecode.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

HERE: Final = str(Path(__file__).parent)
LIBRARY: Final = str(Path(asyncio.__file__).parents[1])

ASYNCIO_WORK: Final = ("asyncio/locks.py", "asyncio/queues.py", "asyncio/timeouts.py")
"""What a request pays for with uvloop too."""

NOT_OF_A_REQUEST: Final = (
    "asyncio/",
    "selectors.py",
    "socket.py",
    "threading.py",
    "uvicorn/server.py",
    "hotset/server.py",
)
"""The event loop, and what ticks beside it."""

SENDS: Final = frozenset({"send", "sendmsg", "sendall", "sendto"})
RECEIVES: Final = frozenset({"recv", "recv_into", "recvmsg"})


def module_of(filename: str) -> str | None:
    """Return a short name for a file whose instructions count, or None."""
    if filename.startswith((HERE, "<")):
        return None
    for root in ("/site-packages/", "/src/", f"{LIBRARY}/"):
        _, found, inside = filename.rpartition(root)
        if found:
            if inside.startswith(NOT_OF_A_REQUEST) and inside not in ASYNCIO_WORK:
                return None
            return inside
    return filename


class Instructions:
    """Bytecode instructions and Python calls, by module. Legal order: ``start``, any reads, ``stop``.

    Plain dicts, so that reading them executes nothing that would be counted.
    """

    def __init__(self) -> None:
        self.executed: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self._tracers: dict[str, Callable[..., Any] | None] = {}

    def start(self) -> None:
        sys.settrace(self._on_call)

    def stop(self) -> None:
        sys.settrace(None)

    def _on_call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        filename = frame.f_code.co_filename
        try:
            tracer = self._tracers[filename]
        except KeyError:
            tracer = self._tracers[filename] = self._tracer(filename)
        if tracer is None:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return tracer(frame, "call", None)

    def _tracer(self, filename: str) -> Callable[..., Any] | None:
        module = module_of(filename)
        if module is None:
            return None
        executed, calls = self.executed, self.calls
        executed.setdefault(module, 0)
        calls.setdefault(module, 0)

        def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
            if event == "opcode":
                executed[module] += 1
            elif event == "call":
                calls[module] += 1
            return trace

        return trace


class NativeCalls:
    """Calls of functions in C, and those among them that are system calls on sockets."""

    def __init__(self) -> None:
        self.calls = 0
        self.sends = 0
        self.receives = 0
        self._counts: dict[str, bool] = {}

    def start(self) -> None:
        sys.setprofile(self._on_event)

    def stop(self) -> None:
        sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "c_call":
            return
        filename = frame.f_code.co_filename
        counts = self._counts.get(filename)
        if counts is None:
            counts = self._counts[filename] = module_of(filename) is not None
        self.calls += counts
        if filename.startswith(HERE):
            return
        name = getattr(argument, "__name__", "")
        self.sends += name in SENDS
        self.receives += name in RECEIVES


class CountingLoop(asyncio.SelectorEventLoop):
    """The event loop of the standard library, which counts what is scheduled on it."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks = 0
        self.timers = 0
        self.tasks = 0
        self.futures = 0

    def call_soon(self, callback: Any, *arguments: Any, context: Any = None) -> asyncio.Handle:
        self.callbacks += 1
        return super().call_soon(callback, *arguments, context=context)

    def call_at(
        self, when: float, callback: Any, *arguments: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(when, callback, *arguments, context=context)

    def create_task(self, *arguments: Any, **options: Any) -> Any:
        self.tasks += 1
        return super().create_task(*arguments, **options)

    def create_future(self) -> Any:
        self.futures += 1
        return super().create_future()
