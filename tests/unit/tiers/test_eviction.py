"""LRU: the order in which members go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotset.tiers.eviction import LRU, Eviction


def lru_of(*members: tuple[str, float]) -> LRU[str]:
    lru: LRU[str] = LRU()
    for member, used_s in members:
        lru.admit(member, used_s)
    return lru


def test_it_is_an_eviction():
    eviction: Eviction[str] = LRU()
    assert list(eviction.victims()) == []


def test_the_least_recently_used_goes_first():
    lru = lru_of(("paris", 1.0), ("rome", 2.0), ("oslo", 3.0))
    lru.touch("paris", 4.0)
    assert list(lru.victims()) == ["rome", "oslo", "paris"]


def test_touching_an_unknown_member_admits_it():
    lru = lru_of(("paris", 1.0))
    lru.touch("rome", 2.0)
    assert "rome" in lru
    assert len(lru) == 2
    assert list(lru.victims()) == ["paris", "rome"]


def test_admitting_in_any_order_sorts_by_time():
    lru = lru_of(("oslo", 3.0), ("paris", 1.0), ("rome", 2.0))
    assert list(lru.victims()) == ["paris", "rome", "oslo"]


def test_admitting_again_moves_a_member_to_the_place_of_its_time():
    lru = lru_of(("paris", 1.0), ("rome", 2.0), ("oslo", 3.0))
    lru.admit("oslo", 1.5)
    assert list(lru.victims()) == ["paris", "oslo", "rome"]
    assert lru.last_used_s("oslo") == 1.5
    assert len(lru) == 3


def test_of_two_with_the_same_time_the_one_admitted_first_goes_first():
    assert list(lru_of(("paris", 1.0), ("rome", 1.0)).victims()) == ["paris", "rome"]


def test_removing_forgets_and_an_unknown_member_is_fine():
    lru = lru_of(("paris", 1.0))
    lru.remove("paris")
    lru.remove("paris")
    assert "paris" not in lru
    assert lru.last_used_s("paris") is None
    assert list(lru.victims()) == []


@given(
    st.lists(
        st.tuples(st.sampled_from(["admit", "touch", "remove"]), st.sampled_from("abcdef"), st.integers(0, 9))
    )
)
def test_it_agrees_with_sorting_by_time(calls: list[tuple[str, str, int]]):
    """``touch`` is for now, which never goes back; ``admit`` may be for any time."""
    lru: LRU[str] = LRU()
    times: dict[str, float] = {}
    now_s = 10.0
    for call, member, used_s in calls:
        if call == "admit":
            lru.admit(member, used_s)
            times[member] = used_s
        elif call == "touch":
            now_s += 1
            lru.touch(member, now_s)
            times[member] = now_s
        else:
            lru.remove(member)
            times.pop(member, None)
    order = list(lru.victims())
    assert sorted(order) == sorted(times)
    assert len(lru) == len(times)
    assert [times[member] for member in order] == sorted(times.values())
    assert {member: lru.last_used_s(member) for member in order} == times
