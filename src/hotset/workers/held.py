"""One loaded model in a host, with what is known of it: who uses it, how fast it is, whether it can be batched."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, cast

from hotset.runtimes.base import PayloadServable, Servable, TensorServable
from hotset.runtimes.modelyaml import NO_FILE, ModelOptions
from hotset.workers.base import LoadSpec
from hotset.workers.batching import batches
from hotset.workers.executions import Executed

SMALL_WEIGHT: Final = 1 << 20
"""Bytes: below it, what measuring costs (up to a millisecond) is more than what it tells."""

_UNSHARED: Final = threading.Lock()

MOST_COMPARISONS: Final = 8
"""So many batches at most are predicted one by one as well, to see that the answers are the same."""


class Proofs:
    """What batches of a version have shown, kept while it comes and goes. Thread-safe. Keyed by the files' directory."""

    MOST: Final = 10_000

    def __init__(self) -> None:
        self._known: dict[str, tuple[bool, int]] = {}

    def recall(self, held: Held) -> None:
        """Go on where the version's last time in memory ended."""
        known = self._known.get(held.path)
        if known is not None and held.batches:
            held.batches, held.comparisons_left = known

    def note(self, held: Held) -> None:
        if held.comparisons_left == MOST_COMPARISONS:
            return
        if len(self._known) >= self.MOST:
            self._known.clear()
        self._known[held.path] = (held.batches, held.comparisons_left)


class Held:
    """One loaded model and the predictions that use it now. Made by the host; ``users`` and ``idle`` are its own, under its lock."""

    __slots__ = (
        "batches",
        "comparisons_left",
        "executed",
        "idle",
        "is_plain",
        "lock",
        "most_rows",
        "name",
        "pace_s",
        "path",
        "payload",
        "tensors",
        "users",
        "version",
        "weight",
    )

    def __init__(
        self,
        spec: LoadSpec,
        servable: Servable,
        weight: int = 0,
        *,
        options: ModelOptions = NO_FILE,
        most_rows: int = 1,
        lock: threading.Lock = _UNSHARED,
        executed: Executed | None = None,
    ) -> None:
        """``most_rows`` is how many calls (and rows) may be predicted at once at most, where it can be batched.

        ``lock`` is the host's, where there is one; ``executed`` counts beyond this time in memory.
        """
        self.lock = lock
        self.name = spec.name
        self.version = spec.version
        self.path = spec.path
        self.weight = weight
        takes_tensors = hasattr(servable, "infer")
        self.tensors: TensorServable | None = cast("TensorServable", servable) if takes_tensors else None
        self.payload: PayloadServable | None = None if takes_tensors else cast("PayloadServable", servable)
        self.batches = batches(servable, options)
        self.most_rows = most_rows if options.most_rows is None else min(most_rows, options.most_rows)
        self.comparisons_left = MOST_COMPARISONS if takes_tensors else 0  # ``predict_batch`` needs no proof
        self.executed = executed or Executed()
        self.users = 0
        self.pace_s = 0.0
        self.idle: Callable[[Held], None] | None = None
        is_own = takes_tensors and not getattr(servable, "brings_code", False)
        self.is_plain = is_own and weight < SMALL_WEIGHT
        """Small, and without code of its own that its unload would run."""

    def keep(self) -> None:
        """One more uses it, beyond the call that is under way; ``Host.finished`` says when that is over."""
        with self.lock:
            self.users += 1

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
