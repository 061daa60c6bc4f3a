"""Which devices a replica has, and which worker has which: bare decisions."""

from __future__ import annotations

import pytest

from hotset.devices import CONTEXT_BYTES, Assignment, FoundDevice, assign, default_device_bytes, visible
from hotset.errors import ConfigError
from hotset.testing import FakeDriver

FOUR = FakeDriver(10, 20, 30, 40)


def ids(found: Assignment | None) -> list[str]:
    return [] if found is None else [device.id for device in found.devices]


@pytest.mark.parametrize(
    ("said", "sees"),
    [
        (None, ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]),
        ("2,0", ["GPU-2", "GPU-0"]),
        ("GPU-3, 1", ["GPU-3", "GPU-1"]),
        ("1,9,2", ["GPU-1"]),
        ("1,1", ["GPU-1"]),
        ("", []),
        ("-1", []),
        ("GPU-", []),
        ("MIG-GPU-1/7/0", []),
    ],
)
def test_what_cuda_would_show_is_what_there_is(said: str | None, sees: list[str]):
    assert [device.id for device in visible(FOUR, said)] == sees


def test_auto_takes_as_many_devices_as_there_are_processes():
    assert ids(assign(None, FOUR, said=None, processes=2)) == ["GPU-0", "GPU-1"]
    assert ids(assign(None, FOUR, said="3", processes=2)) == ["GPU-3"]
    assert assign(None, FakeDriver(), said=None, processes=2) is None


def test_devices_are_named_by_their_place_among_those_that_are_seen():
    assert ids(assign((1, 0), FOUR, said="3,2", processes=2)) == ["GPU-2", "GPU-3"]


def test_nothing_is_bound_where_nothing_is_wanted_or_there_is_no_process():
    assert assign((), FOUR, said=None, processes=2) is None
    assert assign(None, FOUR, said=None, processes=0) is None


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(
        ConfigError, match=r"found cuda:4, expected devices that are there; this process sees 4"
    ):
        assign((0, 4), FOUR, said=None, processes=2)
    with pytest.raises(ConfigError, match="this process sees none"):
        assign((0,), FakeDriver(), said=None, processes=1)


def test_workers_take_turns():
    two = Assignment((FoundDevice("a", 1, 1), FoundDevice("b", 1, 1)))
    assert [two.device_of(worker) for worker in range(1, 6)] == [0, 1, 0, 1, 0]
    assert (two.bound(2).place, two.bound(2).id) == (1, "b")


def test_capacity_is_the_limit_or_what_is_left_beside_the_processes():
    gib = 1 << 30
    two = Assignment((FoundDevice("a", 80 * gib, 40 * gib), FoundDevice("b", 80 * gib, 80 * gib)))
    assert two.capacities(7, workers=3) == (7, 7)
    assert two.capacities(None, workers=3) == (
        int((40 * gib - 2 * CONTEXT_BYTES) * 0.8),
        int((80 * gib - CONTEXT_BYTES) * 0.8),
    )
    assert default_device_bytes(FoundDevice("full", gib, 0), 1) == 0
