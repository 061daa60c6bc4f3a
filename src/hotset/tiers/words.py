"""The words that clients wrote: which version in memory each of them means now, and when it was last used.

The memory tier is these words with leases and room. They do no I/O, await nothing and read no clock, and take nothing
in or out: what is in memory is read where the ledger has it.

Recency is kept for what clients *wrote*: a version number, the word ``latest`` and a label have a last-used time each. An
entry is as young as the youngest word that means it now. So when ``latest`` moves on, nothing is reordered: the
old version keeps what was asked of it by number, the new one inherits the time of ``latest``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar, cast

from hotset.keys import LATEST, ModelKey, ModelRef
from hotset.tiers.books import Entry
from hotset.tiers.eviction import Eviction
from hotset.tiers.labels import LabelWords

V = TypeVar("V")


class Words(Generic[V]):
    """Owned by the event loop. For one version, by the tier: it is entered → ``_came`` → any of the others → it is out → ``_left``."""

    def __init__(self, entries: Mapping[ModelKey, Entry[ModelKey, V]], recency: Eviction[ModelRef]) -> None:
        """``entries``: what is in memory now, the ledger's own. ``recency``: where words have their times."""
        self._entries: Final = entries
        self._recency: Final = recency
        self._latest: dict[str, ModelKey] = {}
        self._labels: Final = LabelWords(recency)
        self._labelled: Final = self._labels.by_name
        self._versions: dict[str, set[ModelKey]] = {}
        self._unasked: dict[ModelKey, None] = {}

    # What a word means

    def find(self, ref: ModelRef) -> Entry[ModelKey, V] | None:
        """Return the entry that ``ref`` means in memory now; ``latest`` is the version that answers for it."""
        if ref.version == LATEST:
            key = self._latest.get(ref.name)
            return None if key is None else self._entries.get(key)
        if self._labelled and isinstance(ref.version, str):
            key = self._labels.means(ref)
            return None if key is None else self._entries.get(key)
        return self._entries.get(ref)  # type: ignore[call-overload, no-any-return]  # equal tuples

    def entry(self, key: ModelKey) -> Entry[ModelKey, V] | None:
        """Return the entry of a version, or None if it is not in memory."""
        return self._entries.get(key)

    def has_any_of(self, name: str) -> bool:
        """Whether any version of a model is in memory."""
        return name in self._versions

    def has_only(self, key: ModelKey) -> bool:
        """Whether this version of its model is in memory, and no other."""
        return self._versions.get(key.name) == {key}

    def entries_of(self, name: str) -> tuple[Entry[ModelKey, V], ...]:
        """Return the versions of one model that are in memory, ascending."""
        return tuple(self._entries[key] for key in sorted(self._versions.get(name, ())))

    # Recency

    def touch(self, ref: ModelRef, now_s: float) -> None:
        """Note a use of something that is being loaded. Forgotten again by ``forget_unused``."""
        self._recency.touch(ref, now_s)
        self._note_word(ref)
        if isinstance(ref.version, str) and ref.version != LATEST:
            self._labels.await_(ref)

    def admit(self, ref: ModelRef, used_s: float) -> None:
        """Give a word its last-used time of before a restart; call it oldest first."""
        self._recency.admit(ref, used_s)
        self._note_word(ref)
        if isinstance(ref.version, str) and ref.version != LATEST:
            self._labels.await_(ref)

    def last_used_s(self, ref: ModelRef) -> float | None:
        return self._recency.last_used_s(ref)

    def entry_used_s(self, key: ModelKey) -> float | None:
        """Return the youngest of the times that count for an entry, or None if it was never asked for."""
        if self._labelled and key.name in self._labelled:
            word = self._youngest_word(key)
            return None if word is None else self._recency.last_used_s(word)
        by_number_s = self._recency.last_used_s(_word(key))
        if self._latest.get(key.name) != key:
            return by_number_s
        as_latest_s = self._recency.last_used_s(ModelRef(key.name))
        if by_number_s is None or as_latest_s is None:
            return by_number_s if as_latest_s is None else as_latest_s
        return max(by_number_s, as_latest_s)

    def oldest_used_s(self) -> float | None:
        """Return the time of the entry that would go first, leased or not; None if the tier is empty."""
        for key in self._keys_by_recency():
            used_s = self.entry_used_s(key)
            return float("-inf") if used_s is None else used_s
        return None

    def by_recency(self) -> list[tuple[ModelRef, float]]:
        """Every word with a last-used time that means an entry now, the oldest first."""
        return [
            (ref, self._recency.last_used_s(ref) or 0.0) for ref in self._recency.victims() if self.find(ref)
        ]

    # Latest

    def serving_latest(self, name: str) -> ModelKey | None:
        """Return the version that answers for ``latest``; it stays so while a newer one is loaded."""
        return self._latest.get(name)

    def point_latest(self, key: ModelKey) -> ModelKey | None:
        """From now on ``key``, which must be in memory, answers for ``latest``. Returns the version that did."""
        if key not in self._entries:
            raise RuntimeError(f"latest cannot mean what is not in memory: {key}")
        previous = self._latest.get(key.name)
        self._latest[key.name] = key
        self._note_whether_asked(key)
        if previous is not None:
            self._note_whether_asked(previous)
        return previous

    # Labels

    def serving(self, ref: ModelRef) -> ModelKey | None:
        """Return the version that answers for a label; it stays so until ``point`` moves it."""
        return self._labels.means(ref)

    def labels_of(self, name: str) -> dict[str, ModelKey]:
        """Return what a model's labels mean in memory now."""
        return self._labels.of(name) if self._labelled else {}

    def point(self, ref: ModelRef, key: ModelKey) -> ModelKey | None:
        """From now on ``key``, which must be in memory, answers for a label. Returns the version that did."""
        if key not in self._entries:
            raise RuntimeError(f"a label cannot mean what is not in memory: {ref} → {key}")
        previous = self._labels.point(ref, key)
        self._note_whether_asked(key)
        if previous is not None:
            self._note_whether_asked(previous)
        return previous

    def forget_label(self, ref: ModelRef) -> None:
        """A label means nothing any more, here or in the store."""
        previous = self._labels.drop(ref)
        if previous is not None:
            self._note_whether_asked(previous)

    # Coming and going

    def _came(self, key: ModelKey) -> None:
        """A version is among the entries now, or another entry of it is."""
        self._versions.setdefault(key.name, set()).add(key)
        self._note_whether_asked(key)

    def _left(self, key: ModelKey) -> None:
        """A version leaves: what meant it means nothing, and the times of its own words are forgotten. Twice is fine."""
        versions = self._versions.get(key.name)
        if versions is None or key not in versions:
            return  # forgotten when it was evicted; by now its word may stand for a load that is under way
        versions.discard(key)
        self._recency.remove(_word(key))
        self._unasked.pop(key, None)
        if self._latest.get(key.name) == key:
            del self._latest[key.name]
        if self._labelled:
            self._labels.drop_those_of(key.name, key)
        if not versions:
            del self._versions[key.name]
            self._recency.remove(ModelRef(key.name))

    def forget_unused(self, ref: ModelRef) -> None:
        """Drop the last-used time of a word that means nothing in memory: after a load that failed."""
        if self.find(ref) is None:
            self._recency.remove(ref)
            if self._labelled:
                self._labels.drop(ref)

    def forget_words(self, key: ModelKey) -> None:
        """Drop the last-used times of the words that may mean a version, where they mean nothing in memory."""
        if key not in self._entries:
            self._recency.remove(_word(key))
        if key.name not in self._latest:
            self._recency.remove(ModelRef(key.name))
        if self._labelled:
            self._labels.drop_those_of(key.name, None)

    def _note_word(self, ref: ModelRef) -> None:
        if self._unasked:
            entry = self.find(ref)
            if entry is not None:
                self._unasked.pop(entry.key, None)

    def _note_whether_asked(self, key: ModelKey) -> None:
        if key in self._entries and self.entry_used_s(key) is None:
            self._unasked[key] = None
        else:
            self._unasked.pop(key, None)

    # Whose turn it is

    def _keys_by_recency(self) -> Iterator[ModelKey]:
        """Entries nobody asked for first, then by the youngest of the times that count for them."""
        yield from self._unasked
        for ref in self._recency.victims():
            entry = self.find(ref)
            if entry is not None and self._is_youngest(ref, entry.key):
                yield entry.key

    def _is_youngest(self, ref: ModelRef, key: ModelKey) -> bool:
        """Whether it is this word that gives an entry its place: one of several, also where all were used at the same time."""
        if self._labelled and key.name in self._labelled:
            return self._youngest_word(key) == ref
        if ref.version == LATEST:
            number_s, latest_s = self._recency.last_used_s(_word(key)), self._recency.last_used_s(ref)
            return number_s is None or (latest_s is not None and number_s <= latest_s)
        if self._latest.get(key.name) != key:
            return True
        number_s, latest_s = self._recency.last_used_s(ref), self._recency.last_used_s(ModelRef(key.name))
        return latest_s is None or (number_s is not None and number_s > latest_s)

    def _youngest_word(self, key: ModelKey) -> ModelRef | None:
        """The word that was used last of all that mean an entry."""
        is_latest = self._latest.get(key.name) == key
        return self._labels.youngest(key, [_word(key), ModelRef(key.name)][: 1 + is_latest])

    def check_invariants(self) -> None:
        """Look for a version, a word or a mark that the entries do not bear out. For tests and for the sync loop's pass."""
        entries = self._entries
        assert {key for keys in self._versions.values() for key in keys} == entries.keys()
        assert all(key in entries for key in self._latest.values())
        assert all(key in entries for name in self._labelled for key in self._labels.of(name).values())
        assert {key for key in entries if self.entry_used_s(key) is None} == self._unasked.keys()


def _word(key: ModelKey) -> ModelRef:
    """The word that means a version by its number: an equal tuple, so the key itself will do to look it up."""
    return cast("ModelRef", key)
