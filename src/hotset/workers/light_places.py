"""Which versions were light when they were loaded last, and in which workers: learned from loads, read by the pool.

The gateway's memory of what ``light.py`` finds out in each process. It chooses no worker.

What is small is presumed to be light before its first load. Else a store of small models would be spread over all workers
for good, if it fits into memory.
"""

from __future__ import annotations

from typing import Final

from hotset.keys import ModelKey

MOST_LIGHT: Final = 10_000

SLIGHT_BYTES: Final = 64 << 10
"""What weighs no more is taken to be light before its first load here, but where the last ones of this size were not."""

MOST_NOT_LIGHT: Final = 16
"""So many in a row: a process's first loads take longer than others."""

NOWHERE: Final[frozenset[int]] = frozenset()


class LightPlaces:
    """Owned by the event loop. Any ``note``, ``forget`` and ``forget_worker``, in any order."""

    def __init__(self, *, presumes: bool = True, most: int = MOST_LIGHT) -> None:
        """Without ``presumes``, nothing is light before it was loaded. ``most`` are remembered."""
        self._most = most
        self._not_light_in_a_row = 0 if presumes else MOST_NOT_LIGHT
        self._not_light: set[ModelKey] = set()
        """What is as small, and was not light."""
        self.known: dict[ModelKey, frozenset[int]] = {}
        """What was light, and the ids of the workers where it was. To be read alone."""

    def is_presumed(self, key: ModelKey, expected_bytes: int) -> bool:
        """Whether it may be light, as small as it is."""
        return (
            expected_bytes <= SLIGHT_BYTES
            and self._not_light_in_a_row < MOST_NOT_LIGHT
            and key not in self._not_light
        )

    def note(self, key: ModelKey, worker: int, *, is_light: bool, expected_bytes: int) -> None:
        """It was loaded in the worker of that id, and disturbed nobody, or did."""
        if is_light:
            self._add(key, worker)
        else:
            self.forget(key)
        if expected_bytes <= SLIGHT_BYTES:
            self._note_slight(key, is_light=is_light)

    def _add(self, key: ModelKey, worker: int) -> None:
        places = self.known.get(key, NOWHERE)
        if worker not in places:
            if not places and len(self.known) >= self._most:
                self.known.clear()
            self.known[key] = places | {worker}

    def _note_slight(self, key: ModelKey, *, is_light: bool) -> None:
        self._not_light_in_a_row = 0 if is_light else self._not_light_in_a_row + 1
        if is_light:
            self._not_light.discard(key)
            return
        if len(self._not_light) >= self._most:
            self._not_light.clear()
        self._not_light.add(key)

    def forget(self, key: ModelKey) -> None:
        """It is light no longer. An unknown one is fine."""
        self.known.pop(key, None)

    def forget_worker(self, worker: int) -> None:
        """It has died, and the next one of that id has loaded nothing yet."""
        self.known = {key: places - {worker} for key, places in self.known.items() if places != {worker}}
