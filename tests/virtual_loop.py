"""An event loop without real time and without threads: what a state machine needs to find a race and find it again.

Its time is the manual clock of the fakes, so a limit passes when the test says so. Work for a thread runs in the loop
itself, after as many steps as the dice say, which is what another thread looks like from the loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hotset.testing import ManualClock

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """``after_step`` is called after each step: what it asserts holds at every await point. ``close`` at the end."""

    def __init__(self, clock: ManualClock, *, seed: int, most_steps: int = 3) -> None:
        super().__init__()
        self.after_step: Callable[[], None] = lambda: None
        self.failures: list[dict[str, Any]] = []
        self._virtual_clock = clock
        self._dice = random.Random(seed)
        self._most_steps = most_steps
        self.set_exception_handler(lambda _loop, context: self.failures.append(context))

    def time(self) -> float:
        return self._virtual_clock.now_s

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        self._in_steps(self._dice.randint(0, self._most_steps), future, func, args)
        return future

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` to its end, and fail if anything failed that nobody waits for."""
        result = self.run_until_complete(work)
        assert not self.failures, self.failures
        return result

    def is_idle(self) -> bool:
        """Whether nothing is left to do before time passes or a gate opens."""
        return not self._ready  # type: ignore[attr-defined]

    def has_timers(self) -> bool:
        return any(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]

    def _in_steps(self, steps: int, future: asyncio.Future[T], func: Callable[..., T], args: Any) -> None:
        if steps:
            self.call_soon(self._in_steps, steps - 1, future, func, args)
            return
        if future.cancelled() and self._dice.random() < 0.5:
            return  # it was still waiting for a thread; the other half was running and cannot be stopped
        try:
            result = func(*args)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self.after_step()
