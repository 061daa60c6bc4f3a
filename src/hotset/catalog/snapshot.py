"""What the store offers, at one moment: refs resolve in a snapshot, a ``Catalog`` holds the current one.

The manager owns the catalog; the sync loop replaces its snapshot, lookups add to it, and every request resolves in
it. Resolving costs the same whatever the number of models. Nothing here reads a store or a clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Final

from hotset.catalog.entries import ModelEntry, Reject, VersionEntry
from hotset.errors import ErrorKind, NotFoundError
from hotset.keys import LATEST, ModelKey, ModelRef

_MIN_ADDITIONS: Final = 64
_VERSIONS_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Models by name, what was turned down and why, and the versions that wait until they have settled.

    ``unsettled`` names new versions, which are not among the models, and changed ones, which are there as they were.
    Immutable: the mapping given is never changed by anyone.
    """

    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    rejects: tuple[Reject, ...] = ()
    rejects_left_out: int = 0
    unsettled: tuple[ModelKey, ...] = ()

    def resolve(self, ref: ModelRef) -> VersionEntry:
        """Return the version that ``ref`` means now.

        Raises:
            NotFoundError: there is no such model (MODEL_NOT_FOUND) or version (VERSION_NOT_FOUND).
        """
        model = self.models.get(ref.name)
        if model is None:
            raise NotFoundError(
                f"Request for unknown model: '{ref.name}' is not found. "
                "Check the name, or list the models that are offered.",
                kind=ErrorKind.MODEL_NOT_FOUND,
            )
        if ref.version == LATEST:
            return model.latest
        version = model.version(ref.version)
        if version is not None:
            return version
        raise NotFoundError(
            f"Request for unknown model: '{ref.name}' version {ref.version} is not found. "
            f"Versions offered: {_named(model)}.",
            kind=ErrorKind.VERSION_NOT_FOUND,
        )

    def with_model(self, entry: ModelEntry) -> Snapshot:
        """Return a snapshot with one model added or replaced; it shares all others with this one."""
        return replace(self, models=_overlaid(self.models, entry))


def _named(model: ModelEntry) -> str:
    newest = [str(entry.key.version) for entry in model.versions[: -_VERSIONS_NAMED - 1 : -1]]
    return ", ".join(newest) + (", …" if len(model.versions) > _VERSIONS_NAMED else "")


class _Overlay(Mapping[str, ModelEntry]):
    """A large mapping with a few additions on top, so that an addition copies only the few. Immutable."""

    __slots__ = ("_additions", "_base", "_length")

    def __init__(self, base: Mapping[str, ModelEntry], additions: Mapping[str, ModelEntry]) -> None:
        self._base = base
        self._additions = additions
        self._length = len(base) + sum(name not in base for name in additions)

    def __getitem__(self, name: str) -> ModelEntry:
        entry = self._additions.get(name)
        return self._base[name] if entry is None else entry

    def __iter__(self) -> Iterator[str]:
        yield from self._base
        yield from (name for name in self._additions if name not in self._base)

    def __len__(self) -> int:
        return self._length

    def plus(self, entry: ModelEntry) -> Mapping[str, ModelEntry]:
        """Merge into one dictionary after about √n additions: an addition costs O(√n), also over many."""
        additions = {**self._additions, entry.name: entry}
        if len(additions) <= max(_MIN_ADDITIONS, isqrt(len(self._base))):
            return _Overlay(self._base, additions)
        return {**self._base, **additions}


def _overlaid(models: Mapping[str, ModelEntry], entry: ModelEntry) -> Mapping[str, ModelEntry]:
    overlay = models if isinstance(models, _Overlay) else _Overlay(models, {})
    return overlay.plus(entry)


class Catalog:
    """The current snapshot.

    Owned by the event loop. ``apply`` replaces it, ``add`` is for a model that a lookup found between two passes.
    """

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self._snapshot = snapshot or Snapshot()

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def apply(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def add(self, entry: ModelEntry) -> None:
        self._snapshot = self._snapshot.with_model(entry)

    def model(self, name: str) -> ModelEntry | None:
        return self._snapshot.models.get(name)

    def version(self, key: ModelKey) -> VersionEntry | None:
        model = self._snapshot.models.get(key.name)
        return None if model is None else model.version(key.version)

    def resolve(self, ref: ModelRef) -> VersionEntry:
        """Return the version that ``ref`` means now.

        Raises:
            NotFoundError: there is no such model or version.
        """
        return self._snapshot.resolve(ref)


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two snapshots. ``changed``: the same key with another fingerprint.

    ``latest_changed`` names the models offered before and after whose latest is another version or another content.
    """

    added: frozenset[ModelKey] = frozenset()
    removed: frozenset[ModelKey] = frozenset()
    changed: frozenset[ModelKey] = frozenset()
    latest_changed: tuple[str, ...] = ()


def diff(old: Snapshot, new: Snapshot) -> Diff:
    """Return what changed from ``old`` to ``new``; models that both share cost next to nothing."""
    added: set[ModelKey] = set()
    removed: set[ModelKey] = set()
    changed: set[ModelKey] = set()
    latest_changed: list[str] = []
    for name in old.models.keys() | new.models.keys():
        before, after = old.models.get(name), new.models.get(name)
        if before is after:
            continue
        prints_before, prints_after = _fingerprints(before), _fingerprints(after)
        added.update(prints_after.keys() - prints_before.keys())
        removed.update(prints_before.keys() - prints_after.keys())
        changed.update(key for key, value in prints_after.items() if prints_before.get(key, value) != value)
        if before and after and _content(before.latest) != _content(after.latest):
            latest_changed.append(name)
    return Diff(frozenset(added), frozenset(removed), frozenset(changed), tuple(sorted(latest_changed)))


def _fingerprints(model: ModelEntry | None) -> dict[ModelKey, str]:
    return {entry.key: entry.fingerprint for entry in model.versions} if model else {}


def _content(entry: VersionEntry) -> tuple[ModelKey, str]:
    return entry.key, entry.fingerprint


def keep_lookups(found: Snapshot, *, before: Snapshot, now: Snapshot) -> Snapshot:
    """Return ``found``, what a listing showed, with the models that lookups added while it ran.

    ``before`` was in force when the listing began, ``now`` is in force as it ends. A lookup that ended within the
    listing may have seen what the listing passed too early; if it is wrong, the next pass corrects it.
    """
    if now is before:
        return found
    added = {name: entry for name, entry in now.models.items() if before.models.get(name) is not entry}
    return replace(found, models={**found.models, **added}) if added else found
