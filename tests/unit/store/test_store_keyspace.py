"""Where a store is cut, so that several listings share it."""

from __future__ import annotations

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from hotset.store.keyspace import LEAST_PAGES, KeyRange, cuts_behind, known_ranges

KEYS = st.text(st.sampled_from("ab/1\uffff\U0001f600"), min_size=1, max_size=6)


def edges(ranges: list[KeyRange]) -> list[tuple[str, str | None]]:
    return [(it.after, it.until) for it in ranges]


def test_a_store_of_few_pages_is_not_cut() -> None:
    assert edges(known_ranges([], most=8)) == [("", None)]
    assert edges(known_ranges(["a/1"] * (2 * LEAST_PAGES - 1), most=8)) == [("", None)]


def test_a_large_store_is_cut_between_folders() -> None:
    pages = [f"city-{number:02}/1/model" for number in range(32)]
    assert edges(known_ranges(pages, most=8)) == [
        ("", "city-070"),
        ("city-070", "city-150"),
        ("city-150", "city-230"),
        ("city-230", None),
    ]
    assert len(known_ranges(pages, most=2)) == 2


def test_a_store_of_one_folder_is_cut_below_it() -> None:
    pages = [f"prod/city-{number:02}/1/model" for number in range(16)]
    assert edges(known_ranges(pages, most=8)) == [("", "prod/city-070"), ("prod/city-070", None)]


@settings(deadline=None)
@given(st.lists(KEYS, unique=True, min_size=1, max_size=40), st.integers(1, 8))
def test_every_key_is_in_one_range(keys: list[str], most: int) -> None:
    ranges = known_ranges(sorted(keys), most=most)
    for key in keys:
        assert sum(it.after < key and (it.until is None or key <= it.until) for it in ranges) == 1


def test_a_store_is_cut_behind_each_beginning_of_the_last_key() -> None:
    assert [*cuts_behind("ab1", None)] == ["b", "ac", "ab2"]
    assert [*cuts_behind("ab1", "b")] == ["ac", "ab2"]
    assert [*cuts_behind("city-1/x", "city.")][:2] == ["city-2", "city-10"]


@settings(deadline=None)
@given(KEYS, st.none() | KEYS)
def test_cuts_lie_between_the_key_and_the_end_and_descend(key: str, until: str | None) -> None:
    cuts = [*islice(cuts_behind(key, until), 10)]
    assert cuts == sorted(set(cuts), reverse=True)
    assert all(cut > key and (until is None or cut < until) for cut in cuts)
