"""What labels mean in memory: words like ``paris@stable``, each with a last-used time of its own, as ``latest`` has.

The memory tier holds it and keeps it in step with its entries: it alone knows which versions are there. A label that
somebody asked for and whose version is being loaded means nothing yet, and has a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from hotset.keys import LATEST, ModelKey, ModelRef
from hotset.tiers.eviction import Eviction


class LabelWords:
    """Owned by the memory tier. ``await_`` or ``point``, then ``drop``; nothing stays of a model without labels."""

    __slots__ = ("_recency", "by_name")

    def __init__(self, recency: Eviction[ModelRef]) -> None:
        """``recency``: where words have their times; those of labels that are dropped are removed from it."""
        self._recency = recency
        self.by_name: Final[dict[str, dict[str, ModelKey | None]]] = {}
        """By model and label; read by the hot path, which asks first whether it is empty."""

    def means(self, ref: ModelRef) -> ModelKey | None:
        """Return the version that answers for a label, or None."""
        labels = self.by_name.get(ref.name)
        return labels.get(str(ref.version)) if labels is not None else None

    def of(self, name: str) -> dict[str, ModelKey]:
        """Return what a model's labels mean."""
        return {label: key for label, key in self.by_name.get(name, {}).items() if key is not None}

    def await_(self, ref: ModelRef) -> None:
        """Somebody has asked for this word; if it is a label, it will mean something."""
        if isinstance(ref.version, str) and ref.version != LATEST:
            self.by_name.setdefault(ref.name, {}).setdefault(ref.version, None)

    def point(self, ref: ModelRef, key: ModelKey) -> ModelKey | None:
        """Let a label mean a version; return the one that it meant before."""
        labels = self.by_name.setdefault(ref.name, {})
        previous = labels.get(str(ref.version))
        labels[str(ref.version)] = key
        return previous

    def drop(self, ref: ModelRef) -> ModelKey | None:
        """Forget a label; return what it meant."""
        labels = self.by_name.get(ref.name)
        if labels is None or str(ref.version) not in labels:
            return None
        previous = labels.pop(str(ref.version))
        self._recency.remove(ref)
        if not labels:
            del self.by_name[ref.name]
        return previous

    def drop_those_of(self, name: str, key: ModelKey | None) -> None:
        """Forget the labels that mean this version; with None, those that mean none yet."""
        for label in [label for label, it in self.by_name.get(name, {}).items() if it == key]:
            self.drop(ModelRef(name, label))

    def youngest(self, key: ModelKey, others: Iterable[ModelRef]) -> ModelRef | None:
        """Return the word that was used last of the ``others`` and the labels that mean a version; None: none ever was.

        Of several at the same time it is the last one, and labels are behind the others.
        """
        youngest, youngest_s = None, 0.0
        for word in (*others, *self._meaning(key)):
            used_s = self._recency.last_used_s(word)
            if used_s is not None and (youngest is None or used_s >= youngest_s):
                youngest, youngest_s = word, used_s
        return youngest

    def _meaning(self, key: ModelKey) -> Iterator[ModelRef]:
        return (
            ModelRef(key.name, label) for label, it in self.by_name.get(key.name, {}).items() if it == key
        )
