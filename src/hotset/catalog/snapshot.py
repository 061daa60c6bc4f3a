"""What the store offers, at one moment: refs resolve in a snapshot, a ``Catalog`` holds the current one.

The manager owns the catalog; the sync loop replaces its snapshot, lookups add to it, and every request resolves in
it. Resolving costs the same whatever the number of models. Nothing here reads a store or a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hotset.catalog.entries import ModelEntry, Reject, VersionEntry
from hotset.catalog.key_list import KeyList
from hotset.catalog.labels import LABELS_FILE
from hotset.catalog.models import Draft, Models, differences
from hotset.errors import ErrorKind, NotFoundError
from hotset.keys import LATEST, ModelKey, ModelRef

_VERSIONS_NAMED: Final = 5
_LABELS_NAMED: Final = 10
_MOST_KNOWN: Final = 64
"""So many models that were asked for last are kept unpacked: a load asks for its model several times."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Models by name, what was turned down and why, and the versions that wait until they have settled.

    ``unsettled`` names new versions, which are not among the models, and changed ones, which are there as they were.
    Immutable. Any mapping may be given as ``models``; what is kept is a compact copy.
    """

    models: Models = field(default_factory=Models)
    rejects: tuple[Reject, ...] = ()
    rejects_left_out: int = 0
    unsettled: tuple[ModelKey, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", Models.of(self.models))

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
            f"{_about_label(model, ref.version)}Versions offered: {_named(model)}.",
            kind=ErrorKind.VERSION_NOT_FOUND,
        )

    def with_model(self, entry: ModelEntry) -> Snapshot:
        """Return a snapshot with one model added or replaced; it shares all others with this one."""
        return replace(self, models=self.models.with_changes({entry.name: entry}))


def _about_label(model: ModelEntry, word: int | str) -> str:
    """Say what the file of labels has to do with a word that is no version."""
    if isinstance(word, int):
        return ""
    path = f"{model.name}/{LABELS_FILE}"
    labels = model.labels
    if labels is None:
        return f"There is no {path} that gives it to a version. "
    target = labels.target(word)
    problem = f"{path} cannot be used ({labels.problem}). " if labels.problem else ""
    if target is not None:
        return f"{problem}{path} says '{word}: {target}', and there is no such version. "
    shown = ", ".join(f"{label}: {number}" for label, number in labels.targets[:_LABELS_NAMED])
    more = ", …" if len(labels.targets) > _LABELS_NAMED else ""
    return f"{problem}Labels given by {path}: {shown or 'none'}{more}. "


def _named(model: ModelEntry) -> str:
    newest = [str(entry.key.version) for entry in model.versions[: -_VERSIONS_NAMED - 1 : -1]]
    return ", ".join(newest) + (", …" if len(model.versions) > _VERSIONS_NAMED else "")


class Catalog:
    """The current snapshot.

    Owned by the event loop. ``apply`` replaces it, ``add`` is for a model that a lookup found between two passes.
    """

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self._snapshot = snapshot or Snapshot()
        self._known: dict[str, ModelEntry] = {}

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def apply(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known.clear()

    def add(self, entry: ModelEntry) -> None:
        self._snapshot = self._snapshot.with_model(entry)
        self._known.pop(entry.name, None)

    def model(self, name: str) -> ModelEntry | None:
        known = self._known.get(name)
        if known is None:
            known = self._snapshot.models.get(name)
            if known is not None:
                if len(self._known) >= _MOST_KNOWN:
                    del self._known[next(iter(self._known))]
                self._known[name] = known
        return known

    def version(self, key: ModelKey) -> VersionEntry | None:
        model = self.model(key.name)
        return None if model is None else model.version(key.version)

    def resolve(self, ref: ModelRef) -> VersionEntry:
        """Return the version that ``ref`` means now.

        Raises:
            NotFoundError: there is no such model or version.
        """
        return self._snapshot.resolve(ref)


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two snapshots, in order of name. ``changed``: the same key with another fingerprint.

    ``added`` is only counted: in the first snapshot it is everything. ``latest_changed``: the new latest of the
    models offered before and after whose latest is another version or another content. ``relabelled``: the new latest
    of those whose labels mean something else, or something that there was not.
    """

    added: int = 0
    removed: Sequence[ModelKey] = field(default_factory=KeyList)
    changed: Sequence[ModelKey] = field(default_factory=KeyList)
    latest_changed: Sequence[ModelKey] = field(default_factory=KeyList)
    relabelled: Sequence[ModelKey] = field(default_factory=KeyList)


def diff(old: Snapshot, new: Snapshot) -> Diff:
    """Return what changed from ``old`` to ``new``; what both share costs nothing."""
    removed, changed, latest_changed, relabelled = KeyList(), KeyList(), KeyList(), KeyList()
    for difference in differences(old.models, new.models) if old.models else ():
        before = difference.before
        if before is None:
            continue
        after = difference.after
        prints_after = _fingerprints(after)
        for version in before.versions:
            found = prints_after.get(version.key)
            if found is None:
                removed.append(version.key)
            elif found != version.fingerprint:
                changed.append(version.key)
        if after is not None and _content(before.latest) != _content(after.latest):
            latest_changed.append(after.latest.key)
        if after is not None and _meanings(before) != _meanings(after):
            relabelled.append(after.latest.key)
    added = new.models.version_count - old.models.version_count + len(removed)
    return Diff(added, removed, changed, latest_changed, relabelled)


def _fingerprints(model: ModelEntry | None) -> dict[ModelKey, str]:
    return {entry.key: entry.fingerprint for entry in model.versions} if model else {}


def _meanings(model: ModelEntry) -> list[tuple[str, int, bool]]:
    """What the labels say, and of which there is a version."""
    targets = model.labels.targets if model.labels is not None else ()
    return [(label, number, model.version(number) is not None) for label, number in targets]


def _content(entry: VersionEntry) -> tuple[ModelKey, str]:
    return entry.key, entry.fingerprint


def keep_lookups(found: Snapshot, *, before: Snapshot, now: Snapshot) -> Snapshot:
    """Return ``found``, what a listing showed, with the models that lookups added while it ran.

    ``before`` was in force when the listing began, ``now`` is in force as it ends. A lookup that ended within the
    listing may have seen what the listing passed too early; if it is wrong, the next pass corrects it.
    """
    models = Draft(found.models)
    for difference in differences(before.models, now.models):
        if difference.after is not None:
            models.set(difference.name, difference.after)
    kept = models.done()
    return found if kept is found.models else replace(found, models=kept)
