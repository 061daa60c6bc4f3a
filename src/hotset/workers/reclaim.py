"""When unloaded models' memory is collected and given back to the system. Used by the host, from its unload thread.

Dropping a model's references frees nearly all of it at once, for the next load in this process to use. What is
left is expensive and stops every prediction meanwhile: a full collection walks every object of the process (0.2 s
with scikit-learn imported), a trim of the heap takes the allocator's locks, and the next load then gets its memory
page by page from the system, which takes it several times as long (110 ms for 80 MB that took 35). An unload most
often makes room for a load. So both wait until they are worth it: until much is owed, or until nothing was unloaded for
a moment. While many small models come and go, only what came since the last full collection is looked at: measured with
500 unloads a second, the p99 of the predictions beside them is half of what it is with full collections.

What was imported before any model is never looked at: it stays for good, and in a forked child the collector's marks
would be written into memory that is shared with the fork server (130 ms and 36 MB with scikit-learn).
"""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from hotset.workers.heap import trim_heap

MUCH_BYTES: Final = 32 << 20
MUCH_FREE_BYTES: Final = 256 << 20
"""So much free heap is kept for the next load, until it is quiet."""
LITTLE_BYTES: Final = 1 << 20
MANY_MODELS: Final = 512
QUIET_S: Final = 2.0
"""So long after the last unload, what is owed is paid whatever it is. Longer than most loads take: the next one that makes
room for itself still finds the memory of the last."""

LONG_S: Final = 0.02
"""When a collection of the models alone takes longer, they are set aside too."""


class Collector:
    """The cyclic collector of this process. What is frozen before the first call is never looked at again.

    Called by the threads that load and unload; two at once do no harm.
    """

    def __init__(self) -> None:
        self._models_aside = False

    def collect_all(self) -> None:
        """Collect every cycle of a model, also among what was set aside since the first one came."""
        if self._models_aside:
            gc.unfreeze()
            gc.collect()
            self.set_aside()
        else:
            self.collect_new()

    def collect_new(self) -> None:
        """Collect cycles among what came since something was last set aside."""
        began_s = time.perf_counter()
        gc.collect()
        if time.perf_counter() - began_s > LONG_S:
            self.set_aside()

    def set_aside(self) -> None:
        """Keep what was just imported out of all collections but ``collect_all``. Costs next to nothing."""
        gc.freeze()
        self._models_aside = True


_collector: Final = Collector()
"""The collector is the process's, so there is one of this too."""
collect_all = _collector.collect_all
collect_new = _collector.collect_new
set_aside = _collector.set_aside


class Reclaimer:
    """For each model ``released``, in any thread; then ``reclaim``, and again once it was quiet, in the unload thread."""

    def __init__(
        self,
        *,
        collect: Callable[[], object] = collect_all,
        collect_new: Callable[[], object] = collect_new,
        trim: Callable[[], None] = trim_heap,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collect = collect
        self._collect_new = collect_new
        self._trim = trim
        self._now = now
        self._lock = threading.Lock()
        self._missing = 0
        self._freed = 0
        self._models = 0
        self._since_full = 0
        self._owes = False
        self.released_s = -math.inf
        """When something was last, by this thread or by another: it is quiet only where nobody releases anything."""

    @property
    def owes(self) -> bool:
        """Whether there is anything to do once it is quiet."""
        return self._owes

    def released(self, weight: int, *, came_back: int | None) -> None:
        """Note a model whose references were dropped; ``came_back`` is None if nobody could tell."""
        back = weight if came_back is None else max(0, min(weight, came_back))
        with self._lock:
            self._owes = True
            self.released_s = self._now()
            self._models += 1
            self._since_full += 1
            self._missing += weight - back
            self._freed += weight

    def reclaim(self, *, quiet: bool) -> None:
        """Do what is worth its cost now."""
        with self._lock:
            if quiet:
                self._owes = False
            collect = self._collection(quiet=quiet)
            trims = self._freed >= MUCH_FREE_BYTES or (quiet and self._freed >= LITTLE_BYTES)
            if trims:
                self._freed = 0
        if collect is not None:
            collect()
        if trims:
            self._trim()

    def trim(self) -> None:
        """Do all there is to do, as memory is short."""
        with self._lock:
            is_due = self._models > 0 or self._since_full > 0
            self._owes = False
            self._models = self._since_full = self._missing = self._freed = 0
        if is_due:
            self._collect()
        self._trim()

    def _collection(self, *, quiet: bool) -> Callable[[], object] | None:
        """Return the collection that is due, which is no more then.

        A full one only where memory is missing: small models that came and went by the thousand are no reason to look at all
        that was ever imported.
        """
        if self._missing >= (LITTLE_BYTES if quiet else MUCH_BYTES):
            self._models = self._since_full = self._missing = 0
            return self._collect
        if self._models >= MANY_MODELS:
            self._models = 0
            return self._collect_new
        return None
