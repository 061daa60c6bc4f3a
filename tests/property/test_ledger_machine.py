"""The ledger against a small model, in every order of calls that Hypothesis finds: promise 1 and half of 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hotset.errors import CapacityError
from hotset.events import Cause
from hotset.tiers.books import larger, on_device
from hotset.tiers.eviction import LRU
from hotset.tiers.ledger import NOTHING, Capacity, Entry, Ledger, Reservation, Weight

keys = st.integers(0, 4)
DEVICES = 2
device_bytes = st.one_of(
    st.just(()), st.builds(on_device, st.integers(0, DEVICES - 1), st.integers(0, 3)), st.just((2, 1))
)
weights = st.builds(Weight, st.just(1), st.integers(0, 6), device_bytes)
limits = st.one_of(st.none(), st.integers(3, 8))
devices = st.lists(limits, max_size=DEVICES).map(tuple)
capacities = st.builds(Capacity, st.one_of(st.none(), st.integers(1, 4)), limits, devices)
causes = st.sampled_from([Cause.EXPLICIT, Cause.DELETED, Cause.PRESSURE])


def total(weights: Iterator[Weight]) -> Weight:
    result = NOTHING
    for weight in weights:
        result = result.plus(weight)
    return result


def parts(weight: Weight) -> list[int]:
    """Places, host bytes and each device's bytes, one after the other."""
    return [weight.models, weight.bytes, *weight.device_bytes, *[0] * (DEVICES - len(weight.device_bytes))]


def exceeded(capacity: Capacity, weight: Weight) -> list[int]:
    limits = [capacity.models, capacity.bytes, *capacity.device_bytes]
    both = enumerate(zip(limits, parts(weight), strict=False))
    return [part for part, (limit, need) in both if limit is not None and need > limit]


class LedgerMachine(RuleBasedStateMachine):
    """Keeps its own books: what is resident, leaving, promised and granted, and says who must go next."""

    @initialize(capacity=capacities)
    def start(self, capacity: Capacity) -> None:
        self.prepare(capacity)

    def prepare(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.lru: LRU[int] = LRU()
        self.now_s = 0.0
        self.woken = False
        self.ledger: Ledger[int, str] = Ledger(capacity, order=self.lru.victims, wake=self.wake)
        self.open: list[Reservation[int]] = []
        self.grants: dict[Reservation[int], int] = {}
        self.handed: list[Entry[int, str]] = []
        self.ever_handed: set[Entry[int, str]] = set()
        self.held: list[Entry[int, str]] = []
        self.coming: dict[Entry[int, str], tuple[Entry[int, str], ...]] = {}

    def wake(self) -> None:
        self.woken = True

    # The model: victims of one reservation after another, as the eviction order has them

    def expected_victims(self) -> list[int]:
        resident = {key: entry.weight for key, entry in self.ledger.entries.items()}
        promised = {r: r.promised for r in self.open}
        gone: list[int] = []
        for reservation in self.open:
            if promised[reservation] == reservation.weight:
                continue
            others = [w for r, w in promised.items() if r is not reservation]
            chosen: list[int] = []
            fits = False
            for victim in [None, *self.candidates(resident, reservation.key)]:
                left = [w for key, w in resident.items() if key not in chosen]
                over = exceeded(self.capacity, total(iter([*left, *others, reservation.weight])))
                if victim is not None and any(parts(resident[victim])[part] for part in over):
                    chosen.append(victim)
                    left = [w for key, w in resident.items() if key not in chosen]
                    over = exceeded(self.capacity, total(iter([*left, *others, reservation.weight])))
                if not over:
                    fits = True
                    break
            if fits:
                promised[reservation] = reservation.weight
                gone += chosen
                for key in chosen:
                    del resident[key]
        return gone

    def candidates(self, resident: dict[int, Weight], spared: int) -> list[int]:
        free = [
            key
            for key in self.lru.victims()
            if key in resident and not self.ledger.entries[key].holds and not self.ledger.entries[key].pinned
        ]
        return [key for key in free if key != spared] + [key for key in free if key == spared]

    # Calls

    @rule(key=keys, weight=weights, takes=st.sampled_from([None, True, True, False]))
    def reserve(self, key: int, weight: Weight, takes: bool | None = None) -> None:
        def granted() -> None:
            self.grants[reservation] += 1

        def taken(entries: Sequence[Entry[int, Any]]) -> bool:
            assert entries
            assert not any(entry.holds or entry.pinned or entry.copies for entry in entries)
            return bool(takes)

        before = (self.ledger.usage, self.ledger.commitment)
        if exceeded(self.capacity, weight):
            with pytest.raises(CapacityError):
                self.ledger.reserve(key, weight, granted, takes=None if takes is None else taken)
            assert (self.ledger.usage, self.ledger.commitment) == before
            return
        reservation = self.ledger.reserve(key, weight, granted, takes=None if takes is None else taken)
        self.open.append(reservation)
        self.grants[reservation] = 0

    @rule(key=keys, weight=weights)
    def enter(self, key: int, weight: Weight) -> None:
        """The straight way, in one go, as far as there is room."""
        self.reserve(key, weight)
        self.drain()
        for reservation in [r for r in self.open if r.key == key and r.is_granted]:
            self.turn_into_entry(reservation)

    @rule()
    def advance(self) -> None:
        expected = self.expected_victims()
        entries = dict(self.ledger.entries)
        waiting = [r for r in self.open if not r.is_granted]
        grants = dict(self.grants)
        due = self.woken
        self.woken = False
        ready = self.ledger.advance()
        assert [key for key in entries if key not in self.ledger.entries] == sorted(
            expected, key=list(entries).index
        )
        for entry in ready:
            assert entry.holds == 0
            assert entry not in self.ever_handed
            assert entry.key in expected or entry.cause is not Cause.CAPACITY or entry not in entries.values()
        newly = [r for r in waiting if r.is_granted]
        behind = [entry for reservation in newly for entry in reservation.behind]
        assert all(entry.handed_out and entry not in ready for entry in behind)
        taken = [entry for entry in behind if entry not in self.ever_handed]  # else it was corrected to more
        self.handed += [*ready, *taken]
        self.ever_handed.update((*ready, *taken))
        for reservation in self.open:
            assert self.grants[reservation] == grants[reservation] + (reservation in newly)
        self.woken = False  # one call did all there was to do, also what it woke for itself
        if not due:  # nothing was lost: whoever waits for `wake` has not missed anything
            assert not ready
            assert not newly

    @precondition(lambda self: self.handed and any(r.is_promised and not r.is_granted for r in self.open))
    @rule(data=st.data())
    def grant_behind(self, data: st.DataObject) -> None:
        reservation = data.draw(st.sampled_from([r for r in self.open if r.is_promised and not r.is_granted]))
        entries = data.draw(st.permutations(self.handed))
        entries = entries[: data.draw(st.integers(1, len(entries)))]
        usage, granted = self.ledger.usage, reservation.granted
        follows = {entry: entry.followed_by for entry in entries}
        if not self.ledger.grant_behind(reservation, entries):
            assert (self.ledger.usage, reservation.granted) == (usage, granted)
            assert {entry: entry.followed_by for entry in entries} == follows
            return
        assert granted == NOTHING
        assert reservation.is_granted
        assert set(reservation.behind) <= {entry for entry, before in follows.items() if before is None}
        assert all(entry.followed_by is reservation for entry in reservation.behind)

    @precondition(lambda self: any(r.leaving != NOTHING for r in self.open))
    @rule(data=st.data())
    def stand_back(self, data: st.DataObject) -> None:
        reservation = data.draw(st.sampled_from([r for r in self.open if r.leaving != NOTHING]))
        before = reservation.behind
        self.ledger.stand_back(reservation)
        assert reservation.is_promised
        assert reservation.granted == NOTHING
        assert all(entry.followed_by is None for entry in before)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        reservation = data.draw(st.sampled_from(self.open))
        self.open.remove(reservation)
        self.ledger.cancel(reservation)
        usage = self.ledger.usage
        self.ledger.cancel(reservation)  # twice is fine
        assert self.ledger.usage == usage

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        reservation = data.draw(st.sampled_from(self.open))
        if not reservation.is_granted:
            with pytest.raises(RuntimeError, match="not granted"):
                self.ledger.commit(reservation, "early")
            return
        self.turn_into_entry(reservation)

    def turn_into_entry(self, reservation: Reservation[int]) -> None:
        for before in reservation.behind:  # it comes in behind them
            if before in self.handed:
                self.handed.remove(before)
                self.ledger.freed(before)
        old = self.ledger.entries.get(reservation.key)
        usage = self.ledger.usage
        entry = self.ledger.commit(reservation, "value")
        self.open.remove(reservation)
        self.touch(reservation.key)
        assert self.ledger.entries[reservation.key] is entry
        assert entry.weight == reservation.weight or not reservation.granted
        assert self.ledger.usage == usage
        if old is not None:
            assert old.cause is Cause.SUPERSEDED
            assert old in self.ledger.draining()

    @precondition(lambda self: any(r.is_granted for r in self.open))
    @rule(data=st.data())
    def come(self, data: st.DataObject) -> None:
        """It is entered on its way, and those whom it follows leave with the same order."""
        reservation = data.draw(st.sampled_from([r for r in self.open if r.is_granted]))
        sums = (self.ledger.usage, self.ledger.commitment)
        old = self.ledger.entries.get(reservation.key)
        entry = self.ledger.enter(reservation, "value")
        self.open.remove(reservation)
        self.touch(reservation.key)
        self.coming[entry] = tuple(it for it in reservation.behind if it in self.handed)
        for before in self.coming[entry]:
            self.handed.remove(before)
        if old is None:
            assert (self.ledger.usage, self.ledger.commitment) == sums
        else:
            assert old.cause is Cause.SUPERSEDED

    @precondition(lambda self: self.coming)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(list(self.coming)))
        for before in self.coming.pop(entry):
            self.ledger.freed(before)
        self.ledger.settle(entry)
        assert entry.follows is None

    @precondition(lambda self: self.coming)
    @rule(data=st.data(), are_gone=st.booleans())
    def withdraw(self, data: st.DataObject, are_gone: bool) -> None:
        entry = data.draw(st.sampled_from(list(self.coming)))
        behind = self.coming.pop(entry)
        if are_gone:
            for before in behind:
                self.ledger.freed(before)
        self.ledger.withdraw(entry)
        assert self.ledger.entries.get(entry.key) is not entry
        assert entry.weight == NOTHING
        assert all(before.followed_by is None for before in behind)
        if not are_gone:
            self.handed += behind

    @precondition(lambda self: any(r.is_granted for r in self.open))
    @rule(data=st.data(), weight=weights)
    def resize(self, data: st.DataObject, weight: Weight) -> None:
        reservation = data.draw(st.sampled_from([r for r in self.open if r.is_granted]))
        before = reservation.weight
        if exceeded(self.capacity, weight):
            with pytest.raises(CapacityError):
                self.ledger.resize(reservation, weight)
            assert reservation.weight == before
            assert reservation.is_granted
            return
        self.ledger.resize(reservation, weight)
        shrank = all(new <= old for new, old in zip(parts(weight), parts(before), strict=True))
        assert reservation.is_granted == shrank

    @rule(key=keys, cause=causes)
    def evict(self, key: int, cause: Cause) -> None:
        there = self.ledger.entries.get(key)
        usage = self.ledger.usage
        assert self.ledger.evict(key, cause) is there
        assert self.ledger.usage == usage  # only `freed` gives room back
        if there is not None:
            assert there.cause is cause

    @precondition(lambda self: self.ledger.entries)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        entry = self.ledger.entries[data.draw(st.sampled_from(sorted(self.ledger.entries)))]
        entry.holds += 1
        self.held.append(entry)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        entry = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.ledger.release(entry)
        if entry not in self.held and entry not in self.coming:
            with pytest.raises(RuntimeError, match="more often than held"):
                self.ledger.release(entry)

    @precondition(lambda self: self.handed)
    @rule(data=st.data())
    def freed(self, data: st.DataObject) -> None:
        entry = self.handed.pop(data.draw(st.integers(0, len(self.handed) - 1)))
        usage, follower = self.ledger.usage, entry.followed_by
        self.ledger.freed(entry)
        if follower is None:
            assert self.ledger.usage == usage.minus(entry.weight)
        else:
            assert all(
                now <= before for now, before in zip(parts(self.ledger.usage), parts(usage), strict=True)
            )

    @rule(key=keys, pinned=st.booleans())
    def pin(self, key: int, pinned: bool) -> None:
        assert self.ledger.pin(key, pinned=pinned) == (key in self.ledger.entries)

    @rule(key=keys)
    def touch(self, key: int) -> None:
        self.now_s += 1.0
        self.lru.touch(key, self.now_s)

    @rule()
    def drain(self) -> None:
        """All that can be given back is given back: what was promised must now be granted."""
        for _ in range(20):
            self.advance()
            if not self.handed:
                break
            while self.handed:
                self.ledger.freed(self.handed.pop())
        assert not self.handed
        if self.ledger.draining():
            return  # some of it is held
        for reservation in self.open:
            assert reservation.is_granted == (reservation.promised == reservation.weight)
        assert not self.expected_victims()

    # What always holds

    @invariant()
    def usage_is_within_capacity_in_every_part(self) -> None:
        assert not exceeded(self.capacity, self.ledger.usage)
        assert not exceeded(self.capacity, self.ledger.commitment)

    @invariant()
    def sums_do_not_drift(self) -> None:
        self.ledger.check_invariants()
        draining = self.ledger.draining()
        entries = (*self.ledger.entries.values(), *self.ledger.copies())
        resident = total(entry.weight for entry in entries)
        following = total(
            larger(entry.weight, total(it.weight for it in entry.follows.behind if it in draining))
            for entry in (*entries, *draining)
            if entry.follows is not None
        )
        here = total(entry.weight for entry in entries if entry.follows is None)
        leaving = total(
            entry.weight for entry in draining if entry.followed_by is None and entry.follows is None
        )
        granted = total(
            larger(r.granted, total(entry.weight for entry in r.behind if entry in draining))
            for r in self.open
        )
        promised = total(r.promised for r in self.open)
        assert self.ledger.usage == here.plus(following).plus(leaving).plus(granted)
        assert self.ledger.commitment == resident.plus(promised)

    @invariant()
    def what_is_held_is_never_handed_out(self) -> None:
        for entry in self.ledger.entries.values():
            assert entry.holds == self.held.count(entry) + (entry in self.coming)
        assert not any(entry in self.handed for entry in (*self.held, *self.coming))

    @invariant()
    def statistics_agree(self) -> None:
        statistics = self.ledger.statistics()
        assert statistics.capacity == self.capacity
        assert statistics.usage == self.ledger.usage
        assert statistics.entries == len(self.ledger.entries)
        assert statistics.draining == len(self.ledger.draining())
        assert statistics.reservations == len(self.open)
        assert statistics.held == len({e.key for e in (*self.held, *self.coming) if e.cause is None})

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for entry, behind in self.coming.items():
            for before in behind:
                self.ledger.freed(before)
            self.ledger.settle(entry)
        while self.held:
            self.ledger.release(self.held.pop())
        for reservation in self.open:
            self.ledger.cancel(reservation)
        for key in list(self.ledger.entries):
            self.ledger.evict(key, Cause.EXPLICIT)
        for entry in (*self.handed, *self.ledger.advance()):
            self.ledger.freed(entry)
        assert self.ledger.usage == self.ledger.commitment == NOTHING
        assert not self.ledger.draining()
        assert self.ledger.advance() == []
        self.ledger.check_invariants()


class CopiesMachine(LedgerMachine):
    """With copies. Who goes is held against the rule, and not against a model: copies first, and nobody in use."""

    @initialize(capacity=st.builds(Capacity, st.none(), st.integers(4, 9), st.just(())))
    def start(self, capacity: Capacity) -> None:
        self.prepare(capacity)
        self.spare: list[Reservation[int]] = []

    def expected_victims(self) -> list[int]:
        return []

    @rule()
    def advance(self) -> None:
        ledger = self.ledger
        entries, copies = list(ledger.entries.values()), ledger.copies()
        waiting = [r for r in self.open if not r.is_granted]
        ready = ledger.advance()
        behind = [entry for reservation in waiting if reservation.is_granted for entry in reservation.behind]
        taken = [entry for entry in behind if entry not in self.ever_handed]
        assert not any(entry.is_copy or entry.copies for entry in taken)
        gone = [entry for entry in entries if entry.cause is not None]
        left = ledger.copies()
        assert not any(entry.holds or entry.pinned for entry in gone)
        assert not any(copy.holds for entry in gone for copy in copies if copy.key == entry.key)
        assert not gone or not any(copy.weight.bytes and not copy.holds for copy in left), "copies go first"
        for entry in ready:
            assert entry.holds == 0
            assert entry not in self.ever_handed
        self.handed += [*ready, *taken]
        self.ever_handed.update((*ready, *taken))

    @rule(data=st.data(), bytes_=st.integers(1, 4))
    def reserve_free(self, data: st.DataObject, bytes_: int) -> None:
        if not self.ledger.entries:
            return
        key = data.draw(st.sampled_from(sorted(self.ledger.entries)))
        waits = self.ledger.is_short
        reservation = self.ledger.reserve_free(key, Weight(bytes=bytes_))
        if reservation is not None:
            assert not waits
            assert reservation.is_granted
            self.spare.append(reservation)
            self.open.append(reservation)
            self.grants[reservation] = 0

    @precondition(lambda self: self.spare)
    @rule(data=st.data(), bytes_=st.integers(1, 4))
    def commit_copy(self, data: st.DataObject, bytes_: int) -> None:
        reservation = data.draw(st.sampled_from(self.spare))
        self.spare.remove(reservation)
        if reservation not in self.open:
            return  # cancelled, or turned into an entry
        before = set(self.ledger.entries.values())
        fits = self.ledger.resize_free(reservation, Weight(bytes=bytes_))
        if reservation.key not in self.ledger.entries or not fits:
            self.ledger.cancel(reservation)
        else:
            copy = self.ledger.commit_copy(reservation, "copy")
            assert copy.weight == Weight(bytes=bytes_)
            assert copy in self.ledger.entries[copy.key].copies
        assert set(self.ledger.entries.values()) == before, "a copy pushes nothing out"
        self.open.remove(reservation)

    @precondition(lambda self: self.ledger.copies())
    @rule(data=st.data())
    def hold_copy(self, data: st.DataObject) -> None:
        copy = data.draw(st.sampled_from(self.ledger.copies()))
        copy.holds += 1
        self.held.append(copy)

    @precondition(lambda self: self.ledger.entries)
    @rule(data=st.data(), first=st.booleans())
    def drop(self, data: st.DataObject, first: bool) -> None:
        entry = self.ledger.entries[data.draw(st.sampled_from(sorted(self.ledger.entries)))]
        places = [entry, *entry.copies]
        place = entry if first else places[-1]
        usage = self.ledger.usage
        self.ledger.drop(place, Cause.WORKER_DIED)
        assert place.cause is Cause.WORKER_DIED
        assert self.ledger.usage == usage
        now = self.ledger.entries.get(entry.key)
        assert [now, *now.copies] == [it for it in places if it is not place] if now else len(places) == 1


TestLedgerMachine = LedgerMachine.TestCase
TestCopiesMachine = CopiesMachine.TestCase
TestLedgerMachine.settings = TestCopiesMachine.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None
)
