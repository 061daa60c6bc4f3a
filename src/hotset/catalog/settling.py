"""Which of the listed versions count: those that have settled. A half-uploaded version is never offered.

A pure step from one pass to the next: the caller keeps the ``Settling`` that it returns. Times of objects are the
store's, and lie where an upload preserves them (``rsync -a`` into a directory), so they are believed only for a
version that is not known with other content and only if they agree with what the pass before saw: an object that
is older than the last listing should have been in it. What is not believed must be seen unchanged for the settle
time, by our own clock. "The same on two passes" alone would offer half of an upload that pauses longer than the
sync interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hotset.catalog.entries import Mark, ModelEntry, VersionEntry
from hotset.catalog.listing import Listing
from hotset.catalog.models import Draft, differences
from hotset.catalog.snapshot import Snapshot
from hotset.keys import Fingerprint, ModelKey


@dataclass(frozen=True, slots=True)
class Sighting:
    """An unsettled version: its content, when that was first seen, and whether its objects' times are believed."""

    fingerprint: Fingerprint
    first_seen_s: float
    dated: bool


@dataclass(frozen=True, slots=True)
class Settling:
    """What one pass remembers for the next: the unsettled versions, and the wall time of its listing."""

    sightings: Mapping[ModelKey, Sighting] = field(default_factory=dict)
    listed_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Pass:
    memory: Settling
    now_s: float
    seen_s: float
    wall_s: float
    settle_time_s: float


def settle(
    listing: Listing,
    memory: Settling,
    previous: Snapshot,
    *,
    now_s: float,
    wall_s: float,
    settle_time_s: float,
    took_s: float = 0.0,
) -> tuple[Snapshot, Settling]:
    """Return the snapshot to offer now, and the memory for the next pass.

    ``now_s`` (monotonic) and ``wall_s`` are those of the listing's begin, ``took_s`` is how long it took: content is
    first seen when its listing ends, at the latest. A changed version that is unsettled stays as it is in
    ``previous``; a new one is left out; one that is no longer listed is gone.
    """
    this = _Pass(memory, now_s, now_s + took_s, wall_s, settle_time_s)
    models = Draft(listing.models)
    sightings: dict[ModelKey, Sighting] = {}
    for difference in differences(previous.models, listing.models):
        listed, known = difference.after, difference.before
        if listed is None or listed == known:
            continue
        model = _settled_model(listed, known, this, sightings)
        if model is not listed:
            models.set(difference.name, model)
    snapshot = Snapshot(models.done(), listing.rejects, listing.rejects_left_out, tuple(sightings))
    return snapshot, Settling(sightings, wall_s)


def _settled_model(
    listed: ModelEntry,
    known: ModelEntry | None,
    this: _Pass,
    sightings: dict[ModelKey, Sighting],
) -> ModelEntry | None:
    known_versions = {entry.key: entry for entry in known.versions} if known else {}
    versions: list[VersionEntry] = []
    for entry in listed.versions:
        old = known_versions.get(entry.key)
        sighting = _sight(entry, old, this)
        if _is_settled(entry, old, sighting, this):
            versions.append(entry)
            continue
        sightings[entry.key] = sighting
        if old is not None:
            versions.append(old)
    if tuple(versions) == listed.versions:
        return listed
    if versions:
        return ModelEntry(listed.name, tuple(versions), listed.labels)
    # A model without version directories is not gone when its first one appears: it stays until that has settled.
    return known if known is not None and known.is_unversioned else None


def _sight(entry: VersionEntry, old: VersionEntry | None, this: _Pass) -> Sighting:
    last = this.memory.sightings.get(entry.key)
    if last is not None and last.fingerprint == entry.fingerprint:
        return last
    dated = (
        old is None
        and (last is None or last.dated)
        and (this.memory.listed_s is None or entry.modified_s >= this.memory.listed_s)
    )
    return Sighting(entry.fingerprint, this.seen_s, dated)


def _is_settled(entry: VersionEntry, old: VersionEntry | None, sighting: Sighting, this: _Pass) -> bool:
    if entry.mark is Mark.PUBLISHING:
        return old is not None and old.fingerprint == entry.fingerprint
    if this.settle_time_s <= 0 or (old is not None and old.fingerprint == entry.fingerprint):
        return True
    # A version that is being deleted keeps its marker for a while: the marker speaks for new objects only.
    if entry.mark is Mark.COMPLETE and (old is None or entry.modified_s > old.modified_s):
        return True
    if this.now_s - sighting.first_seen_s >= this.settle_time_s:
        return True
    return sighting.dated and this.wall_s - entry.modified_s >= this.settle_time_s
