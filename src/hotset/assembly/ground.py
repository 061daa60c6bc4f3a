"""What every part of a replica stands on: its settings and its clock, where its models are, and who is told what happens."""

from __future__ import annotations

from dataclasses import dataclass

from hotset.catalog import Layout
from hotset.clock import Clock, SystemClock
from hotset.config import Settings
from hotset.events import EventBus
from hotset.models import layout_of, open_models
from hotset.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Ground:
    """Frozen: made first, and the same for all parts."""

    settings: Settings
    clock: Clock
    events: EventBus
    store: ObjectStore
    layout: Layout

    @classmethod
    def of(
        cls, settings: Settings, *, clock: Clock | None, events: EventBus | None, store: ObjectStore | None
    ) -> Ground:
        """Take what is given, and for the rest what a server has.

        Raises:
            ConfigError: the location of the models is malformed, or a directory is not there.
        """
        return cls(
            settings,
            clock if clock is not None else SystemClock(),
            events if events is not None else EventBus(),
            store if store is not None else open_models(settings),
            layout_of(settings),
        )

    @property
    def is_on_demand(self) -> bool:
        """Whether models are looked for when they are asked for, and never listed as a whole."""
        return self.settings.discovery == "on_demand"

    @property
    def requests_decide(self) -> bool:
        """Whether requests alone say what is in memory: no platform, and no handler in the middle of its requests."""
        return not self.settings.sagemaker and self.settings.cortex is None

    @property
    def sync_interval_s(self) -> float:
        """Seconds from one look at the store to the next; 0: one look is all."""
        return 0.0 if self.layout.static else self.settings.sync_interval
