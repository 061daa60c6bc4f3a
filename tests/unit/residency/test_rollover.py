"""What latest means, alone: a catalog, a memory tier and failures, and no worker or store behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hotset.catalog import Catalog, Labels, ModelEntry, Snapshot, VersionEntry
from hotset.errors import CapacityError, ErrorKind, HotsetError, LoadFailedError
from hotset.events import Cause, Event, EventBus, LabelMoved, LatestMoved
from hotset.keys import Fingerprint, ModelKey, ModelRef
from hotset.residency.arrival import Occupant
from hotset.residency.failures import Failures
from hotset.residency.rollover import Rollover
from hotset.testing import ManualClock
from hotset.tiers.ledger import Capacity, Weight
from hotset.tiers.memory import MemoryTier

PARIS = ModelRef("paris")


def version(number: int, files: str | None = None) -> VersionEntry:
    return VersionEntry(
        ModelKey("paris", number),
        Fingerprint(files or f"f{number}"),
        f"paris/{number}/",
        10,
        1,
        0.0,
    )


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.catalog = Catalog()
        self.memory: MemoryTier[Occupant] = MemoryTier(Capacity(models=3))
        self.failures = Failures(first_s=5.0, most_s=60.0)
        self.started: list[VersionEntry] = []
        self.seen: list[Event] = []
        events = EventBus()
        events.subscribe(self.seen.append)
        self.rollover = Rollover(
            catalog=self.catalog,
            memory=self.memory,
            failures=self.failures,
            start_load=self.started.append,
            clock=self.clock,
            events=events,
        )

    def offer(self, *versions: VersionEntry, **labels: int) -> None:
        said = Labels("e", tuple(sorted(labels.items()))) if labels else None
        models = {"paris": ModelEntry("paris", tuple(versions), said)} if versions else {}
        self.catalog.apply(Snapshot(models))
        self.rollover.labels.forget_gone("paris", self.catalog.model("paris"))
        self.rollover.follow("paris")

    def means(self, label: str) -> int | None:
        """What answers for a label from memory."""
        key = self.memory.serving(ModelRef("paris", label))
        return key.version if key is not None else None

    def should_mean(self, label: str) -> int | None:
        """What would be loaded for it."""
        found = self.rollover.offered(ModelRef("paris", label))
        return found.key.version if found is not None else None

    def arrive(self, entry: VersionEntry, *, used: Sequence[ModelRef] = ()) -> None:
        resident: Any = None
        reservation = self.memory.reserve(entry.key, Weight(), lambda: None)
        self.memory.advance()
        self.memory.commit(reservation, Occupant(entry, resident, "disk", 0.0, 0.0))
        for ref in used:
            self.clock.advance(1.0)
            self.memory.touch(ref, self.clock.now_s)
        self.rollover.follow("paris")

    def use(self, ref: ModelRef) -> None:
        self.clock.advance(1.0)
        lease = self.memory.lease(ref, self.clock.now_s)
        assert lease is not None
        lease.release()

    def in_memory(self) -> list[int]:
        return [entry.key.version for entry in self.memory.entries_of("paris")]

    def fail(self, entry: VersionEntry, error: HotsetError | None = None) -> None:
        self.failures.note(entry.key, entry.fingerprint, error or LoadFailedError("bad"), self.clock.now_s)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_latest_means_the_newest_that_did_not_fail_lately(bench: Bench) -> None:
    bench.offer(version(1), version(2), version(3))
    assert bench.rollover.offered(PARIS) == version(3)
    bench.fail(version(3))
    assert bench.rollover.offered(PARIS) == version(2)
    assert bench.rollover.offered(ModelRef("paris", 3)) == version(3), "a number means itself"
    bench.fail(version(2))
    bench.fail(version(1))
    assert bench.rollover.offered(PARIS) == version(3), "where all failed, the newest tells why"
    bench.clock.advance(5.0)
    assert bench.rollover.offered(PARIS) == version(3)


def test_what_is_not_offered(bench: Bench) -> None:
    assert bench.rollover.offered(PARIS) is None
    bench.offer(version(1))
    assert bench.rollover.offered(ModelRef("paris", 9)) is None
    assert bench.rollover.offered(ModelRef("paris", "stable")) is None


def test_latest_moves_in_one_step_when_the_newer_one_is_there(bench: Bench) -> None:
    bench.offer(version(1))
    bench.arrive(version(1), used=[PARIS])
    bench.offer(version(1), version(2))
    bench.rollover.follow("paris")
    assert bench.memory.serving_latest("paris") == ("paris", 1)
    assert bench.rollover.is_outdated("paris")
    bench.arrive(version(2))
    assert bench.memory.serving_latest("paris") == ("paris", 2)
    assert not bench.rollover.is_outdated("paris")
    assert bench.seen == [LatestMoved("paris", 2, 1)]
    assert bench.in_memory() == [2]


def test_an_old_version_that_was_asked_for_by_number_stays(bench: Bench) -> None:
    bench.offer(version(1))
    bench.arrive(version(1), used=[PARIS, ModelRef("paris", 1)])
    bench.offer(version(1), version(2))
    bench.arrive(version(2))
    assert bench.in_memory() == [1, 2]


def test_a_pin_moves_with_latest_and_stays_with_a_number(bench: Bench) -> None:
    bench.offer(version(1))
    bench.arrive(version(1), used=[PARIS])
    bench.memory.pin(ModelKey("paris", 1), pinned=True)
    bench.offer(version(1), version(2))
    bench.arrive(version(2), used=[ModelRef("paris", 2)])
    assert [entry.pinned for entry in bench.memory.entries_of("paris")] == [True]
    bench.offer(version(1), version(2), version(3))
    bench.arrive(version(3))
    assert [(e.key.version, e.pinned) for e in bench.memory.entries_of("paris")] == [(2, True), (3, False)]


def test_older_files_of_the_same_version_do_not_become_latest(bench: Bench) -> None:
    bench.offer(version(1, "new"))
    bench.arrive(version(1, "old"))
    assert bench.memory.serving_latest("paris") is None
    assert not bench.rollover.holds(version(1, "new"))
    assert bench.rollover.holds(version(1, "old"))


def test_a_word_that_finds_something_older_starts_the_newer(bench: Bench) -> None:
    bench.offer(version(1))
    bench.arrive(version(1), used=[PARIS, ModelRef("paris", 1)])
    bench.offer(version(1, "new"), version(2))
    bench.rollover.load_newer(PARIS)
    bench.rollover.load_newer(ModelRef("paris", 1))
    assert bench.started == [version(2), version(1, "new")]
    bench.arrive(version(2))
    bench.started.clear()
    bench.rollover.load_newer(PARIS)
    assert bench.started == []


def test_loading_ahead_follows_use_and_room(bench: Bench) -> None:
    bench.offer(version(1))
    bench.arrive(version(1), used=[PARIS])
    bench.offer(version(1), version(2))
    bench.rollover.load_ahead("paris")
    assert bench.started == [version(2)], "there is room"
    bench.started.clear()
    for name in ("oslo", "rome"):
        other = VersionEntry(ModelKey(name, 1), Fingerprint(name), "", 1, 1, 0.0)
        bench.arrive(other, used=[ModelRef(name, 1)])
    bench.rollover.load_ahead("paris")
    assert bench.started == [], "it is what would have to go"
    bench.use(PARIS)
    bench.rollover.load_ahead("paris")
    assert bench.started == [version(2)]


def test_a_deleted_model_is_not_outdated(bench: Bench) -> None:
    bench.offer(version(1))
    bench.arrive(version(1), used=[PARIS])
    bench.offer(version(1), version(2))
    bench.rollover.follow("paris")
    assert bench.rollover.outdated == {"paris"}
    bench.offer()
    bench.rollover.follow("paris")
    bench.rollover.load_ahead("paris")
    assert bench.rollover.outdated == frozenset()
    assert bench.started == []


def test_a_full_disk_is_no_reason_to_go_back_behind_what_was_answered(bench: Bench) -> None:
    full = CapacityError("the disk is full", kind=ErrorKind.DISK_FULL)
    bench.offer(version(1), version(2), version(3))
    bench.arrive(version(2), used=[PARIS])
    bench.rollover.answered(PARIS, version(2).key)
    bench.memory.evict(version(2).key, Cause.CAPACITY)
    bench.fail(version(3), full)
    assert bench.rollover.offered(PARIS) == version(2), "the third has never answered"
    bench.fail(version(2), full)
    assert bench.rollover.offered(PARIS) == version(2)
    assert bench.rollover.fallback(PARIS, version(2).key) is None
    bench.fail(version(2))
    assert bench.rollover.offered(PARIS) == version(1), "what cannot be loaded any more is another matter"


def test_latest_falls_back_to_an_older_version_and_a_number_does_not(bench: Bench) -> None:
    bench.offer(version(1), version(2))
    bench.fail(version(2))
    assert bench.rollover.fallback(PARIS, version(2).key) == version(1)
    assert bench.rollover.fallback(ModelRef("paris", 2), version(2).key) is None
    bench.fail(version(1))
    assert bench.rollover.fallback(PARIS, version(1).key) is None


STABLE = ModelRef("paris", "stable")
ALL = (version(1), version(2), version(3))


def test_a_label_means_what_is_in_memory_of_what_the_store_gives_it(bench: Bench) -> None:
    bench.offer(*ALL, stable=1)
    assert (bench.means("stable"), bench.should_mean("stable")) == (None, 1)
    bench.arrive(version(1), used=[STABLE])
    assert bench.means("stable") == 1
    assert bench.should_mean("other") is None


def test_a_label_stays_until_its_new_version_is_there_and_then_moves_in_one_step(bench: Bench) -> None:
    bench.offer(*ALL, stable=1)
    bench.arrive(version(1), used=[STABLE])
    bench.offer(*ALL, stable=2)
    assert (bench.means("stable"), bench.should_mean("stable")) == (1, 2)
    assert bench.rollover.is_outdated("paris")
    bench.rollover.load_ahead("paris")
    assert version(2) in bench.started
    bench.arrive(version(2))
    assert bench.means("stable") == 2
    assert LabelMoved("paris", "stable", 2, 1) in bench.seen
    assert bench.in_memory() == [2], "nobody asks for the old one by another word"


def test_an_old_version_that_another_label_means_stays(bench: Bench) -> None:
    old = ModelRef("paris", "old")
    bench.offer(*ALL, stable=1, old=1)
    bench.arrive(version(1), used=[STABLE])
    bench.use(old)
    bench.offer(*ALL, stable=2, old=1)
    bench.arrive(version(2))
    assert bench.in_memory() == [1, 2]
    assert (bench.means("stable"), bench.means("old")) == (2, 1)


def test_a_version_that_failed_lately_is_passed_over_for_the_one_before(bench: Bench) -> None:
    bench.offer(*ALL, stable=1)
    bench.arrive(version(1), used=[STABLE])
    bench.offer(*ALL, stable=2)
    bench.fail(version(2))
    assert bench.should_mean("stable") == 1
    assert bench.rollover.fallback(STABLE, version(2).key) == version(1)
    assert list(bench.rollover.earlier(STABLE, version(2).key)) == [version(1)]
    bench.fail(version(1))
    assert bench.should_mean("stable") == 2, "where both failed, the one that the store gives it tells why"
    bench.clock.advance(5.0)
    assert bench.should_mean("stable") == 2


def test_a_label_that_has_moved_never_goes_back(bench: Bench) -> None:
    bench.offer(*ALL, stable=2)
    bench.arrive(version(2), used=[STABLE])
    bench.offer(*ALL, stable=1)
    bench.arrive(version(1))
    assert bench.means("stable") == 1
    bench.fail(version(1))
    assert bench.should_mean("stable") == 1
    assert bench.rollover.fallback(STABLE, version(1).key) is None
    bench.offer(version(2), version(3), stable=1)
    assert bench.should_mean("stable") is None


def test_a_label_that_is_taken_out_means_nothing_and_nothing_of_it_is_remembered(bench: Bench) -> None:
    bench.offer(*ALL, stable=1)
    bench.arrive(version(1), used=[STABLE])
    bench.offer(*ALL)
    assert (bench.means("stable"), bench.should_mean("stable")) == (None, None)
    bench.offer(*ALL, stable=9)
    assert bench.should_mean("stable") is None
    assert bench.rollover.labels.last_meant(STABLE) is None


def test_a_pin_moves_with_a_label(bench: Bench) -> None:
    bench.offer(*ALL, stable=1)
    bench.arrive(version(1), used=[STABLE])
    bench.memory.pin(ModelKey("paris", 1), pinned=True)
    bench.offer(*ALL, stable=2)
    bench.arrive(version(2))
    assert [(entry.key.version, entry.pinned) for entry in bench.memory.entries_of("paris")] == [(2, True)]


def test_labels_that_change_places_keep_both_versions(bench: Bench) -> None:
    bench.offer(*ALL, a=1, b=2)
    bench.arrive(version(1), used=[ModelRef("paris", "a")])
    bench.arrive(version(2), used=[ModelRef("paris", "b")])
    bench.offer(*ALL, a=2, b=1)
    assert (bench.means("a"), bench.means("b")) == (2, 1)
    assert bench.in_memory() == [1, 2]


def test_a_label_never_means_a_version_that_was_deleted_while_it_loaded(bench: Bench) -> None:
    bench.offer(version(2), stable=1)
    bench.arrive(version(1))
    assert bench.means("stable") is None
