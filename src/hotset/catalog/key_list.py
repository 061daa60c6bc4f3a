"""Many keys in little room: a hundred thousand versions that are gone are one string and one array.

What differs between two snapshots is counted in models, not in what is in memory, and as Python objects so many keys
would take the interpreter a tenth of a second to free, in one step.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

from hotset.keys import ModelKey

_PART = 500


class KeyList(Sequence[ModelKey]):
    """Keys in order of coming. Filled by one owner with ``append``; then immutable, and for any thread."""

    __slots__ = ("_full", "_length", "_open")

    def __init__(self, keys: Iterable[ModelKey] = ()) -> None:
        self._full: list[tuple[str, array[int]]] = []
        self._open: list[ModelKey] = []
        self._length = 0
        for key in keys:
            self.append(key)

    def append(self, key: ModelKey) -> None:
        self._open.append(key)
        self._length += 1
        if len(self._open) == _PART:
            names = "\n".join([name for name, _ in self._open])
            self._full.append((names, array("q", [version for _, version in self._open])))
            self._open = []

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[ModelKey]:
        for part in range(len(self._full) + 1):
            yield from self._part(part)

    @overload
    def __getitem__(self, index: int) -> ModelKey: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ModelKey]: ...
    def __getitem__(self, index: int | slice) -> ModelKey | Sequence[ModelKey]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(self._length))]
        part, place = divmod(range(self._length)[index], _PART)
        return self._part(part)[place]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as any other list

    def __repr__(self) -> str:
        return f"<{self._length} keys: {', '.join(map(str, islice(self, 3)))}{', …' if self._length > 3 else ''}>"

    def _part(self, part: int) -> Sequence[ModelKey]:
        if part == len(self._full):
            return self._open
        names, numbers = self._full[part]
        return [*map(ModelKey, names.split("\n"), numbers)]
