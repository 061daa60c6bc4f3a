"""What to do when the store has something newer than what is in memory. Pure; the manager acts."""

from __future__ import annotations

from enum import StrEnum

from hotset.catalog import VersionEntry


class Step(StrEnum):
    """The next step for a word (``latest`` or a number) that is answered from memory."""

    NOTHING = "nothing"
    LOAD = "load"
    WAIT = "wait"


def is_same(serving: VersionEntry, wanted: VersionEntry) -> bool:
    """Whether the store has nothing newer than what answers."""
    return wanted.fingerprint == serving.fingerprint and wanted.key == serving.key


def next_step(
    *,
    serving: VersionEntry,
    wanted: VersionEntry,
    used_s: float | None,
    oldest_used_s: float | None,
    has_room: bool,
) -> Step:
    """Whether to load ``wanted`` ahead while ``serving`` answers.

    It is loaded if there is room, or if the word was used after the entry that would have to go for it. Otherwise
    it waits until somebody asks: then the old one answers once more and the load starts.
    """
    if is_same(serving, wanted):
        return Step.NOTHING
    if used_s is None:
        return Step.WAIT
    if has_room or oldest_used_s is None or used_s > oldest_used_s:
        return Step.LOAD
    return Step.WAIT
