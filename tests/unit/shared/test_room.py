from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from hotset.shared import room as rooms
from hotset.shared.arena import Segment
from hotset.shared.room import KEEP_S, Room, Wish
from hotset.testing import ManualClock
from shared_room import arena_of, opened_room
from virtual_loop import VirtualLoop

MIB = 1 << 20


@pytest.fixture(name="room")
async def _room() -> AsyncIterator[Room]:
    with opened_room(4 * MIB) as room:
        yield room


class Waiting:
    """Who takes and waits; ``got`` is who was served, in order."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.got: list[str] = []
        self.held: dict[str, Segment] = {}

    def take(self, name: str, length: int) -> Wish | None:
        found = self.room.take(length, partial(self._serve, name))
        if isinstance(found, Wish):
            return found
        self._serve(name, found)
        return None

    def _serve(self, name: str, segment: Segment) -> None:
        self.got.append(name)
        self.held[name] = segment


async def test_room_is_given_in_the_order_of_asking(room: Room) -> None:
    waiting = Waiting(room)
    for name, length in (("a", 3 * MIB), ("b", 2 * MIB), ("c", MIB), ("d", MIB)):
        waiting.take(name, length)
    await asyncio.sleep(0)
    assert waiting.got == ["a"], "c would fit, but b was there before"
    assert room.waiting == 3
    del waiting.held["a"]
    await asyncio.sleep(0)
    assert waiting.got == ["a", "b", "c", "d"]
    assert (room.waiting, arena_of(room).used) == (0, 4 * MIB)


async def test_who_waits_no_more_holds_nobody_up(room: Room) -> None:
    waiting = Waiting(room)
    waiting.take("a", 3 * MIB)
    wish = waiting.take("b", 4 * MIB)
    waiting.take("c", MIB)
    assert wish is not None
    room.drop(wish)
    assert waiting.got == ["a", "c"]
    waiting.held.clear()
    await asyncio.sleep(0)
    assert (waiting.got, arena_of(room).used) == (["a", "c"], 0)


async def test_a_wish_dropped_in_its_turn_gets_nothing(room: Room) -> None:
    waiting = Waiting(room)
    waiting.take("a", 4 * MIB)
    wish = waiting.take("b", MIB)
    assert wish is not None
    waiting.held.clear()  # the turn comes in the loop's next step
    room.drop(wish)
    await asyncio.sleep(0)
    assert (waiting.got, arena_of(room).used) == (["a"], 0)


async def test_what_never_fits_is_refused(room: Room) -> None:
    with pytest.raises(ValueError, match="do not fit into an arena"):
        Waiting(room).take("a", 4 * MIB + 1)


async def test_after_the_end_nobody_gets_anything() -> None:
    room = Room(MIB)
    room.open()
    waiting = Waiting(room)
    waiting.take("a", MIB)
    waiting.take("b", MIB)
    room.close()
    waiting.held.clear()
    await asyncio.sleep(0)
    assert (waiting.got, room.arena) == (["a"], None)
    room.close()


async def test_a_system_that_shares_no_memory_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_size: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(rooms, "create_file", none_left)
    room = Room(MIB)
    room.open()
    assert room.arena is None
    room.close()


@pytest.fixture(name="clock")
def _clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(name="loop")
def _loop(clock: ManualClock) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(clock, seed=1)
    yield loop
    loop.close()


def test_memory_that_nobody_used_for_a_while_goes_back_to_the_system(
    clock: ManualClock, loop: VirtualLoop
) -> None:
    async def work() -> None:
        room = Room(16 * MIB)
        room.open()
        waiting = Waiting(room)
        waiting.take("a", 12 * MIB)
        waiting.held["a"].write(0, b"x" * (12 * MIB))
        file = os.dup(arena_of(room).file)
        assert resident_bytes(file) == 12 * MIB
        del waiting.held["a"]
        found = []
        for _ in range(3):
            clock.now_s += KEEP_S
            for _ in range(20):
                await asyncio.sleep(0)
            found.append(resident_bytes(file))
        assert found == [12 * MIB, 0, 0]
        assert arena_of(room).is_clean
        assert not loop.has_timers(), "an idle room must not wake anybody up"
        os.close(file)
        room.close()

    loop.run(work())


def resident_bytes(file: int) -> int:
    return os.fstat(file).st_blocks * 512
