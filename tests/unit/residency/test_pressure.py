from __future__ import annotations

from pathlib import Path

import pytest

from hotset.keys import ModelKey
from hotset.residency.pressure import (
    CHILD_BYTES,
    DISK_SHARE,
    LEAST_SHARE,
    default_disk_bytes,
    memory_budget,
    to_relieve,
    to_shed,
)

GB = 1 << 30


@pytest.mark.parametrize("limit_bytes", [1 * GB, 2 * GB, 8 * GB, 64 * GB])
def test_the_parts_of_a_budget_add_up_to_the_limit(limit_bytes: int) -> None:
    budget = memory_budget(limit_bytes, children=2, high=0.9)
    parts = budget.margin + budget.gateway + budget.children + budget.predictions + budget.models
    assert parts == limit_bytes
    assert not budget.is_short
    assert 0.3 * limit_bytes < budget.models < 0.8 * limit_bytes


def test_a_full_tier_with_all_that_is_beside_it_is_below_the_high_watermark() -> None:
    budget = memory_budget(8 * GB, children=4, high=0.8)
    taken = budget.models + budget.gateway + budget.children + budget.predictions
    assert taken == pytest.approx(0.8 * 8 * GB)


def test_each_child_takes_its_own_base() -> None:
    one, four = (memory_budget(8 * GB, children=count, high=0.9) for count in (1, 4))
    assert one.models - four.models == 3 * CHILD_BYTES


def test_without_children_there_is_no_fork_server_and_its_frameworks_are_in_the_gateway() -> None:
    none, one = (memory_budget(8 * GB, children=count, high=0.9) for count in (0, 1))
    assert 0 < none.children < one.children


def test_where_too_little_is_left_models_have_a_part_all_the_same() -> None:
    budget = memory_budget(GB // 4, children=4, high=0.9)
    assert budget.models == round(GB // 4 * LEAST_SHARE)
    assert budget.is_short


def test_a_budget_says_what_it_is_spent_on() -> None:
    text = str(memory_budget(8 * GB, children=2, high=0.9))
    assert text.startswith("6GiB for models of 8GiB; ")


def test_what_is_on_disk_already_counts_as_free(tmp_path: Path) -> None:
    empty, used = default_disk_bytes(tmp_path, 0), default_disk_bytes(tmp_path, 10 << 30)
    assert abs(used - empty - DISK_SHARE * (10 << 30)) < 1 << 30


@pytest.mark.parametrize(("idle", "chosen"), [(0, 0), (1, 1), (2, 1), (3, 2), (10, 5)])
def test_the_older_half_goes_and_at_least_one(idle: int, chosen: int) -> None:
    keys = [ModelKey(f"m{number}", 1) for number in range(idle)]
    assert list(to_relieve(keys)) == keys[:chosen]


@pytest.mark.parametrize(
    ("wanted_bytes", "chosen"), [(-5, ""), (0, ""), (1, "a"), (10, "a"), (11, "ab"), (31, "abc"), (99, "abc")]
)
def test_the_oldest_go_until_there_is_enough(wanted_bytes: int, chosen: str) -> None:
    assert "".join(to_shed([("a", 10), ("b", 20), ("c", 30)], wanted_bytes)) == chosen
