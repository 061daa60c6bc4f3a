"""Counts of predictions by version, whatever their protocol."""

from __future__ import annotations

from hotset.errors import ErrorKind
from hotset.keys import ModelKey
from hotset.request_counts import RequestCounts, Tallies
from hotset.status import VersionCounts

PARIS, ROME = ModelKey("paris", 3), ModelKey("rome", 1)


def test_every_protocol_adds_to_the_same_counts() -> None:
    tallies = Tallies()
    one, other = RequestCounts(tallies), RequestCounts(tallies)
    one.ok(0.5, "memory", PARIS)
    other.ok(0.25, "store", PARIS)
    tallies.waited(PARIS, 0.125)
    other.failed(ErrorKind.PREDICT_FAILED, 2.0, PARIS)
    other.failed(ErrorKind.MODEL_NOT_FOUND, 4.0)
    assert tallies.of(PARIS) == VersionCounts(2, 0.75, 0.125, 1, 2.0)
    assert list(tallies) == [PARIS]


def test_to_look_makes_no_tally() -> None:
    tallies = Tallies()
    assert tallies.of(ROME) == VersionCounts()
    assert not tallies


def test_they_are_bounded_and_what_is_used_keeps_its_counts() -> None:
    tallies = Tallies(most=3)
    counts = RequestCounts(tallies)
    for number in range(1000):
        counts.ok(1.0, "memory", PARIS)
        counts.ok(1.0, "memory", ModelKey("city", number))
        assert len(tallies) <= 3
    assert tallies.of(PARIS).answered == 1000
    assert tallies.of(ModelKey("city", 0)) == VersionCounts()
