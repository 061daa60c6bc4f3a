"""Imports ahead of need: in a thread of a child, while nobody waits for them. Called by ``child.py`` and ``thread.py``.

A load waits for what is being imported: two threads that import modules which import each other end in a deadlock, which
Python ends by failing one of them. Where that happens all the same (two loads at once), the load is tried again.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

from hotset.runtimes.reason import reason_of
from hotset.workers.reclaim import set_aside

_logger: Final = logging.getLogger(__name__)

WAIT_S: Final = 30.0
"""A load waits so long for imports to end. What takes longer hangs, and may do so alone."""

DEADLOCK: Final = "_DeadlockError"
"""What Python raises in one of two threads that import modules of which each imports the other. It has no public name."""


class Imports:
    """The imports that run in the background of this process. Thread-safe."""

    def __init__(self) -> None:
        self._running = 0
        self._changed = threading.Condition()

    def start(self, modules: Sequence[str], *, prepare: Callable[[], None] = lambda: None) -> None:
        """Import what is not imported yet, in a thread; ``prepare`` runs there first. What fails is the load's to tell."""
        missing = [module for module in modules if module not in sys.modules]
        if missing:
            self._count(1)
            threading.Thread(
                target=self._import_all, args=(missing, prepare), name="hotset-import", daemon=True
            ).start()

    def wait(self, limit_s: float = WAIT_S) -> None:
        """Return when none runs: a load that imports beside them can end in a deadlock of the two."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running, limit_s)

    def _import_all(self, modules: Sequence[str], prepare: Callable[[], None]) -> None:
        try:
            prepare()
            for module in modules:
                try:
                    importlib.import_module(module)
                except Exception as error:  # noqa: BLE001 - a module may raise anything while it is imported
                    _logger.debug("%s was not imported ahead: %s", module, reason_of(error))
            set_aside()
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._changed:
            self._running += change
            self._changed.notify_all()


imports: Final = Imports()
"""The modules are the process's, so there is one of this."""


def is_deadlock(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is that of two threads whose imports wait for each other."""
    while error is not None:
        if type(error).__name__ == DEADLOCK:
            return True
        error = error.__cause__
    return False
