"""How a replica finds out what the store offers: what the sync loop asks for at each pass, and what it gets.

Three kinds stand behind it: ``whole`` (all of the store, from a listing or its index), ``on_demand`` (what was asked
for) and ``given`` (what a platform brings). A pass of any looks, decides what has settled, and puts the new snapshot in force.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hotset.catalog import Diff, Snapshot


class Source(StrEnum):
    """Where a snapshot comes from."""

    LISTING = "listing"
    INDEX = "index"
    LOOKUPS = "lookups"
    GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Look:
    """What a pass saw and has put in force. ``note`` says in a sentence what people should know of the source."""

    snapshot: Snapshot
    source: Source
    changes: Diff = field(default_factory=Diff)
    note: str = ""


class SyncTarget(Protocol):
    """Whose catalog follows the store."""

    @property
    def snapshot(self) -> Snapshot:
        """What is in force now, with what lookups added."""
        ...

    async def apply(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force. It must do so before it first awaits; what follows from it may take longer."""
        ...


class Discovery(Protocol):
    """Owned by the sync loop, which never makes two passes at once."""

    async def look(self) -> Look:
        """Make one pass.

        Raises:
            StoreError: the store did not answer, or is not believed; what is in force stays.
        """
        ...
