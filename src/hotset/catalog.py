"""What the store offers now. Pure: a listing becomes a snapshot and rejects with reasons; refs resolve in it."""

from __future__ import annotations

from dataclasses import dataclass

from hotset.keys import Fingerprint, ModelKey


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version on the store: its objects are those below ``prefix`` (relative to the store, ends in ``/``)."""

    key: ModelKey
    fingerprint: Fingerprint
    prefix: str
    bytes: int
    objects: int
    modified_s: float


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model with its versions, ascending; never empty."""

    name: str
    versions: tuple[VersionEntry, ...]

    @property
    def latest(self) -> VersionEntry:
        return self.versions[-1]


@dataclass(frozen=True, slots=True)
class Reject:
    """An entry of the store that is not offered, and why."""

    path: str
    reason: str
