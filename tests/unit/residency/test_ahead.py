from __future__ import annotations

from dataclasses import replace

import pytest

from hotset.catalog import VersionEntry
from hotset.keys import Fingerprint, ModelKey
from hotset.residency.ahead import Step, next_step

OLD = VersionEntry(ModelKey("paris", 1), Fingerprint("f1"), "paris/1/", 10, 1, 0.0)
NEW = VersionEntry(ModelKey("paris", 2), Fingerprint("f2"), "paris/2/", 10, 1, 0.0)
CHANGED = replace(OLD, fingerprint=Fingerprint("f3"))


@pytest.mark.parametrize(
    ("wanted", "used_s", "oldest_used_s", "has_room", "step"),
    [
        (OLD, 5.0, 1.0, True, Step.NOTHING),
        (NEW, 5.0, 1.0, False, Step.LOAD),
        (CHANGED, 5.0, 1.0, False, Step.LOAD),
        (NEW, 1.0, 5.0, True, Step.LOAD),
        (NEW, 1.0, 5.0, False, Step.WAIT),
        (NEW, 5.0, 5.0, False, Step.WAIT),
        (NEW, None, 1.0, True, Step.WAIT),
        (NEW, 5.0, None, False, Step.LOAD),
    ],
)
def test_a_newer_version_is_loaded_ahead_if_there_is_room_or_it_is_not_the_coldest(
    wanted: VersionEntry, used_s: float | None, oldest_used_s: float | None, has_room: bool, step: Step
) -> None:
    assert (
        next_step(serving=OLD, wanted=wanted, used_s=used_s, oldest_used_s=oldest_used_s, has_room=has_room)
        is step
    )
