"""Who goes when a tier is short of room, with copies: the cases, bare."""

from __future__ import annotations

from hotset.tiers.books import Capacity, Entry, Weight
from hotset.tiers.victims import choose

FOUR = Capacity(bytes=4)


def entry(
    name: str, bytes_: int = 1, *, holds: int = 0, device_bytes: tuple[int, ...] = ()
) -> Entry[str, None]:
    it: Entry[str, None] = Entry(name, None, Weight(1, bytes_, device_bytes))
    it.holds = holds
    return it


def chosen(
    target: int, *, copies: tuple[Entry[str, None], ...] = (), entries: tuple[Entry[str, None], ...] = ()
) -> tuple[list[str], bool]:
    victims, fits = choose(FOUR, Weight(bytes=target), copies=copies, entries=iter(entries))
    return [victim.key for victim in victims], fits


def test_nobody_goes_while_it_fits() -> None:
    assert chosen(4, copies=(entry("copy"),), entries=(entry("a"),)) == ([], True)


def test_entries_go_in_order_until_it_fits() -> None:
    assert chosen(6, entries=(entry("a"), entry("b"), entry("c"))) == (["a", "b"], True)


def test_copies_go_first() -> None:
    assert chosen(5, copies=(entry("copy"),), entries=(entry("a"),)) == (["copy"], True)
    assert chosen(6, copies=(entry("copy"),), entries=(entry("a"), entry("b"))) == (["copy", "a"], True)


def test_no_more_copies_go_than_are_needed() -> None:
    assert chosen(5, copies=(entry("one"), entry("two"))) == (["one"], True)


def test_an_idle_copy_goes_before_one_in_use() -> None:
    assert chosen(5, copies=(entry("used", holds=1), entry("idle"))) == (["idle"], True)


def test_a_copy_in_use_goes_with_the_entry_whose_room_is_there_now() -> None:
    """A load does not wait for the predictions of another model to end where something lies idle."""
    assert chosen(5, copies=(entry("used", holds=1),), entries=(entry("a"), entry("b"))) == (
        ["used", "a"],
        True,
    )


def test_a_copy_in_use_is_waited_for_where_nothing_lies_idle() -> None:
    assert chosen(5, copies=(entry("used", holds=1),)) == (["used"], True)
    assert chosen(6, copies=(entry("used", holds=1),), entries=(entry("a"),)) == (["used", "a"], True)


def test_it_is_said_that_it_is_not_enough() -> None:
    assert chosen(7, copies=(entry("used", holds=1),), entries=(entry("a"),)) == (["used", "a"], False)


def test_who_takes_nothing_of_what_is_short_stays() -> None:
    capacity = Capacity(bytes=10, device_bytes=(1,))
    on_host, on_device = entry("host", 5), entry("device", 1, device_bytes=(1,))
    victims, _ = choose(capacity, Weight(3, 8, (2,)), copies=(on_host,), entries=iter((on_device,)))
    assert victims == [on_device]
