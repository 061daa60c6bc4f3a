"""The memory tier against a model of thirty lines: recency as DESIGN §5 has it, leases, and nothing left behind."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hotset.events import Cause
from hotset.keys import LATEST, ModelKey, ModelRef
from hotset.tiers.eviction import LRU
from hotset.tiers.ledger import NOTHING, Capacity, Entry, Reservation, Weight
from hotset.tiers.memory import Lease, MemoryTier

NEVER = -math.inf
names = st.sampled_from(["paris", "rome"])
keys = st.builds(ModelKey, names, st.integers(1, 2))
labels = st.sampled_from(["stable", "canary"])
words = st.one_of(st.just(LATEST), st.integers(1, 2), labels)
refs = st.builds(ModelRef, names, words)
causes = st.sampled_from([Cause.EXPLICIT, Cause.DELETED, Cause.SUPERSEDED])


class Model:
    """What is in memory, what each word was last used at, and what ``latest`` and labels mean; all of it slow and plain."""

    def __init__(self) -> None:
        self.inside: set[ModelKey] = set()
        self.words: dict[ModelRef, float] = {}
        self.latest: dict[str, ModelKey] = {}
        self.labels: dict[ModelRef, ModelKey] = {}

    def meant(self, ref: ModelRef) -> ModelKey | None:
        if isinstance(ref.version, str):
            key = self.latest.get(ref.name) if ref.version == LATEST else self.labels.get(ref)
        else:
            key = ModelKey(ref.name, ref.version)
        return key if key in self.inside else None

    def used_s(self, key: ModelKey) -> float:
        """The youngest time of the words that mean it now."""
        return max((s for ref, s in self.words.items() if self.meant(ref) == key), default=NEVER)

    def remove(self, key: ModelKey) -> None:
        """Its number and its labels go with it; ``latest`` goes with the model's last version."""
        self.inside.discard(key)
        self.words.pop(ModelRef(*key), None)
        if self.latest.get(key.name) == key:
            del self.latest[key.name]
        for ref in [ref for ref, it in self.labels.items() if it == key]:
            self.forget_label(ref)
        if not any(other.name == key.name for other in self.inside):
            self.words.pop(ModelRef(key.name), None)

    def forget_label(self, ref: ModelRef) -> None:
        self.labels.pop(ref, None)
        self.words.pop(ref, None)

    def order(self) -> list[float]:
        return sorted(self.used_s(key) for key in self.inside)


class MemoryMachine(RuleBasedStateMachine):
    @initialize(
        places=st.one_of(st.none(), st.integers(1, 4)), bytes_=st.one_of(st.none(), st.integers(3, 9))
    )
    def start(self, places: int | None, bytes_: int | None) -> None:
        self.lru: LRU[ModelRef] = LRU()
        self.tier: MemoryTier[int] = MemoryTier(Capacity(places, bytes_), eviction=self.lru)
        self.model = Model()
        self.now_s = 0.0
        self.value = 0
        self.leases: list[Lease[int]] = []
        self.leased: dict[int, int] = {}
        self.loading: dict[Reservation[ModelKey], None] = {}
        self.handed: list[Entry[ModelKey, int]] = []
        self.ever_handed: set[int] = set()

    def took(self, lease: Lease[int]) -> None:
        self.leases.append(lease)
        self.leased[lease.value] = self.leased.get(lease.value, 0) + 1

    # Time

    @rule(seconds=st.sampled_from([0.0, 1.0, 1.0, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    # Loading

    @rule(key=keys, weight=st.integers(0, 3))
    def reserve(self, key: ModelKey, weight: int) -> None:
        if not any(reservation.key == key for reservation in self.loading):  # one flight for a key
            self.loading[self.tier.reserve(key, Weight(bytes=weight), lambda: None)] = None

    @rule(key=keys, weight=st.integers(0, 3))
    def load(self, key: ModelKey, weight: int) -> None:
        """The straight way, in one go, as far as there is room."""
        self.reserve(key, weight)
        self.advance()
        while self.handed:
            self.tier.freed(self.handed.pop())
        self.advance()
        for reservation in [r for r in self.loading if r.key == key and r.is_granted]:
            self.enter(reservation)

    @rule(ref=refs)
    def touch(self, ref: ModelRef) -> None:
        self.tier.touch(ref, self.now_s)
        self.model.words[ref] = self.now_s

    @rule(ref=refs)
    def forget_unused(self, ref: ModelRef) -> None:
        self.tier.forget_unused(ref)
        if self.model.meant(ref) is None:
            self.model.words.pop(ref, None)

    @rule(ref=refs, age_s=st.integers(0, 5))
    def admit(self, ref: ModelRef, age_s: int) -> None:
        self.tier.admit(ref, self.now_s - age_s)
        self.model.words[ref] = self.now_s - age_s

    @precondition(lambda self: any(r.is_granted for r in self.loading))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.enter(data.draw(st.sampled_from([r for r in self.loading if r.is_granted])))

    def enter(self, reservation: Reservation[ModelKey]) -> None:
        del self.loading[reservation]
        self.value += 1
        entry = self.tier.commit(reservation, self.value)
        assert entry.value == self.value
        self.model.inside.add(reservation.key)

    @precondition(lambda self: self.loading)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        reservation = data.draw(st.sampled_from(list(self.loading)))
        del self.loading[reservation]
        self.tier.cancel(reservation)

    @precondition(lambda self: any(r.is_granted for r in self.loading))
    @rule(data=st.data(), weight=st.integers(0, 3))
    def resize(self, data: st.DataObject, weight: int) -> None:
        reservation = data.draw(st.sampled_from([r for r in self.loading if r.is_granted]))
        self.tier.resize(reservation, Weight(bytes=weight))

    # Using

    @rule(ref=refs)
    def lease(self, ref: ModelRef) -> None:
        key = self.model.meant(ref)
        lease = self.tier.lease(ref, self.now_s)
        assert (lease is None) == (key is None)
        if lease is not None:
            assert lease.key == key
            self.model.words[ref] = self.now_s
            self.took(lease)

    @precondition(lambda self: self.tier.entries())
    @rule(data=st.data())
    def lease_entry(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.tier.entries()))
        self.took(self.tier.lease_entry(entry))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        lease.release()
        self.leased[lease.value] -= 1
        assert lease.is_released
        with pytest.raises(RuntimeError, match="released twice"):
            lease.release()

    @rule(data=st.data())
    def point_latest(self, data: st.DataObject) -> None:
        if self.model.inside:
            key = data.draw(st.sampled_from(sorted(self.model.inside)))
            assert self.tier.point_latest(key) == self.model.latest.get(key.name)
            self.model.latest[key.name] = key

    @rule(label=labels, data=st.data())
    def point(self, label: str, data: st.DataObject) -> None:
        if self.model.inside:
            key = data.draw(st.sampled_from(sorted(self.model.inside)))
            ref = ModelRef(key.name, label)
            assert self.tier.point(ref, key) == self.model.labels.get(ref)
            self.model.labels[ref] = key

    @rule(ref=st.builds(ModelRef, names, labels))
    def forget_label(self, ref: ModelRef) -> None:
        self.tier.forget_label(ref)
        self.model.forget_label(ref)

    # Leaving

    @rule(key=keys, cause=causes)
    def evict(self, key: ModelKey, cause: Cause) -> None:
        assert self.tier.evict(key, cause) == (key in self.model.inside)
        if key in self.model.inside:
            self.model.remove(key)

    @rule(key=keys, pinned=st.booleans())
    def pin(self, key: ModelKey, pinned: bool) -> None:
        assert self.tier.pin(key, pinned=pinned) == (key in self.model.inside)

    @rule()
    def advance(self) -> None:
        before = {entry.key: entry for entry in self.tier.entries()}
        free = {key for key, entry in before.items() if not self.leased.get(entry.value) and not entry.pinned}
        ready = self.tier.advance()
        after = {entry.key for entry in self.tier.entries()}
        victims = [key for key in before if key not in after]
        spared = {reservation.key for reservation in self.loading}
        for key in victims:
            assert key in free
            # Nobody who is younger goes before one who is older, but for the key that is being replaced.
            older = [k for k in free - set(victims) if self.model.used_s(k) < self.model.used_s(key)]
            assert not {k for k in older if before[k].weight.bytes >= before[key].weight.bytes} - spared
        for entry in ready:
            assert not self.leased.get(entry.value)
            assert entry.value not in self.ever_handed
            self.ever_handed.add(entry.value)
        self.handed += ready
        for key in victims:
            self.model.remove(key)

    @precondition(lambda self: self.handed)
    @rule(data=st.data())
    def freed(self, data: st.DataObject) -> None:
        self.tier.freed(self.handed.pop(data.draw(st.integers(0, len(self.handed) - 1))))

    # What always holds

    @invariant()
    def invariants_hold(self) -> None:
        self.tier.check_invariants()
        assert self.tier.capacity.holds(self.tier.usage)
        assert self.tier.statistics().leases == len(self.leases)

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert {entry.key for entry in self.tier.entries()} == self.model.inside
        for name in ("paris", "rome"):
            assert self.tier.serving_latest(name) == self.model.latest.get(name)
            means = {ref.version: key for ref, key in self.model.labels.items() if ref.name == name}
            assert self.tier.labels_of(name) == means
            of_name = [entry.key for entry in self.tier.entries_of(name)]
            assert of_name == sorted(key for key in self.model.inside if key.name == name)

    @invariant()
    def victims_come_in_the_order_of_the_model(self) -> None:
        order = list(self.tier._keys_by_recency())
        assert len(order) == len(set(order)), order
        assert set(order) == self.model.inside
        assert [self.model.used_s(key) for key in order] == self.model.order()
        for key in order:
            used_s = self.tier.entry_used_s(key)
            assert (NEVER if used_s is None else used_s) == self.model.used_s(key)
        oldest_s = self.tier.oldest_used_s()
        assert oldest_s == (self.model.order()[0] if order else None)

    @invariant()
    def words_are_the_models(self) -> None:
        assert {ref: self.lru.last_used_s(ref) for ref in self.lru.victims()} == self.model.words
        words = self.tier.by_recency()
        assert dict(words) == {r: s for r, s in self.model.words.items() if self.model.meant(r)}
        assert [used_s for _, used_s in words] == sorted(used_s for _, used_s in words)

    @invariant()
    def what_is_leased_is_not_handed_out(self) -> None:
        assert not any(self.leased.get(entry.value) for entry in self.handed)

    def teardown(self) -> None:
        if not hasattr(self, "tier"):
            return
        for reservation in self.loading:
            self.tier.cancel(reservation)
        self.loading.clear()
        for key in list(self.model.inside):
            self.evict(key, Cause.EXPLICIT)
        self.advance()
        while self.leases:
            self.leases.pop().release()
        self.handed += self.tier.advance()
        while self.handed:
            self.tier.freed(self.handed.pop())
        for ref in list(self.lru.victims()):  # words of loads that never came
            self.tier.forget_unused(ref)
        self.nothing_is_left()

    def nothing_is_left(self) -> None:
        tier, ledger = self.tier, self.tier._ledger
        assert tier.usage == NOTHING
        assert not tier._latest
        assert not tier._versions
        assert not tier._labelled
        assert not tier._unasked
        assert not list(self.lru.victims())
        assert not ledger.entries
        assert not ledger._draining
        assert not ledger._reservations
        assert tier.statistics().leases == 0


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
