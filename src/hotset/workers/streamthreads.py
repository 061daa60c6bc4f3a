"""Threads for the user's generators: one for each that runs, up to a bound. ``finishing`` hands them over.

A generator that waits for its client, or for whatever it streams, keeps no predict thread from predicting.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

MOST: Final = 64
"""So many generators run at once in a process at most; who comes later waits for its turn."""


class StreamThreads:
    """Thread-safe. ``run`` at any time; the threads end by themselves, and none is kept idle."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._threads: set[threading.Thread] = set()

    def run(self, work: Callable[[], None]) -> None:
        """Do it in a thread, in its turn. It handles its own failures."""
        with self._lock:
            if len(self._threads) >= self._most:
                self._waiting.append(work)
                return
            thread = threading.Thread(target=self._work, args=(work,), name="hotset-stream", daemon=True)
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._threads.discard(thread)
            raise

    def join(self, limit_s: float, now: Callable[[], float]) -> bool:
        """Wait for the threads that run; False if one has not ended after ``limit_s``."""
        end = now() + limit_s
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - now()))
        return not any(thread.is_alive() for thread in threads)

    def _work(self, work: Callable[[], None] | None) -> None:
        while work is not None:
            work()
            with self._lock:
                work = self._waiting.popleft() if self._waiting else None
                if work is None:
                    self._threads.discard(threading.current_thread())
