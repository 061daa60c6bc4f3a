"""Which versions were light, and where."""

from __future__ import annotations

from hotset.keys import ModelKey
from hotset.workers.light_places import MOST_NOT_LIGHT, SLIGHT_BYTES, LightPlaces

A, B, C = (ModelKey(name, 1) for name in "abc")
LARGE = SLIGHT_BYTES + 1


def places(*loads: tuple[ModelKey, int], most: int = 100) -> LightPlaces:
    light = LightPlaces(most=most)
    for key, worker in loads:
        light.note(key, worker, is_light=True, expected_bytes=LARGE)
    return light


def test_what_was_light_is_known_where_it_was() -> None:
    light = places((A, 1), (A, 2), (A, 1), (B, 2))
    assert light.known == {A: {1, 2}, B: {2}}


def test_what_was_not_light_the_last_time_is_not_wherever_it_was() -> None:
    light = places((A, 1), (B, 1))
    light.note(A, 2, is_light=False, expected_bytes=LARGE)
    light.forget(B)
    light.forget(C)
    assert light.known == {}


def test_the_next_worker_in_the_place_of_a_dead_one_has_loaded_nothing() -> None:
    light = places((A, 1), (A, 2), (B, 1))
    light.forget_worker(1)
    assert light.known == {A: {2}}


def test_no_more_than_so_many_are_remembered() -> None:
    light = places((A, 1), (B, 1), (A, 2), (C, 1), most=2)
    assert light.known == {C: {1}}


def test_small_models_are_presumed_light_until_one_after_the_other_is_not() -> None:
    light = LightPlaces()
    assert light.is_presumed(A, SLIGHT_BYTES)
    assert not light.is_presumed(A, LARGE)
    for number in range(MOST_NOT_LIGHT):
        assert light.is_presumed(A, SLIGHT_BYTES), number
        light.note(ModelKey("slow", number), 1, is_light=False, expected_bytes=SLIGHT_BYTES)
    assert not light.is_presumed(A, SLIGHT_BYTES)
    light.note(B, 1, is_light=True, expected_bytes=SLIGHT_BYTES)
    assert light.is_presumed(A, SLIGHT_BYTES)
    assert not light.is_presumed(ModelKey("slow", 0), SLIGHT_BYTES), "this one is known"


def test_a_large_one_says_nothing_of_small_ones() -> None:
    light = LightPlaces()
    for number in range(MOST_NOT_LIGHT):
        light.note(ModelKey("large", number), 1, is_light=False, expected_bytes=LARGE)
    assert light.is_presumed(A, SLIGHT_BYTES)


def test_one_that_was_not_light_may_become_so() -> None:
    light = LightPlaces()
    light.note(A, 1, is_light=False, expected_bytes=1)
    assert not light.is_presumed(A, 1)
    light.note(A, 1, is_light=True, expected_bytes=1)
    assert light.is_presumed(A, 1)


def test_of_those_that_were_not_light_no_more_than_so_many_are_remembered() -> None:
    light = LightPlaces(most=2)
    for key in (A, B, C):
        light.note(key, 1, is_light=False, expected_bytes=1)
    assert [light.is_presumed(key, 1) for key in (A, B, C)] == [True, True, False]


def test_where_nothing_is_presumed_a_light_one_has_to_come_first() -> None:
    light = LightPlaces(presumes=False)
    assert not light.is_presumed(A, 1)
    light.note(B, 1, is_light=True, expected_bytes=1)
    assert light.is_presumed(A, 1)
