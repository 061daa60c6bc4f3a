"""Asks one thing again and again, to see when the answer changes. Called by ``rows.py``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

POLL_S: Final = 0.004


class Watch:
    """A thread that asks; ``wait_for`` in any other. Ends with the ``with`` block of ``watched``."""

    def __init__(self, ask: Callable[[], float]) -> None:
        self._ask = ask
        self._seen: dict[float, float] = {}
        self._news = threading.Condition()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def wait_for(self, value: float, *, limit_s: float, tolerance: float) -> float:
        """Return when a value was first answered, by the monotonic clock.

        Raises:
            RuntimeError: it never was.
        """
        with self._news:
            if not self._news.wait_for(lambda: self._time_of(value, tolerance) is not None, limit_s):
                raise RuntimeError(
                    f"expected the answer {value} within {limit_s:g} s, found {sorted(self._seen)}"
                )
            found = self._time_of(value, tolerance)
        assert found is not None
        return found

    def _time_of(self, value: float, tolerance: float) -> float | None:
        times = (at_s for seen, at_s in self._seen.items() if abs(seen - value) <= tolerance)
        return min(times, default=None)

    def _run(self) -> None:
        while not self._ended.wait(POLL_S):
            try:
                found = self._ask()
            except OSError:
                continue  # counted by the load beside it
            with self._news:
                self._seen.setdefault(found, time.monotonic())
                self._news.notify_all()


@contextmanager
def watched(ask: Callable[[], float]) -> Iterator[Watch]:
    """Ask for as long as the ``with`` block lasts."""
    watch = Watch(ask)
    watch.start()
    try:
        yield watch
    finally:
        watch.close()
