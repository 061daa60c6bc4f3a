"""Weights and capacities: sums and limits in every part, and of every device."""

from __future__ import annotations

import pytest

from hotset.tiers.books import NOTHING, Capacity, Weight, larger, on_device, smaller


def of(bytes_: int, *device_bytes: int) -> Weight:
    return Weight(1, bytes_, device_bytes)


def test_weights_add_and_subtract_in_every_part():
    assert of(10, 3).plus(Weight(2, 5, (1,))) == Weight(3, 15, (4,))
    assert Weight(3, 15, (4,)).minus(of(10, 3)) == Weight(2, 5, (1,))
    assert of(2, 3).plus(NOTHING) == of(2, 3)
    assert of(1, 3).plus(of(1, 0, 4)) == Weight(2, 2, (3, 4))
    assert of(1, 3).plus(of(1)) == of(1).plus(of(1, 3)) == Weight(2, 2, (3,))


def test_nothing_of_a_device_is_the_same_however_it_came_about():
    assert of(10, 3, 4).minus(of(0, 0, 4)) == Weight(0, 10, (3,))
    assert of(10, 0, 4).minus(of(10, 0, 4)) == NOTHING
    assert of(0).minus(of(0, 4)) == Weight(0, 0, (-4,))
    assert larger(of(1, 3), of(2, 1, 5)) == of(2, 3, 5)
    assert smaller(of(1, 3), of(2, 1, 5)) == of(1, 1)
    assert on_device(1, 7) == (0, 7)
    assert on_device(1, 0) == ()


@pytest.mark.parametrize(
    ("capacity", "weight", "fits"),
    [
        (Capacity(), Weight(10**9, 10**18, (10**18,)), True),
        (Capacity(models=2), Weight(2, 10**18), True),
        (Capacity(models=2), Weight(3, 0), False),
        (Capacity(bytes=5), of(5, 9), True),
        (Capacity(bytes=5), of(6), False),
        (Capacity(device_bytes=(5,)), of(9, 6), False),
        (Capacity(device_bytes=(5,)), of(9, 5, 6), True),
        (Capacity(device_bytes=(None, 5)), of(9, 6, 5), True),
        (Capacity(device_bytes=(5, 5)), of(9, 0, 6), False),
        (Capacity(0, 0, (0,)), NOTHING, True),
    ],
)
def test_a_weight_fits_when_every_part_fits(capacity: Capacity, weight: Weight, fits: bool):
    assert capacity.holds(weight) is fits


def test_only_what_takes_of_a_part_that_is_over_eases_it():
    capacity = Capacity(models=2, bytes=10, device_bytes=(None, 5))
    assert capacity.is_eased(Weight(3, 0), Weight(1, 0))
    assert not capacity.is_eased(Weight(2, 11), Weight(1, 0)), "a place is not what is short"
    assert capacity.is_eased(Weight(2, 11), Weight(1, 1))
    assert capacity.is_eased(Weight(1, 0, (9, 6)), of(0, 0, 1))
    assert not capacity.is_eased(Weight(1, 0, (9, 6)), of(9, 9)), "the first device has no limit"


def test_the_first_part_that_is_more_than_all_there_is_is_told_with_both_figures():
    capacity = Capacity(bytes=10, device_bytes=(None, 5))
    assert capacity.excess(of(10, 99, 5)) is None
    assert capacity.excess(of(11, 0, 6)) == ("bytes", 11, 10)
    assert capacity.excess(of(1, 0, 6)) == ("bytes of device 1", 6, 5)
