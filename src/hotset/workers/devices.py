"""A worker's device: what each model takes of it, and how that goes back. Used by ``devicehost.py``, in a bound child.

It measures loads through a ``DeviceMeter`` and has frameworks give back what they keep once a model is gone. It opens no device
by itself, and decides nothing: capacity is the gateway's.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import threading
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Any, Final, Protocol

from hotset.devices import VISIBLE, Bound, name_of
from hotset.errors import ConfigError, LoadFailedError
from hotset.runtimes.options import Device
from hotset.workers.held import Held
from hotset.workers.kit import Choice

CAME_BACK: Final = 0.9
"""Of a model's weight: if less than this is free after it was dropped, it is in a cycle, and those are collected."""


class DeviceMeter(Protocol):
    """Reads what models of this process take of its device. Thread-safe."""

    def in_use(self) -> int:
        """Return the bytes that models use now, without what frameworks keep for later or need for themselves."""
        ...

    def settle(self) -> bool:
        """After a load: whether the device was opened during it, by something whose own needs are not told from the model's."""
        ...

    def give_back(self) -> None:
        """Have the frameworks return what they keep for later."""
        ...


class Growth:
    """What each of several loads at once adds: a growth while two overlap is shared between them, so that their sum is right.

    Thread-safe. Legal order for each load: ``begin``, then ``end`` once.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._growth: dict[int, float] = {}
        self._last = 0

    def begin(self) -> int:
        """Start measuring; the number returned is what ``end`` wants."""
        with self._lock:
            self._settle()
            number = next(self._numbers)
            self._growth[number] = 0.0
        return number

    def end(self, number: int) -> int:
        """Return the growth since ``begin``; less than 0 where it shrank."""
        with self._lock:
            self._settle()
            return round(self._growth.pop(number))

    def _settle(self) -> None:
        now = self._read()
        share = (now - self._last) / len(self._growth) if self._growth else 0.0
        for number in self._growth:
            self._growth[number] += share
        self._last = now


class WorkerDevice:
    """Thread-safe. Legal order for one load: ``begin``, ``end``; for a model that was loaded: ``keep``, then ``released``."""

    def __init__(self, bound: Bound, meter: DeviceMeter) -> None:
        self._bound = bound
        self._meter = meter
        self._growth = Growth(meter.in_use)
        self._held: dict[Held, int] = {}

    def here(self, choice: Choice) -> Choice:
        """Return how to load on this device what asks for one: within this process it is the first.

        Raises:
            LoadFailedError: the version asks for another one, which another worker has.
        """
        wanted = choice.options.runtime_options.device
        if wanted.kind == "cpu":
            return choice
        if wanted.index not in {None, self._bound.place}:
            raise LoadFailedError(
                f"model.yaml: device: found {wanted}, expected {name_of(self._bound.place)}, which this worker has, or cuda"
            )
        options = replace(choice.options.runtime_options, device=Device(wanted.kind, 0))
        return replace(choice, options=replace(choice.options, runtime_options=options))

    def begin(self) -> int:
        """Start measuring a load; the number returned is what ``end`` wants."""
        return self._growth.begin()

    def end(self, number: int, *, estimate: int) -> int:
        """Return the bytes of the device that the load has taken.

        That is the ``estimate`` where the device was opened during it, and what that takes is not told from the model's.
        """
        grown = max(0, self._growth.end(number))
        return max(grown, estimate) if self._meter.settle() else grown

    def keep(self, held: Held, bytes_: int) -> None:
        """A model was loaded that takes so much of the device."""
        held.is_plain = False  # what its unload does takes longer than handing it to another thread
        self._held[held] = bytes_

    def released(self, held: Held, drop: Callable[[], None]) -> None:
        """Run ``drop``, which drops every reference to a model, and see to it that its memory is there for others."""
        weight = self._held.pop(held, 0)
        before = self._meter.in_use() if weight else 0
        drop()
        if not weight:
            return
        if before - self._meter.in_use() < weight * CAME_BACK:
            gc.collect()
        self._meter.give_back()

    def give_back(self) -> None:
        """A load failed: have returned what it has left behind."""
        gc.collect()
        self._meter.give_back()


def bind(bound: Bound, environment: MutableMapping[str, str] = os.environ) -> WorkerDevice:
    """Make this process see that device alone, and return it. Before a framework asks which there are; it may be imported.

    Raises:
        ConfigError: there is no such meter.
    """
    environment[VISIBLE] = bound.id
    module, _, function = bound.meter.partition(":")
    try:
        build: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"expected module:function that makes a meter, found {bound.meter!r}: {error}"
        ) from error
    return WorkerDevice(bound, build(bound.id))
