"""A few hundred models in order of name, packed into three strings of bytes.

``Models`` is made of blocks and shares those that did not change from one snapshot to the next. A block holds no
Python object for each model, so that a million models are a few thousand objects for the garbage collector and for
whoever frees them. Nothing here knows of snapshots or listings.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final, NamedTuple

from hotset.catalog.packing import count_versions, fingerprints
from hotset.keys import Fingerprint

MOST: Final = 512
"""Models in a block; a fuller one is split."""

USUAL: Final = 256
LEAST: Final = 64
"""A block with fewer models takes in the one behind it."""

UNKNOWN: Final = 0
"""The digest of a model whose objects have to be read again."""

_SEPARATOR: Final = "\n"


class Packed(NamedTuple):
    """A packed entry, and the digest of the objects that it was read from, or ``UNKNOWN``."""

    entry: bytes
    digest: int = UNKNOWN


class Block:
    """Immutable but for ``digests``, and for any thread.

    ``digests`` is a memory beside the content, which the reader of a listing writes: objects of that digest make this
    entry. That holds in every snapshot that has the block, so they may share it.
    """

    __slots__ = ("_ends", "_entries", "_names", "digests", "first", "version_count")

    def __init__(
        self, names: str, ends: array[int], entries: bytes, digests: array[int], version_count: int
    ) -> None:
        """``names`` are joined by line breaks, which no name holds; ``ends`` says where each entry ends."""
        self.first: Final = names.partition(_SEPARATOR)[0]
        self.digests: Final = digests
        self._names = f"{_SEPARATOR}{names}{_SEPARATOR}".encode("utf-8", "surrogatepass")
        self._ends = ends
        self._entries = entries
        self.version_count: Final = version_count

    @classmethod
    def of(cls, models: Mapping[str, Packed]) -> Block:
        """Return a block of ``models``, which are in order of name, at least one, and no more than ``MOST``."""
        names = _SEPARATOR.join(models)
        if names.count(_SEPARATOR) != len(models) - 1:
            raise ValueError(f"a model's name holds a line break: {names!r}")
        ends, end = array("I"), 0
        for packed in models.values():
            end += len(packed.entry)
            ends.append(end)
        digests = array("Q", [packed.digest for packed in models.values()])
        entries = b"".join([packed.entry for packed in models.values()])
        return cls(names, ends, entries, digests, sum(count_versions(it.entry) for it in models.values()))

    def __len__(self) -> int:
        return len(self._ends)

    def names(self) -> list[str]:
        return self._names[1:-1].decode("utf-8", "surrogatepass").split(_SEPARATOR)

    def index(self, name: str) -> int:
        """Return the place of a name, or -1."""
        if _SEPARATOR in name:
            return -1
        at = self._names.find(f"{_SEPARATOR}{name}{_SEPARATOR}".encode("utf-8", "surrogatepass"))
        return self._names.count(b"\n", 0, at) if at >= 0 else -1

    def entry(self, index: int) -> bytes:
        """Return the packed entry at a place."""
        return self._entries[self._ends[index - 1] if index else 0 : self._ends[index]]

    def took(self, changes: Mapping[str, Packed | None]) -> bool:
        """Say whether all of that is here already; if so, the digests that are known now are noted."""
        places = {name: self.index(name) for name in changes}
        for name, packed in changes.items():
            index = places[name]
            if (packed is None) != (index < 0) or (packed is not None and packed.entry != self.entry(index)):
                return False
        for name, packed in changes.items():
            if packed is not None and packed.digest != UNKNOWN:
                self.digests[places[name]] = packed.digest
        return True

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Yield names and packed entries, in order of name."""
        return zip(self.names(), self._each_entry(), strict=True)

    def fingerprints(self) -> Iterator[Fingerprint]:
        return (found for packed in self._each_entry() for found in fingerprints(packed))

    def columns(self) -> tuple[bytes, bytes, bytes]:
        """Return names, ends and entries as bytes, to be kept; digests mean nothing to another process."""
        return self._names[1:-1], self._ends.tobytes(), self._entries

    def _each_entry(self) -> Iterator[bytes]:
        entries = self._entries
        return (entries[start:end] for start, end in pairwise([0, *self._ends]))

    def packed(self) -> dict[str, Packed]:
        entries = map(Packed, self._each_entry(), self.digests)
        return dict(zip(self.names(), entries, strict=True))


def blocks_of(models: Mapping[str, Packed]) -> list[Block]:
    """Return models, in any order, as blocks of the usual size."""
    names = sorted(models)
    pieces = 1 if len(names) <= MOST else -(-len(names) // USUAL)
    return [
        Block.of({name: models[name] for name in part}) for part in _evenly(names, pieces if names else 0)
    ]


def _evenly(names: list[str], pieces: int) -> Iterable[list[str]]:
    for piece in range(pieces):
        yield names[piece * len(names) // pieces : (piece + 1) * len(names) // pieces]
