"""Events are frozen, and reach every subscriber at once and in order."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from hotset import events
from hotset.events import Cause, Event, EventBus, LatestMoved, TierName

MOVED = LatestMoved("paris", 2, 1)


def test_subscribers_are_called_at_once_in_the_order_in_which_they_came():
    bus = EventBus()
    seen: list[tuple[str, Event]] = []
    bus.subscribe(lambda event: seen.append(("logs", event)))
    bus.subscribe(lambda event: seen.append(("metrics", event)))
    bus.publish(MOVED)
    assert seen == [("logs", MOVED), ("metrics", MOVED)]


def test_without_subscribers_nothing_happens():
    EventBus().publish(MOVED)


def test_a_subscriber_hears_only_what_comes_after_it_subscribed():
    bus = EventBus()
    seen: list[Event] = []
    bus.publish(MOVED)
    bus.subscribe(seen.append)
    assert seen == []


@pytest.mark.parametrize("record", get_args(Event))
def test_every_event_is_a_frozen_record_without_a_dictionary(record: type):
    assert dataclasses.is_dataclass(record)
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(record)


def test_every_record_of_the_module_is_an_event():
    records = {value for value in vars(events).values() if dataclasses.is_dataclass(value)}
    assert records == set(get_args(Event))


def test_an_event_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MOVED.version = 3  # type: ignore[misc]


@pytest.mark.parametrize("word", [*Cause, *TierName])
def test_causes_and_tiers_are_stable_text(word: Cause | TierName):
    assert word.value == word.name.lower()


def test_a_subscriber_for_some_types_hears_of_no_others():
    bus = EventBus()
    seen: list[Event] = []
    bus.publish(MOVED)
    bus.subscribe(seen.append, events.SyncFailed)
    failed = events.SyncFailed("away", 1, 2.0)
    bus.publish(MOVED)
    bus.publish(failed)
    assert seen == [failed]
