"""A room of shared memory for large bodies, open for one test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hotset.shared.arena import Arena
from hotset.shared.room import Room


@contextmanager
def opened_room(size: int) -> Iterator[Room]:
    """Give a room that its owner has opened, and closes at the end."""
    room = Room(size)
    room.open()
    try:
        yield room
    finally:
        room.close()


def arena_of(room: Room) -> Arena:
    assert room.arena is not None
    return room.arena
