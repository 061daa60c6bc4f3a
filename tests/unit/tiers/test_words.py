"""What words mean in memory, and whose time counts for whom: over a plain dictionary, without room and leases."""

from __future__ import annotations

import pytest

from hotset.keys import ModelKey, ModelRef
from hotset.tiers.books import Entry, Weight
from hotset.tiers.eviction import LRU
from hotset.tiers.words import Words

PARIS1, PARIS2, ROME1, OSLO1 = (
    ModelKey("paris", 1),
    ModelKey("paris", 2),
    ModelKey("rome", 1),
    ModelKey("oslo", 1),
)
PARIS = ModelRef("paris")
STABLE = ModelRef("paris", "stable")


class Memory:
    """What is in memory, and the words for it."""

    def __init__(self) -> None:
        self.entries: dict[ModelKey, Entry[ModelKey, str]] = {}
        self.lru: LRU[ModelRef] = LRU()
        self.words: Words[str] = Words(self.entries, self.lru)

    def come(self, *keys: ModelKey, latest: bool = False) -> None:
        for key in keys:
            self.entries[key] = Entry(key, str(key), Weight())
            self.words._came(key)
            if latest:
                self.words.point_latest(key)
        self.words.check_invariants()

    def go(self, key: ModelKey) -> None:
        del self.entries[key]
        self.words._left(key)
        self.words.check_invariants()

    def use(self, word: ModelRef | ModelKey, now_s: float) -> None:
        self.words.touch(ModelRef(*word), now_s)
        self.words.check_invariants()

    def order(self) -> list[ModelKey]:
        """Who would go, the first one first."""
        return list(self.words._keys_by_recency())

    def nothing_is_left(self) -> None:
        words = self.words
        for left in (words._versions, words._latest, words._labelled, words._unasked):
            assert not left
        assert not list(self.lru.victims())


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_a_word_means_nothing_before_its_version_is_there(memory: Memory) -> None:
    for word in (PARIS, STABLE, ModelRef("paris", 1)):
        assert memory.words.find(word) is None
    assert memory.words.entry(PARIS1) is None
    memory.come(PARIS1)
    assert memory.words.find(ModelRef("paris", 1)) is memory.words.entry(PARIS1) is memory.entries[PARIS1]
    assert memory.words.find(PARIS) is None, "the tier's owner says what is latest"


def test_the_versions_of_one_model_ascend(memory: Memory) -> None:
    memory.come(ModelKey("paris", 3), PARIS1, PARIS2, ROME1)
    assert [entry.key.version for entry in memory.words.entries_of("paris")] == [1, 2, 3]
    assert memory.words.entries_of("oslo") == ()
    assert memory.words.has_any_of("paris")
    assert not memory.words.has_any_of("oslo")
    assert memory.words.has_only(ROME1)
    assert not memory.words.has_only(PARIS1)


# Whose time counts for whom


def test_what_nobody_asked_for_goes_before_all_others(memory: Memory) -> None:
    memory.come(PARIS1, ROME1, OSLO1)
    memory.use(PARIS1, 1.0)
    assert memory.order() == [ROME1, OSLO1, PARIS1]
    assert memory.words.oldest_used_s() == float("-inf")


def test_the_oldest_time_is_that_of_who_would_go_first(memory: Memory) -> None:
    assert memory.words.oldest_used_s() is None
    memory.come(PARIS1, ROME1)
    memory.use(PARIS1, 3.0)
    memory.use(ROME1, 5.0)
    assert memory.words.oldest_used_s() == 3.0
    memory.use(PARIS1, 6.0)
    assert memory.words.oldest_used_s() == 5.0


def test_latest_and_the_number_are_two_words_and_the_younger_one_counts(memory: Memory) -> None:
    memory.come(PARIS2, latest=True)
    memory.come(ROME1)
    memory.use(PARIS2, 1.0)
    memory.use(ROME1, 2.0)
    assert memory.order() == [PARIS2, ROME1]
    memory.use(PARIS, 3.0)
    assert memory.order() == [ROME1, PARIS2]
    assert memory.words.entry_used_s(PARIS2) == 3.0
    memory.use(ROME1, 4.0)
    memory.use(PARIS2, 5.0)
    assert memory.order() == [ROME1, PARIS2]
    assert memory.words.last_used_s(PARIS) == 3.0
    assert memory.words.last_used_s(ModelRef("paris", 2)) == 5.0


def test_when_latest_moves_on_the_old_version_keeps_what_was_asked_by_number(memory: Memory) -> None:
    memory.come(PARIS1, latest=True)
    memory.come(ROME1)
    memory.use(PARIS1, 1.0)
    memory.use(ROME1, 2.0)
    memory.use(PARIS, 3.0)
    memory.come(PARIS2)
    assert memory.words.serving_latest("paris") == PARIS1
    assert memory.words.point_latest(PARIS2) == PARIS1
    assert memory.words.entry_used_s(PARIS1) == 1.0
    assert memory.words.entry_used_s(PARIS2) == 3.0
    assert memory.order() == [PARIS1, ROME1, PARIS2]


def test_when_latest_moves_on_a_version_never_asked_by_number_goes_first(memory: Memory) -> None:
    memory.come(ROME1)
    memory.use(ROME1, 1.0)
    memory.come(PARIS1, latest=True)
    memory.use(PARIS, 2.0)
    memory.come(PARIS2, latest=True)
    assert memory.words.entry_used_s(PARIS1) is None
    assert memory.order() == [PARIS1, ROME1, PARIS2]


def test_latest_moves_back(memory: Memory) -> None:
    memory.come(PARIS1, latest=True)
    memory.use(PARIS, 1.0)
    memory.come(PARIS2, latest=True)
    assert memory.words.point_latest(PARIS1) == PARIS2
    assert memory.words.entry_used_s(PARIS1) == 1.0
    assert memory.order() == [PARIS2, PARIS1]


def test_latest_cannot_mean_what_is_not_in_memory(memory: Memory) -> None:
    with pytest.raises(RuntimeError, match="latest cannot mean what is not in memory: paris@1"):
        memory.words.point_latest(PARIS1)


def test_a_version_that_two_words_of_the_same_time_mean_is_named_once(memory: Memory) -> None:
    memory.come(PARIS1, latest=True)
    memory.come(ROME1, OSLO1)
    for word in (ModelRef("paris", 1), PARIS, ModelRef("rome", 1), ModelRef("oslo", 1)):
        memory.use(word, 1.0)
    assert memory.order() == [PARIS1, ROME1, OSLO1]


def test_a_word_used_while_its_version_is_loaded_counts_at_once(memory: Memory) -> None:
    memory.come(ROME1)
    memory.use(ROME1, 1.0)
    memory.use(PARIS1, 2.0)
    memory.come(PARIS1)
    assert memory.order() == [ROME1, PARIS1]


def test_touching_what_nobody_asked_for_makes_it_asked_for(memory: Memory) -> None:
    memory.come(PARIS1, latest=True)
    memory.come(ROME1)
    assert memory.order() == [PARIS1, ROME1]
    memory.use(PARIS, 1.0)
    assert memory.order() == [ROME1, PARIS1]


# Labels


def test_a_label_is_a_word_of_its_own(memory: Memory) -> None:
    memory.come(PARIS1, ROME1)
    assert memory.words.find(STABLE) is None
    assert memory.words.point(STABLE, PARIS1) is None
    assert memory.words.serving(STABLE) == PARIS1
    assert memory.words.labels_of("paris") == {"stable": PARIS1}
    memory.use(PARIS1, 1.0)
    memory.use(ROME1, 2.0)
    assert memory.order() == [PARIS1, ROME1]
    memory.use(STABLE, 3.0)
    assert memory.order() == [ROME1, PARIS1]
    assert memory.words.entry_used_s(PARIS1) == 3.0
    memory.come(PARIS2)
    assert memory.words.point(STABLE, PARIS2) == PARIS1
    assert memory.words.entry_used_s(PARIS1) == 1.0, "what was asked of it by number"
    assert memory.words.entry_used_s(PARIS2) == 3.0, "what was asked of the label"
    memory.words.check_invariants()


def test_a_label_goes_with_the_version_that_it_means(memory: Memory) -> None:
    memory.come(PARIS1)
    memory.words.point(STABLE, PARIS1)
    memory.use(STABLE, 1.0)
    memory.go(PARIS1)
    assert memory.words.find(STABLE) is None
    assert memory.words.last_used_s(STABLE) is None
    assert not memory.words.labels_of("paris")
    with pytest.raises(RuntimeError, match="not in memory"):
        memory.words.point(STABLE, PARIS1)


def test_a_label_that_is_forgotten_leaves_its_version_unasked(memory: Memory) -> None:
    memory.come(PARIS1, ROME1)
    memory.words.point(STABLE, PARIS1)
    memory.use(ROME1, 1.0)
    memory.use(STABLE, 2.0)
    memory.words.forget_label(STABLE)
    memory.words.check_invariants()
    assert memory.order() == [PARIS1, ROME1]


def test_a_label_whose_version_is_being_loaded_has_a_time_until_that_ends(memory: Memory) -> None:
    memory.use(STABLE, 1.0)
    assert memory.words.find(STABLE) is None
    assert memory.words.last_used_s(STABLE) == 1.0
    memory.words.forget_words(PARIS1)
    assert memory.words.last_used_s(STABLE) is None
    memory.nothing_is_left()


# Coming and going


def test_the_version_that_latest_means_goes_and_leaves_its_time_to_the_next(memory: Memory) -> None:
    memory.come(PARIS1)
    memory.come(PARIS2, latest=True)
    memory.use(PARIS, 5.0)
    memory.go(PARIS2)
    assert memory.words.serving_latest("paris") is None
    assert memory.words.find(PARIS) is None
    memory.words.point_latest(PARIS1)
    assert memory.words.entry_used_s(PARIS1) == 5.0
    memory.words.check_invariants()


def test_latest_is_forgotten_with_the_last_version(memory: Memory) -> None:
    memory.come(PARIS1, latest=True)
    memory.come(PARIS2)
    memory.use(PARIS, 1.0)
    memory.go(PARIS1)
    assert memory.words.last_used_s(PARIS) == 1.0
    memory.go(PARIS2)
    assert memory.words.last_used_s(PARIS) is None
    memory.nothing_is_left()


def test_what_is_gone_and_asked_for_again_keeps_its_new_time_when_it_is_told_gone_once_more(
    memory: Memory,
) -> None:
    """As an entry that was evicted under a lease is: once at once, and once when it is handed out."""
    memory.come(PARIS1)
    memory.use(PARIS1, 1.0)
    memory.go(PARIS1)
    memory.use(PARIS1, 7.0)
    memory.words._left(PARIS1)
    assert memory.words.last_used_s(ModelRef("paris", 1)) == 7.0


def test_another_entry_of_a_version_keeps_its_words(memory: Memory) -> None:
    memory.come(PARIS1, latest=True)
    memory.use(PARIS, 4.0)
    memory.come(PARIS1)
    assert memory.words.find(PARIS) is memory.entries[PARIS1]
    assert memory.words.entry_used_s(PARIS1) == 4.0
    assert memory.words.serving_latest("paris") == PARIS1


def test_a_load_that_failed_leaves_no_word_behind(memory: Memory) -> None:
    for word in (PARIS, STABLE, ModelRef("paris", 1)):
        memory.words.touch(word, 1.0)
        memory.words.forget_unused(word)
    memory.nothing_is_left()


def test_a_word_that_means_something_is_not_forgotten(memory: Memory) -> None:
    memory.come(PARIS1, latest=True)
    memory.use(PARIS1, 1.0)
    memory.use(PARIS, 2.0)
    memory.words.forget_unused(ModelRef("paris", 1))
    memory.words.forget_words(PARIS1)
    assert memory.words.by_recency() == [(ModelRef("paris", 1), 1.0), (PARIS, 2.0)]


# After a restart


def test_words_are_restored_with_their_times(memory: Memory) -> None:
    before = Memory()
    before.come(PARIS1, PARIS2, ROME1)
    before.words.point_latest(PARIS2)
    for word, now_s in ((ROME1, 1.0), (PARIS1, 2.0), (PARIS, 3.0)):
        before.use(word, now_s)
    words = before.words.by_recency()
    assert words == [(ModelRef("rome", 1), 1.0), (ModelRef("paris", 1), 2.0), (PARIS, 3.0)]
    for ref, used_s in words:
        memory.words.admit(ref, used_s)
    memory.come(PARIS2, PARIS1, ROME1)
    memory.words.point_latest(PARIS2)
    assert memory.order() == [ROME1, PARIS1, PARIS2]
    assert memory.words.by_recency() == words


def test_words_that_mean_nothing_now_are_not_kept_for_a_restart(memory: Memory) -> None:
    memory.use(PARIS, 1.0)
    assert memory.words.by_recency() == []


def test_a_mark_that_the_entries_do_not_bear_out_is_noticed(memory: Memory) -> None:
    """``check_invariants`` is what all the other tests rely on, so it must be able to fail."""
    memory.come(PARIS1)
    del memory.entries[PARIS1]
    with pytest.raises(AssertionError):
        memory.words.check_invariants()
