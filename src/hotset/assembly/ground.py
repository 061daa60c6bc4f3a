"""What every part of a replica stands on: its settings and its clock, where its models are, and who is told what happens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotset.catalog import Layout, SnapshotFormatError
from hotset.clock import Clock, SystemClock
from hotset.config import Settings
from hotset.errors import ConfigError
from hotset.events import EventBus
from hotset.models import layout_of, open_models
from hotset.residency.snapshot_file import SnapshotFile
from hotset.store import ObjectStore

CATALOG: Final = "catalog"
"""The file of the last good snapshot, in the directory of the disk tier."""


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
            ConfigError: the location of the models is malformed; or a directory is not there, and nothing is kept of it.
        """
        layout = layout_of(settings)
        return cls(
            settings,
            clock if clock is not None else SystemClock(),
            events if events is not None else EventBus(),
            store if store is not None else _opened(settings, layout),
            layout,
        )

    @property
    def origin(self) -> str:
        """What a snapshot of the catalog is of."""
        return _origin(self.store, self.layout)

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


def _opened(settings: Settings, layout: Layout) -> ObjectStore:
    """Open where the models are. A directory that is away, as a mount may be, does not keep from starting whoever has served it."""
    try:
        return open_models(settings)
    except ConfigError:
        store = open_models(settings, may_be_away=True)
        if settings.sagemaker or not _is_kept(settings, _origin(store, layout)):
            raise
        return store


def _is_kept(settings: Settings, origin: str) -> bool:
    """Whether the disk has what was known of this very store."""
    try:
        return SnapshotFile(Path(settings.disk_path) / CATALOG, origin=origin).read() is not None
    except (SnapshotFormatError, OSError):
        return False


def _origin(store: ObjectStore, layout: Layout) -> str:
    return f"{store.url} with {layout.expected}"
