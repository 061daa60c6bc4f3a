"""Who comes in while a replica is busy: the bounds of its queue, and when it is worth asking again past one of them.

The data plane asks here once so many requests are inside that a bound could be reached; before that nobody pays for it.
What is refused, and for how long, are pure functions. Nothing here takes a lease, or waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hotset.clock import Clock
from hotset.errors import OverloadedError
from hotset.keys import ModelRef
from hotset.status import Demand

SHARE: Final = 4
"""One model may have so many times as many requests inside as there are places free. So however many models are flooded,
some places stay free for the others: a fifth with one of them, a ninth with two."""

COLD_SHARE: Final = 1
"""The same of a model that is not in memory yet: its requests wait for long. All such models together have ``SHARE``."""

LEAST_RETRY_S: Final = 1.0
"""Also where nothing is known of how fast a queue drains, as when it has just filled up."""

MOST_RETRY_S: Final = 30.0
SPREAD: Final = 0.5
"""Those who are refused are told times up to so much longer, each another, so that they do not come back at once."""

WINDOW_S: Final = 1.0
"""A queue's pace is taken over one to two of these."""

FORGOTTEN_S: Final = 10.0
"""A pace from before this is none: the queue was empty meanwhile, for all that is known."""

MOST_PACES: Final = 1024
_GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0


class Bound(StrEnum):
    """Which bound a request would have gone past."""

    QUEUE = "queue"
    MODEL = "model"
    LOADING = "loading"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many requests may be inside at once: of all models, and of one. ``model`` None: its share of what is free."""

    queue: int
    model: int | None = None

    @property
    def crowded_from(self) -> int:
        """With fewer inside, no request is refused."""
        if self.model is None:
            return math.ceil(self.queue * COLD_SHARE / (COLD_SHARE + 1))
        return min(math.ceil(self.queue * SHARE / (SHARE + 1)), self.model)


def exceeded(bounds: Bounds, inside: int, demand: Demand) -> Bound | None:
    """Return the bound that one request more would go past."""
    if inside >= bounds.queue:
        return Bound.QUEUE
    free = bounds.queue - inside
    is_cold = demand.leased is not None
    if bounds.model is not None:
        most_of_model = bounds.model
    else:
        most_of_model = (COLD_SHARE if is_cold else SHARE) * free
    if demand.model >= most_of_model:
        return Bound.MODEL
    if demand.leased is not None and inside - demand.leased >= SHARE * free:
        return Bound.LOADING
    return None


def retry_after_s(queued: int, per_s: float | None, refused: int) -> float:
    """Return when a queue of this length will have drained at its pace; for the ``refused``-th that is told so."""
    if per_s is None or queued <= per_s * LEAST_RETRY_S:
        return LEAST_RETRY_S
    if per_s <= 0.0:
        return MOST_RETRY_S
    spread = 1.0 + SPREAD * (refused * _GOLDEN % 1.0)
    return min(queued / per_s * spread, MOST_RETRY_S)


class Pace:
    """How many leave a queue in a second, as seen at the moments at which somebody is refused. Knows no clock."""

    __slots__ = ("_before", "_last")

    def __init__(self) -> None:
        self._before: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def seen(self, now_s: float, left: int) -> float | None:
        """Note that ``left`` have left so far, and return the pace; None if it is not known."""
        if self._last is None or now_s - self._last[0] > FORGOTTEN_S or left < self._last[1]:
            self._before, self._last = None, (now_s, left)
            return None
        began_s, left_before = self._before or self._last
        if now_s - self._last[0] >= WINDOW_S:
            self._before, self._last = self._last, (now_s, left)
        took_s = now_s - began_s
        if took_s < WINDOW_S and left == left_before:
            return None
        return (left - left_before) / took_s if took_s > 0.0 else None


class Admission:
    """Owned by the event loop. ``check`` any time; ``refusals`` are counted by bound."""

    def __init__(self, bounds: Bounds, *, demand: Callable[[ModelRef], Demand], clock: Clock) -> None:
        self.bounds: Final = bounds
        self._demand = demand
        self._clock = clock
        self._refusals: Final[dict[str, int]] = {bound.value: 0 for bound in Bound}
        self._queue = Pace()
        self._loading = Pace()
        self._models: dict[str, Pace] = {}

    @property
    def refusals(self) -> Mapping[str, int]:
        return self._refusals

    def check(self, ref: ModelRef, *, inside: int, left: int, loaded: int) -> None:
        """Raise if one request more for ``ref`` is too many.

        ``left`` have been answered so far, ``loaded`` of them after they had waited for a load.

        Raises:
            OverloadedError: it is; with the time after which it is worth asking again.
        """
        demand = self._demand(ref)
        bound = exceeded(self.bounds, inside, demand)
        if bound is None:
            return
        refused = self._refusals[bound] = self._refusals[bound] + 1
        now_s = self._clock.monotonic()
        if bound is Bound.QUEUE:
            queued, pace = inside, self._queue.seen(now_s, left)
            message = f"the queue is full; expected at most {self.bounds.queue} requests at once"
        elif bound is Bound.MODEL:
            queued, pace = demand.model, self._pace_of(ref.name).seen(now_s, demand.left)
            message = f"too many requests for model {ref.name!r} at once; found inside: {queued}"
        else:
            queued, pace = inside - (demand.leased or 0), self._loading.seen(now_s, loaded)
            message = f"too many requests wait for models that are being loaded; found: {queued}"
        raise OverloadedError(message, retry_after_s=retry_after_s(queued, pace, refused))

    def _pace_of(self, name: str) -> Pace:
        pace = self._models.get(name)
        if pace is None:
            if len(self._models) >= MOST_PACES:
                self._models.clear()
            pace = self._models[name] = Pace()
        return pace
