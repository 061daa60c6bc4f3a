"""What the settings say of real memory: the limit, what of it is for models, and the guard of the rest.

It decides nothing while the server runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from hotset.assembly.ground import Ground
from hotset.config_values import CacheSize
from hotset.memory_limits import MemoryLimit, chosen_limit, system_limit
from hotset.residency.guard import MemoryGuard, Shedding
from hotset.residency.memory_meter import MemoryMeter, meter_of
from hotset.residency.pressure import MemoryBudget, memory_budget
from hotset.residency.watermarks import Watermarks
from hotset.units import format_bytes

logger: Final = logging.getLogger(__name__)


class RealMemory:
    """Made once at start; owned by the event loop. ``cache_size`` and ``guard`` any time, ``log`` once."""

    def __init__(self, ground: Ground, *, children: int) -> None:
        """``children`` is how many processes models share; none: they live in the gateway."""
        self._ground = ground
        self._settings = settings = ground.settings
        self.limit: Final[MemoryLimit] = chosen_limit(settings.memory_limit, system_limit())
        self.budget: Final[MemoryBudget] = memory_budget(
            self.limit.bytes, children=children, high=settings.memory_high
        )
        self.cache_size: Final = settings.model_cache_size or CacheSize(bytes=self.budget.models)

    def guard(
        self,
        meter: MemoryMeter | None,
        *,
        models: Shedding,
        trim: Callable[[], None],
        pids: Callable[[], Iterable[int]],
    ) -> MemoryGuard:
        """Return what looks at real memory; ``meter`` None: with what fits the system."""
        settings = self._settings
        marks = Watermarks(
            settings.memory_low,
            settings.memory_high,
            settings.memory_critical,
            settings.memory_stall or None,
        )
        return MemoryGuard(
            meter if meter is not None else meter_of(self.limit, pids, much=settings.memory_low),
            marks,
            models=models,
            trim=trim,
            clock=self._ground.clock,
            events=self._ground.events,
            evicts=not settings.sagemaker,
        )

    def log(self) -> None:
        """Say what the limit is, and what it is spent on."""
        given = self._settings.memory_limit
        if given is not None and given > self.limit.bytes:
            logger.warning(
                "memory_limit: found %s, expected no more than %s sets: %s; that counts",
                format_bytes(given), self.limit.source, format_bytes(self.limit.bytes),
            )  # fmt: skip
        size = self.cache_size
        if self._settings.model_cache_size is None:
            logger.info("memory: %s; %s sets the limit", self.budget, self.limit.source)
            if self.budget.is_short:
                logger.warning(
                    "memory: %s is little for what a server needs beside models; expected more, or fewer processes",
                    format_bytes(self.limit.bytes),
                )
        elif size.bytes is not None and size.bytes > self.budget.models:
            logger.warning(
                "model_cache_size: found %s, expected %s at most in a limit of %s (%s): models will leave before it is full",
                format_bytes(size.bytes), format_bytes(self.budget.models), format_bytes(self.limit.bytes),
                self.limit.source,
            )  # fmt: skip
