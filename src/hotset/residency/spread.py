"""Which model gets a copy in another worker, moves to one, or loses a copy: a pure choice. It never acts.

``Copies`` takes a ``Moment`` many times a second, ``averaged`` turns moments into means, and ``next_step`` says what
follows from them.

What is looked at is the queue: how many calls of a model wait or run. By Little's law the mean queue divided by the
calls per second is how long a call takes, and only where that is long does another worker help: many clients of a
fast model make a queue too, which one prediction for all of them empties at once. Nor does it help where the gateway
itself is what everybody waits for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from hotset.keys import ModelKey

MEMORY_S: Final = 0.6
"""The means forget what is a few times older than this."""
LONG_MEMORY_S: Final = 1.5
"""And so does the count of looks at which a queue was long: when it says so, the means have settled."""
LONG_QUEUE: Final = 1.5
"""Calls in a worker for each of its threads: with more, there is mostly one that waits."""
LONG_STAY_S: Final = 0.005
"""A model whose calls take less than this, their wait included, is not worth a copy."""
IDLE_SHARE: Final = 0.5
"""A worker takes a model over only if its own queue is at most this much of the other's."""
MOST_GATEWAY: Final = 0.85
"""Of the time: if its loop is busy for more, the gateway is the limit and not the worker."""
LEAST_MOVED: Final = 0.25
"""Of a worker's queue: a model with less of it is not moved from beside one that makes most of it."""
MOSTLY: Final = 0.75
"""Of the looks of late at which a queue was long, for it to count as one that stays long: after about 2 s."""
SMALL_QUEUE: Final = 0.75
"""Calls of a model for each thread of the places that would be left: with fewer, one place is too many."""
CALM_S: Final = 15.0
"""A queue must be small for so long before a copy goes: what comes back soon finds it still there."""
NEGLIGIBLE: Final = 0.01
"""A model whose mean queue is less than this is not looked at, unless it has copies."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One model now: calls of it, calls that it ever had where it is, and the workers that hold it."""

    queued: int
    used: int
    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """What is seen at once: the calls in each worker, and the models that are used or were of late.

    ``gateway_s`` is for how long the gateway's loop has been busy since its start.
    """

    now_s: float
    gateway_s: float
    workers: Mapping[int, int]
    models: Mapping[ModelKey, Demand]


@dataclass(frozen=True, slots=True)
class WorkerMean:
    """A worker of late: its mean queue, and at how many of the looks, of one, that was long.

    A mean alone would still be long for a while after a short burst.
    """

    queue: float
    long: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelMean:
    """A model of late: its mean queue, its calls per second, where it is, and since when its queue is small for that."""

    queue: float
    per_second: float
    workers: tuple[int, ...]
    calm_since_s: float | None = None

    @property
    def stay_s(self) -> float:
        """How long a call of it takes, its wait included."""
        return self.queue / self.per_second if self.per_second else math.inf

    @property
    def share(self) -> float:
        """Its queue in each of its workers."""
        return self.queue / len(self.workers)


@dataclass(frozen=True, slots=True)
class Means:
    """The last moment and the means up to it; ``gateway`` is for what part of the time its loop is busy."""

    last: Moment
    gateway: float | None = None
    workers: Mapping[int, WorkerMean] = field(default_factory=dict)
    models: Mapping[ModelKey, ModelMean] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copy:
    """Load the model into this worker as well."""

    key: ModelKey
    worker: int


@dataclass(frozen=True, slots=True)
class Move:
    """Load the model into this worker, then unload it where it is."""

    key: ModelKey
    worker: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Unload one of the model's copies."""

    key: ModelKey


Step: TypeAlias = Copy | Move | Drop


def averaged(means: Means | None, moment: Moment, *, threads: int) -> Means:
    """Return the means with a moment more. ``threads`` is how many calls a worker runs at once."""
    if means is None or moment.now_s <= means.last.now_s:
        return Means(moment) if means is None else means
    passed_s = moment.now_s - means.last.now_s
    weight = _weight(passed_s, MEMORY_S)
    gateway = (moment.gateway_s - means.last.gateway_s) / passed_s
    known = means.gateway if means.gateway is not None else gateway
    return Means(
        last=moment,
        gateway=known + weight * (gateway - known),
        workers=dict(_worker_means(means, moment, weight=weight, threads=threads)),
        models={
            key: _model_mean(means, moment, key, weight=weight, threads=threads) for key in moment.models
        },
    )


def _weight(passed_s: float, memory_s: float) -> float:
    """Return how much of a mean what was seen in the last ``passed_s`` makes."""
    return 1.0 - math.exp(-passed_s / memory_s)


def _worker_means(
    means: Means, moment: Moment, *, weight: float, threads: int
) -> Iterator[tuple[int, WorkerMean]]:
    has_changed = any(
        before.workers != moment.models[key].workers
        for key, before in means.models.items()
        if key in moment.models
    )
    long_weight = _weight(moment.now_s - means.last.now_s, LONG_MEMORY_S)
    for worker, queued in moment.workers.items():
        before = means.workers.get(worker, WorkerMean(0.0))
        is_long = queued >= LONG_QUEUE * threads
        long = 0.0 if has_changed else before.long  # what came of the change is to be seen first
        yield (
            worker,
            WorkerMean(
                queue=before.queue + weight * (queued - before.queue),
                long=long + long_weight * (is_long - long),
            ),
        )


def _model_mean(means: Means, moment: Moment, key: ModelKey, *, weight: float, threads: int) -> ModelMean:
    seen, last = moment.models[key], means.last.models.get(key)
    before = means.models.get(key, ModelMean(0.0, 0.0, seen.workers))
    used = max(0, seen.used - last.used) if last is not None else 0
    per_second = used / (moment.now_s - means.last.now_s)
    queue = before.queue + weight * (seen.queued - before.queue)
    since_s = before.calm_since_s if before.workers == seen.workers else None
    is_calm = queue < SMALL_QUEUE * threads * (len(seen.workers) - 1)
    return ModelMean(
        queue=queue,
        per_second=before.per_second + weight * (per_second - before.per_second),
        workers=seen.workers,
        calm_since_s=_since(since_s, moment.now_s) if is_calm else None,
    )


def _since(since_s: float | None, now_s: float) -> float:
    return now_s if since_s is None else since_s


def next_step(means: Means, *, most_copies: int, barred: Collection[ModelKey] = ()) -> Step | None:
    """Return the one thing to do now, or None. A model is in at most ``1 + most_copies`` workers.

    ``barred`` are models that are to stay where they are: a copy failed lately.
    """
    surplus = _surplus(means)
    if surplus is not None:
        return Drop(surplus)
    if len(means.workers) < 2 or (means.gateway or 0.0) > MOST_GATEWAY:
        return None
    busiest = max(means.workers, key=lambda worker: means.workers[worker].queue)
    idlest = min(means.workers, key=lambda worker: means.workers[worker].queue)
    busy, idle = means.workers[busiest], means.workers[idlest]
    if busy.long < MOSTLY or idle.queue > IDLE_SHARE * busy.queue:
        return None
    here = [
        (key, model)
        for key, model in means.models.items()
        if busiest in model.workers
        and idlest not in model.workers
        and key not in barred
        and model.stay_s >= LONG_STAY_S
    ]
    here.sort(key=lambda it: (-it[1].share, it[0]))
    return _relief(here, busy, idle, idlest, most_copies)


def _surplus(means: Means) -> ModelKey | None:
    """Return a model that has long been calm and is in more than one worker."""
    now_s = means.last.now_s
    for key, model in means.models.items():
        is_calm = model.calm_since_s is not None and now_s - model.calm_since_s >= CALM_S
        if len(model.workers) > 1 and is_calm:
            return key
    return None


def _relief(
    models: Sequence[tuple[ModelKey, ModelMean]],
    busy: WorkerMean,
    idle: WorkerMean,
    idlest: int,
    most_copies: int,
) -> Step | None:
    """A move where that evens the queues out, as it costs no memory; else a copy of the model that makes the queue.

    Beside one that makes most of the queue, a small one is not moved: what it makes way for still waits for itself.
    """
    gap = (busy.queue - idle.queue) / 2
    for rank, (key, model) in enumerate(models):
        is_worth_it = rank == 0 or model.share >= LEAST_MOVED * busy.queue
        if len(model.workers) == 1 and model.share <= gap and is_worth_it:
            return Move(key, idlest)
    for key, model in models[:1]:
        if gap < model.share and len(model.workers) <= most_copies:
            return Copy(key, idlest)
    return None
