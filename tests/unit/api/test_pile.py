"""What bodies take of the server's own memory, all together."""

from __future__ import annotations

import threading

import pytest

from hotset.api.pile import Pile
from hotset.errors import OverloadedError


def test_a_portion_goes_from_the_pile_when_nobody_refers_to_it() -> None:
    pile = Pile(100)
    portion = pile.portion()
    portion.grow(60)
    portion.grow(40)
    assert pile.bytes == 100
    del portion
    assert pile.bytes == 0


def test_past_the_bound_it_is_refused_and_what_was_there_stays() -> None:
    pile = Pile(100)
    first, second = pile.portion(), pile.portion()
    first.grow(70)
    with pytest.raises(OverloadedError, match=r"70 of 100 bytes are taken \(max_bodies_size\)") as refused:
        second.grow(31)
    assert refused.value.retry_after_s
    assert pile.bytes == 70
    second.grow(30)
    first.clear()
    first.clear()
    assert pile.bytes == 30


def test_what_other_threads_give_back_counts() -> None:
    pile = Pile(100)
    portions = [pile.portion() for _ in range(100)]
    for portion in portions:
        portion.grow(1)
    del portion
    threads = [threading.Thread(target=portions.pop) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pile.bytes == 0
