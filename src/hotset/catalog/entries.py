"""What a catalog is made of: versions, models, rejects, and the layout that says how a store is read."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum

from hotset.catalog.labels import Labels
from hotset.errors import ConfigError
from hotset.keys import Fingerprint, ModelKey


class Mark(StrEnum):
    """What a version's markers say: nothing, that it is complete, or that a publisher is still at it."""

    NONE = "none"
    COMPLETE = "complete"
    PUBLISHING = "publishing"


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version on the store: its objects are those below ``prefix`` (relative to the store, ends in ``/``).

    ``mark`` is about the upload and not about the content: it takes no part in comparisons.
    """

    key: ModelKey
    fingerprint: Fingerprint
    prefix: str
    bytes: int
    objects: int
    modified_s: float
    mark: Mark = field(default=Mark.NONE, compare=False)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model with its versions, ascending; never empty. ``labels`` None: it has no file of them."""

    name: str
    versions: tuple[VersionEntry, ...]
    labels: Labels | None = None

    @property
    def latest(self) -> VersionEntry:
        return self.versions[-1]

    @property
    def is_unversioned(self) -> bool:
        """Whether its files lie directly in its folder, without version directories."""
        return self.versions[0].prefix == f"{self.name}/"

    def version(self, word: int | str) -> VersionEntry | None:
        """Return the version of that number or label, or None."""
        number = word if isinstance(word, int) else self.target(word)
        if number is None:
            return None
        index = bisect_left(self.versions, number, key=_number)
        if index < len(self.versions) and self.versions[index].key.version == number:
            return self.versions[index]
        return None

    def target(self, label: str) -> int | None:
        """Return the number that a label stands for, whether there is such a version or not; None: no such label."""
        return self.labels.target(label) if self.labels is not None else None


def _number(entry: VersionEntry) -> int:
    return entry.key.version


@dataclass(frozen=True, slots=True)
class Reject:
    """An entry of the store that is not offered, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How paths become names. A static layout knows its ``names``, of any depth, and reads no version directories.

    Raises:
        ConfigError: ``name_depth`` is below 1, or one static name lies inside another.
    """

    name_depth: int = 1
    static: bool = False
    names: frozenset[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        if self.name_depth < 1:
            raise ConfigError(f"expected a name_depth of at least 1, found: {self.name_depth}")
        for name in self.names:
            parts = name.split("/")
            for end in range(1, len(parts)):
                outer = "/".join(parts[:end])
                if outer in self.names:
                    raise ConfigError(
                        f"the model {name!r} lies inside the model {outer!r}; rename one of them"
                    )

    @property
    def expected(self) -> str:
        """The shape of a path, for people."""
        if self.static:
            return "<name of a listed model>/…"
        return "/".join(["<name>"] * self.name_depth) + "/<version>/…"
