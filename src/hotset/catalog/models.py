"""Models by name: a mapping like any other, of about a hundred bytes for each model.

What it holds is packed (``packing``) into blocks (``block``), and an entry is made when it is asked for. A changed
mapping shares every block without a change with the one that it came from, so that what two snapshots have in common
costs nothing twice: not in memory, and not when they are compared.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Final, NamedTuple

from hotset.catalog.block import LEAST, UNKNOWN, Block, Packed, blocks_of
from hotset.catalog.entries import ModelEntry
from hotset.catalog.packing import pack, unpack
from hotset.keys import Fingerprint

_BATCH: Final = 1000
_NO_DIGESTS: Final[Mapping[str, int]] = {}


class Models(Mapping[str, ModelEntry]):
    """Immutable; for any thread. Iterates in order of name.

    A lookup costs a few microseconds whatever the size. Two entries that were asked for are equal and not the same.
    """

    __slots__ = ("_blocks", "_firsts", "_length", "version_count")

    def __init__(self, blocks: Sequence[Block] = ()) -> None:
        """``blocks`` are in order of name, and each name is in one of them."""
        self._blocks: Final = tuple(blocks)
        self._firsts: Final = [block.first for block in blocks]
        self._length: Final = sum(map(len, blocks))
        self.version_count: Final = sum(block.version_count for block in blocks)

    @classmethod
    def of(cls, models: Mapping[str, ModelEntry]) -> Models:
        """Return any mapping as this one."""
        return models if isinstance(models, Models) else cls().with_changes(models)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self._blocks

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            yield from block.names()

    def __getitem__(self, name: str) -> ModelEntry:
        at, index = self.place(name)
        if index < 0:
            raise KeyError(name)
        return unpack(name, self._blocks[at].entry(index))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.place(name)[1] >= 0

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Models):
            return self._length == other._length and not any(it.is_real for it in differences(self, other))
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # as any other mapping

    def __repr__(self) -> str:
        names = [*islice(self, 4)]
        return f"<{self._length} models: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}>"

    def place(self, name: str) -> tuple[int, int]:
        """Return the block that holds the name or would, and the place in it, or -1."""
        at = max(0, bisect_right(self._firsts, name) - 1)
        return at, self._blocks[at].index(name) if self._blocks else -1

    def entries(self) -> Iterator[ModelEntry]:
        """Yield every entry, in order of name."""
        for block in self._blocks:
            for name, packed in block.items():
                yield unpack(name, packed)

    def names_from(self, start: str) -> Iterator[str]:
        """Yield the names from ``start`` on, which need not be one, in order."""
        for block in self._blocks[max(0, bisect_right(self._firsts, start) - 1) :]:
            yield from (name for name in block.names() if name >= start)

    def with_changes(
        self, changes: Mapping[str, ModelEntry | None], *, digests: Mapping[str, int] = _NO_DIGESTS
    ) -> Models:
        """Return these models with some added or replaced, and those removed that are None.

        ``digests`` are of the objects that an entry was read from. The cost is that of the blocks with a change.
        """
        return self.with_packed(
            {name: _packed(entry, digests.get(name, UNKNOWN)) for name, entry in changes.items()}
        )

    def with_packed(self, changes: Mapping[str, Packed | None]) -> Models:
        """Do as ``with_changes``, with entries that are packed already."""
        blocks = list(self._blocks)
        places = groupby(sorted(changes), key=lambda name: max(0, bisect_right(self._firsts, name) - 1))
        for at, names in reversed([(at, list(names)) for at, names in places]):
            changed = {name: changes[name] for name in names}
            if blocks and blocks[at].took(changed):
                continue
            held = {**blocks[at].packed(), **changed} if blocks else changed
            kept = {name: packed for name, packed in held.items() if packed is not None}
            end = at + 1
            if len(kept) < LEAST and end < len(blocks):
                kept |= blocks[end].packed()
                end += 1
            blocks[at:end] = blocks_of(kept)
        return self if tuple(blocks) == self._blocks else Models(blocks)


def _packed(entry: ModelEntry | None, digest: int) -> Packed | None:
    return None if entry is None else Packed(pack(entry), digest)


class Difference(NamedTuple):
    """One name, and what two mappings have for it: packed entries, of which one may be None."""

    name: str
    packed_before: bytes | None
    packed_after: bytes | None

    @property
    def before(self) -> ModelEntry | None:
        return unpack(self.name, self.packed_before) if self.packed_before is not None else None

    @property
    def after(self) -> ModelEntry | None:
        return unpack(self.name, self.packed_after) if self.packed_after is not None else None

    @property
    def is_real(self) -> bool:
        """False where only the marks of versions differ, which are no part of what is compared."""
        return self.before != self.after


def differences(before: Models, after: Models) -> Iterator[Difference]:
    """Yield in order of name where two mappings differ; the blocks that both share are not looked at."""
    if before is after:
        return
    shared = set(map(id, before.blocks)) & set(map(id, after.blocks))
    olds, news = _items(before, but=shared), _items(after, but=shared)
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old[0] < new[0]):
            assert old is not None
            yield Difference(old[0], old[1], None)
            old = next(olds, None)
        elif old is None or new[0] < old[0]:
            yield Difference(new[0], None, new[1])
            new = next(news, None)
        else:
            if old[1] != new[1]:
                yield Difference(old[0], old[1], new[1])
            old, new = next(olds, None), next(news, None)


def _items(models: Models, *, but: set[int]) -> Iterator[tuple[str, bytes]]:
    for block in models.blocks:
        if id(block) not in but:
            yield from block.items()


class Draft:
    """A mapping in the making: changes are taken a thousand at a time, so that none of them costs a copy.

    Owned by one caller. ``set`` and ``in`` any number of times; ``done`` gives what there is by then.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._changes: dict[str, Packed | None] = {}

    def __contains__(self, name: str) -> bool:
        if name in self._changes:
            return self._changes[name] is not None
        return name in self._models

    def set(self, name: str, entry: ModelEntry | None, digest: int = UNKNOWN) -> None:
        """Add, replace or, with None, remove one model; ``digest`` is of the objects that it was read from."""
        self._changes[name] = _packed(entry, digest)
        if len(self._changes) >= _BATCH:
            self.done()

    def done(self) -> Models:
        """Return the mapping with all changes so far."""
        self._models = self._models.with_packed(self._changes)
        self._changes = {}
        return self._models


def without(fingerprints: Iterable[Fingerprint], models: Models) -> set[Fingerprint]:
    """Return those of the fingerprints that no version has."""
    missing = set(fingerprints)
    for block in models.blocks:
        if not missing:
            break
        missing.difference_update(block.fingerprints())
    return missing
