from __future__ import annotations

import pytest

from hotset.residency.state import TRANSITIONS, Facts, Phase, State, state_of


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (Facts(), State.ON_STORE),
        (Facts(on_disk=True), State.ON_DISK),
        (Facts(phase=Phase.FETCHING), State.FETCHING),
        (Facts(on_disk=True, phase=Phase.WAITING_FOR_ROOM), State.LOADING),
        (Facts(on_disk=True, phase=Phase.LOADING), State.LOADING),
        (Facts(on_disk=True, in_memory=True), State.LOADED),
        (Facts(on_disk=True, leaving_memory=True), State.UNLOADING),
        (Facts(on_disk=True, failed=True), State.FAILED),
        (Facts(failed=True), State.FAILED),
    ],
)
def test_each_state_has_its_facts(facts: Facts, state: State) -> None:
    assert state_of(facts) is state


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (Facts(in_memory=True, phase=Phase.FETCHING, failed=True, leaving_memory=True), State.LOADED),
        (Facts(phase=Phase.FETCHING, leaving_memory=True, failed=True), State.FETCHING),
        (Facts(on_disk=True, leaving_memory=True, failed=True), State.UNLOADING),
    ],
)
def test_what_serves_counts_before_what_happens_beside_it(facts: Facts, state: State) -> None:
    assert state_of(facts) is state


def test_every_state_can_be_entered_and_left() -> None:
    assert TRANSITIONS.keys() == set(State)
    assert all(TRANSITIONS.values())
    assert set().union(*TRANSITIONS.values()) == set(State)


def test_nothing_is_loaded_without_loading() -> None:
    assert [state for state, next_ones in TRANSITIONS.items() if State.LOADED in next_ones] == [State.LOADING]


def test_a_loaded_version_leaves_by_being_unloaded() -> None:
    assert TRANSITIONS[State.LOADED] == {State.UNLOADING}
