"""Who is blamed for the death of a worker, and when that is too often."""

from __future__ import annotations

from hotset.keys import Fingerprint, ModelKey
from hotset.residency.quarantine import QUIET_S, Quarantine

BAD, GOOD, OTHER = ModelKey("bad", 1), ModelKey("good", 1), ModelKey("other", 1)
FILES, NEW_FILES = Fingerprint("a" * 32), Fingerprint("b" * 32)


def died(book: Quarantine, *keys: ModelKey, at: float = 0.0, files: Fingerprint = FILES) -> ModelKey | None:
    return book.note(dict.fromkeys(keys, files), at)


def test_three_deaths_with_nobody_else_near() -> None:
    book = Quarantine()
    assert [died(book, BAD) for _ in range(3)] == [None, None, BAD]


def test_in_company_it_takes_more_and_those_beside_it_are_cleared() -> None:
    book = Quarantine()
    assert [died(book, BAD, GOOD), died(book, BAD, OTHER), died(book, GOOD, BAD)] == [None, None, None]
    assert died(book, BAD) == BAD
    assert died(book, GOOD) is None
    assert died(book, GOOD) is None


def test_whoever_was_always_there_goes_first() -> None:
    book = Quarantine()
    died(book, BAD)
    died(book, BAD)
    assert died(book, GOOD, BAD) == BAD


def test_after_it_was_tried_again_one_more_is_enough_and_counts_up() -> None:
    book = Quarantine()
    for _ in range(3):
        died(book, BAD)
    assert book.times(BAD) == 1
    assert died(book, BAD, at=30.0) == BAD
    assert book.times(BAD) == 2


def test_after_quiet_it_begins_anew() -> None:
    book = Quarantine()
    died(book, BAD)
    died(book, BAD, at=QUIET_S)
    assert died(book, BAD, at=2 * QUIET_S + 1) is None
    assert book.times(BAD) == 0


def test_new_files_begin_anew() -> None:
    book = Quarantine()
    died(book, BAD)
    died(book, BAD)
    assert died(book, BAD, files=NEW_FILES) is None
    died(book, BAD, files=NEW_FILES)
    book.forget(BAD)
    assert died(book, BAD, files=NEW_FILES) is None
    assert len(book) == 1


def test_blameless_is_who_was_not_there_or_not_alone() -> None:
    book = Quarantine()
    assert not book.is_blameless(GOOD)  # nobody died yet
    died(book, BAD)
    assert book.is_blameless(GOOD)
    assert not book.is_blameless(BAD)
    died(book, GOOD, BAD)
    assert book.is_blameless(GOOD)
    assert not book.is_blameless(BAD)


def test_where_nobody_knows_what_a_worker_was_at_nobody_is_blameless() -> None:
    book = Quarantine()
    died(book, BAD)
    assert died(book) is None
    assert not book.is_blameless(GOOD)
