"""When labels move: each goes to its new version once that is loaded, and until then goes on meaning the old one.

The rollover asks it beside what it decides for ``latest``. A label that means nothing in memory means at once what the
store says. It never means a version that the store did not give it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from hotset.catalog import ModelEntry, VersionEntry
from hotset.clock import Clock
from hotset.events import EventBus, LabelMoved
from hotset.keys import ModelKey, ModelRef
from hotset.residency.ahead import Step, next_step
from hotset.residency.arrival import Occupant
from hotset.residency.failures import Failures
from hotset.tiers.memory import MemoryTier

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class LabelMoves:
    """Owned by the rollover. ``follow`` after whatever changes in memory or in the store; the rest at any time."""

    def __init__(
        self,
        *,
        memory: MemoryTier[Occupant],
        failures: Failures,
        clock: Clock,
        events: EventBus,
        supersede: Callable[[ModelKey, ModelKey], None],
    ) -> None:
        """``supersede`` takes out a version that nobody asks for any more, in favour of another."""
        self._memory = memory
        self._failures = failures
        self._clock = clock
        self._events = events
        self._supersede = supersede
        self._meant: dict[str, dict[str, int]] = {}
        """What labels meant last, by model: as many as the store has, and no more."""

    def offered(self, model: ModelEntry, label: str) -> VersionEntry | None:
        """Return the version that a label means now, or None.

        It is the one that the store gives it. While there is no such version yet, or it failed lately, it is the one
        that the label meant before.
        """
        if model.target(label) is None:
            return None
        given, before = model.version(label), self.before(model, label)
        if given is not None and (before is None or not self._failed_lately(given)):
            return given
        if given is not None and before is not None and self._failed_lately(before):
            return given
        return before

    def before(self, model: ModelEntry, label: str) -> VersionEntry | None:
        """Return the version that a label meant before the store gave it another one, or None."""
        number = self._meant.get(model.name, _NOTHING).get(label)
        return None if number is None or number == model.target(label) else model.version(number)

    def remember(self, ref: ModelRef, number: int) -> None:
        """A label meant this version when the process before this one ended."""
        self._meant.setdefault(ref.name, {})[str(ref.version)] = number

    def last_meant(self, ref: ModelRef) -> int | None:
        """Return the number that a label meant last; None if it is none, or never meant anything."""
        return self._meant.get(ref.name, _NOTHING).get(str(ref.version))

    def forget_gone(self, name: str, model: ModelEntry | None) -> None:
        """Forget labels, and what they meant, where the store has them no more."""
        meant = self._meant.get(name)
        if meant is None:
            return
        for label, number in list(meant.items()):
            if model is None or model.target(label) is None or model.version(number) is None:
                del meant[label]
        if not meant:
            del self._meant[name]

    def follow(self, model: ModelEntry) -> None:
        """Let every label mean what the store says, where that is in memory."""
        memory, name = self._memory, model.name
        for label in memory.labels_of(name):
            if model.target(label) is None:
                memory.forget_label(ModelRef(name, label))
        left: list[tuple[ModelKey, ModelKey]] = []
        for label, number in model.labels.targets if model.labels is not None else ():
            key, ref = ModelKey(name, number), ModelRef(name, label)
            previous = memory.serving(ref)
            if previous == key or memory.entry(key) is None or model.version(number) is None:
                continue
            self._point(ref, key)
            if previous is not None:
                self._events.publish(LabelMoved(name, label, number, previous.version))
                left.append((previous, key))
        for previous, key in left:  # only now: two labels may have changed places
            if memory.entry(previous) is not None and memory.entry_used_s(previous) is None:
                self._supersede(previous, key)

    def answered(self, model: ModelEntry, ref: ModelRef, key: ModelKey) -> bool:
        """``ref`` is answered by ``key``: it goes on so, if it means nothing in memory. False: nothing was changed."""
        if self._memory.serving(ref) is not None or model.target(str(ref.version)) is None:
            return False
        self._point(ref, key)
        return True

    def steps(self, model: ModelEntry) -> Iterator[tuple[Step, VersionEntry]]:
        """For each label that is answered by another version than the store gives it: what to do."""
        for label, key in self._memory.labels_of(model.name).items():
            entry, wanted = self._memory.entry(key), model.version(label)
            if entry is None or wanted is None or wanted.key == key:
                continue
            step = next_step(
                serving=entry.value.version,
                wanted=wanted,
                used_s=self._memory.last_used_s(ModelRef(model.name, label)),
                oldest_used_s=self._memory.oldest_used_s(),
                has_room=self._memory.has_room(entry.weight),
            )
            yield step, wanted

    def _point(self, ref: ModelRef, key: ModelKey) -> None:
        self._memory.point(ref, key)
        self.remember(ref, key.version)

    def _failed_lately(self, version: VersionEntry) -> bool:
        failure = self._failures.get(version.key, version.fingerprint)
        return failure is not None and failure.retry_at_s > self._clock.monotonic()
