"""The comparison of counts with their budget: what is a complaint and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from regression import budget
from regression.budget import LARGE, PYTHON, SMALL, TO_BARE, Measured, complaints, growth


def cost(**changes: float) -> dict[str, float]:
    return dict.fromkeys(LARGE, 1000.0) | dict.fromkeys(SMALL, 2.0) | {TO_BARE: 2.5} | changes


def test_small_differences_of_large_counts_are_no_complaint() -> None:
    assert not list(complaints("native", cost(instructions=1019, child=900), cost()))


@pytest.mark.parametrize("count", [*LARGE, TO_BARE])
def test_a_large_count_beyond_its_tolerance_is(count: str) -> None:
    (complaint,) = complaints("native", cost(**{count: cost()[count] * 1.03}), cost())
    assert complaint.endswith(": +3%")


@pytest.mark.parametrize("count", SMALL)
def test_one_more_of_what_is_counted_by_hand_is(count: str) -> None:
    (complaint,) = complaints("native", cost(**{count: 3.0}), cost())
    assert "costs 3 " in complaint
    assert "the budget is 2:" in complaint


def test_a_miss_is_called_one() -> None:
    (complaint,) = complaints("miss", cost(tasks=4.0), cost(tasks=3.0))
    assert complaint == "a miss costs 4 tasks, the budget is 3: +33%"


def test_fewer_of_what_is_counted_by_hand_is_not() -> None:
    assert not list(complaints("native", cost(sends=1.0), cost()))


def test_a_gain_is_to_be_recorded() -> None:
    (complaint,) = complaints("oip", cost(child=800.0), cost())
    assert "should be recorded" in complaint


def test_the_modules_that_changed_most_come_first() -> None:
    assert growth({"a": 5, "b": 9, "d": 7}, {"a": 5, "b": 10, "c": 3}) == [
        "    +7  d",
        "    -3  c",
        "    -1  b",
    ]


def test_renewing_keeps_what_other_versions_of_python_recorded() -> None:
    door: dict[str, Any] = {**cost(), "more": 1}
    found = Measured(
        {"1000": {"native": door}, "bare": {"instructions": 400}, "miss": cost(tasks=3)},
        {"1000": {"native": {"a": 5}}, "miss": {"b": 6}},
    )
    new = budget.renewed({"2.7": "old"}, found, 1000)
    assert new["2.7"] == "old"
    assert new["to bare"] == {"native": {TO_BARE: 2.5}}
    assert new[PYTHON]["costs"]["miss"]["tasks"] == 3.0
    assert "more" not in new[PYTHON]["costs"]["native"]
    assert new[PYTHON]["modules"] == {"native": {"a": 5}, "miss": {"b": 6}}
