from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hotset.api.body import BodyReader, ClientGoneError
from hotset.api.errors import HttpError, HttpKind
from hotset.api.pile import Pile
from hotset.errors import InvalidInputError, OverloadedError
from hotset.shared.arena import LARGE_BYTES, Segment
from hotset.shared.extents import whole_grains
from hotset.shared.room import Room
from shared_room import arena_of, opened_room
from waiting import until


def receiver(*messages: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    waiting = list(messages)

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return waiting.pop(0)

    return receive


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


@pytest.fixture
def reader() -> BodyReader:
    return BodyReader(limit_bytes=10, limit_s=30.0)


async def test_a_body_in_one_part_and_in_many(reader: BodyReader) -> None:
    assert await reader.read(receiver(part(b"abc", more=False))) == b"abc"
    assert (
        await reader.read(receiver(part(b"ab", more=True), part(b"", more=True), part(b"c", more=False)))
        == b"abc"
    )
    assert await reader.read(receiver({"type": "http.request"})) == b""


async def test_exactly_the_limit_is_fine(reader: BodyReader) -> None:
    parts = receiver(part(b"x" * 9, more=True), part(b"x", more=False))
    assert await reader.read(parts, declared=10) == b"x" * 10


async def test_one_byte_more_is_refused_whatever_was_declared(reader: BodyReader) -> None:
    for declared in (None, 3):
        with pytest.raises(HttpError, match="at most 10 bytes") as caught:
            await reader.read(receiver(part(b"x" * 10, more=True), part(b"x", more=False)), declared=declared)
        assert caught.value.kind is HttpKind.BODY_TOO_LARGE


async def test_a_body_declared_too_large_is_refused_unread(reader: BodyReader) -> None:
    async def never() -> Any:
        raise AssertionError("the body was read")

    with pytest.raises(HttpError):
        await reader.read(never, declared=11)


async def test_a_client_that_goes_away_in_the_middle(reader: BodyReader) -> None:
    with pytest.raises(ClientGoneError):
        await reader.read(receiver(part(b"x", more=True), GONE))


async def test_a_body_that_never_ends_is_given_up() -> None:
    reader = BodyReader(limit_bytes=10, limit_s=0.02)
    with pytest.raises(HttpError) as caught:
        await asyncio.wait_for(reader.read(receiver(part(b"x", more=True))), 5)
    assert caught.value.kind is HttpKind.BODY_TIMEOUT
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await reader.read(receiver(part(b"next", more=False))) == b"next"


async def test_each_of_many_slow_bodies_is_given_up_and_a_quick_one_is_not() -> None:
    reader = BodyReader(limit_bytes=10, limit_s=0.05)
    slow = [asyncio.create_task(reader.read(receiver())) for _ in range(3)]
    await until(lambda: len(reader._reading) == 3)
    assert await reader.read(receiver(part(b"quick", more=False))) == b"quick"
    late = asyncio.create_task(reader.read(receiver()))

    done = await asyncio.wait_for(asyncio.gather(*slow, late, return_exceptions=True), 5)

    assert [type(outcome) for outcome in done] == [HttpError] * 4
    assert not reader._reading


async def test_a_cancel_from_outside_stays_a_cancel(reader: BodyReader) -> None:
    task = asyncio.create_task(reader.read(receiver()))
    await until(lambda: reader._reading)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not reader._reading


async def test_a_cancel_from_outside_wins_over_the_time_limit(reader: BodyReader) -> None:
    task = asyncio.create_task(reader.read(receiver()))
    await until(lambda: reader._reading)
    loop = asyncio.get_running_loop()
    reader._reading[task] = loop.time()
    reader._sweep(loop)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Large bodies


LARGE = LARGE_BYTES + 5
MIB = 1 << 20


@pytest.fixture(name="room")
async def _room() -> AsyncIterator[Room]:
    with opened_room(MIB) as room:
        yield room


def shared_reader(room: Room, **limits: Any) -> BodyReader:
    return BodyReader(**{"limit_bytes": MIB, "limit_s": 30.0, **limits}, room=room)


def parts_of(body: bytes, size: int) -> list[dict[str, Any]]:
    cuts = range(0, len(body), size)
    return [part(body[cut : cut + size], more=cut + size < len(body)) for cut in cuts]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("size", [LARGE_BYTES - 1, LARGE_BYTES, LARGE, 3 * LARGE, MIB])
async def test_a_large_body_is_in_shared_memory_and_a_small_one_is_not(
    room: Room, size: int, declared: bool
) -> None:
    body = random.Random(size).randbytes(size)
    for cut in (997, LARGE_BYTES - 1):
        length = size if declared else None
        got = await shared_reader(room).read_payload(receiver(*parts_of(body, cut)), declared=length)
        assert isinstance(got, Segment) == (size >= LARGE_BYTES)
        assert (got.tobytes() if isinstance(got, Segment) else got) == body
        assert len(got) == size
        del got
    assert arena_of(room).used == 0


async def test_a_body_in_one_part_stays_as_it_came(room: Room) -> None:
    body = bytes(LARGE)
    assert await shared_reader(room).read_payload(receiver(part(body, more=False)), declared=LARGE) is body


async def test_what_is_wanted_as_bytes_comes_as_bytes(room: Room) -> None:
    assert await shared_reader(room).read(receiver(*parts_of(bytes(LARGE), 1000)), declared=LARGE) == bytes(
        LARGE
    )


async def test_a_body_of_unknown_length_gives_back_what_it_does_not_need(room: Room) -> None:
    got = await shared_reader(room).read_payload(receiver(*parts_of(bytes(LARGE), 1000)))
    assert isinstance(got, Segment)
    assert arena_of(room).used == whole_grains(LARGE) < MIB


async def test_without_room_a_large_body_stays_on_the_heap() -> None:
    closed = Room(MIB)
    got = await shared_reader(closed).read_payload(receiver(*parts_of(bytes(LARGE), 1000)), declared=LARGE)
    assert got == bytes(LARGE)


async def test_while_there_is_no_room_nothing_is_read(room: Room) -> None:
    reader = shared_reader(room)
    taken = room.take(MIB, lambda _segment: None)
    asked = 0
    waiting = parts_of(b"x" * LARGE, 1000)

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        return waiting[asked - 1]

    reading = asyncio.ensure_future(reader.read_payload(receive, declared=LARGE))
    await until(lambda: room.waiting == 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked == 1
    del taken
    got = await reading
    assert isinstance(got, Segment)
    assert got.tobytes() == b"x" * LARGE


async def test_who_waited_for_room_all_the_time_gets_503_and_leaves_the_queue(room: Room) -> None:
    taken = room.take(MIB, lambda _segment: None)
    reader = shared_reader(room, limit_s=0.02)
    with pytest.raises(OverloadedError, match=r"memory for large bodies was full for 0\.02 s"):
        await reader.read_payload(receiver(*parts_of(bytes(LARGE), 1000)), declared=LARGE)
    assert room.waiting == 0
    del taken


async def test_a_client_that_goes_in_the_middle_of_an_upload_leaves_no_segment(room: Room) -> None:
    first = parts_of(bytes(LARGE), 1000)[0]
    with pytest.raises(ClientGoneError):
        await shared_reader(room).read_payload(receiver(first, GONE), declared=LARGE)
    assert arena_of(room).used == 0


async def test_a_cancelled_upload_leaves_no_segment_and_no_wish(room: Room) -> None:
    reader = shared_reader(room)
    first = parts_of(bytes(LARGE), 1000)[0]
    reading = asyncio.ensure_future(reader.read_payload(receiver(first), declared=LARGE))
    await until(lambda: arena_of(room).used > 0)
    taken = room.take(MIB - arena_of(room).used, lambda _segment: None)
    second = asyncio.ensure_future(reader.read_payload(receiver(first), declared=LARGE))
    await until(lambda: room.waiting == 1)
    for task in (reading, second):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert room.waiting == 0
    del taken
    assert arena_of(room).used == 0


async def test_a_body_longer_than_declared_is_refused(room: Room) -> None:
    reader = shared_reader(room)
    parts = [part(bytes(LARGE), more=True), part(b"x", more=True), part(b"x", more=False)]
    with pytest.raises(InvalidInputError, match="longer than was declared"):
        await reader.read_payload(receiver(*parts), declared=LARGE)
    assert arena_of(room).used == 0


async def test_a_large_body_past_the_limit_is_refused(room: Room) -> None:
    reader = shared_reader(room, limit_bytes=2 * LARGE)
    with pytest.raises(HttpError, match="too large"):
        await reader.read_payload(receiver(*parts_of(bytes(2 * LARGE + 1), 1000)))
    assert arena_of(room).used == 0
    with pytest.raises(HttpError, match="too large"):
        reader.sink(declared=2 * LARGE + 1)


async def test_a_sink_tells_when_to_go_on(room: Room) -> None:
    taken = room.take(MIB, lambda _segment: None)
    told: list[bool] = []
    sink = shared_reader(room).sink(declared=LARGE, on_room=lambda: told.append(True))
    assert not sink.append(b"a" * 10)
    assert not sink.append(b"b" * 10), "a part that was on its way already"
    assert sink.waits
    del taken
    await until(lambda: bool(told))
    assert sink.append(b"c" * (LARGE - 20))
    body = sink.finish()
    assert isinstance(body, Segment)
    assert body.tobytes() == b"a" * 10 + b"b" * 10 + b"c" * (LARGE - 20)


async def test_a_sink_that_is_whole_before_there_is_room_waits_no_more(room: Room) -> None:
    taken = room.take(MIB, lambda _segment: None)
    sink = shared_reader(room).sink(declared=LARGE)
    sink.append(bytes(LARGE))
    assert sink.finish() == bytes(LARGE)
    assert room.waiting == 0
    del taken


# All bodies together


def counting_reader(pile: Pile, room: Room | None = None) -> BodyReader:
    return BodyReader(limit_bytes=MIB, limit_s=30, room=room, pile=pile)


async def test_a_body_of_known_length_takes_all_its_room_with_its_first_part() -> None:
    pile = Pile(MIB)
    reader = counting_reader(pile)
    sink = reader.sink(declared=MIB - 10)
    for part in (b"", b"x", b"y"):
        sink.append(part)
        assert pile.bytes == MIB - 10
    with pytest.raises(OverloadedError, match="max_bodies_size"):
        reader.sink(declared=11).append(b"x")
    assert pile.bytes == MIB - 10, "what was refused has nothing"
    del sink
    assert pile.bytes == 0
    largest = reader.sink(declared=MIB)
    largest.append(b"x")
    assert pile.bytes == MIB


async def test_a_body_of_unknown_length_takes_what_has_come() -> None:
    pile = Pile(100)
    sink = counting_reader(pile).sink()
    sink.append(b"x" * 60)
    assert pile.bytes == 60
    with pytest.raises(OverloadedError):
        sink.append(b"x" * 41)
    sink.append(b"x" * 40)


async def test_it_counts_for_as_long_as_its_owner_keeps_it() -> None:
    pile = Pile(MIB)
    portion = pile.portion()
    body = await counting_reader(pile).read_payload(receiver(*parts_of(b"x" * 1000, 100)), portion=portion)
    assert (len(body), pile.bytes) == (1000, 1000)
    del portion
    assert pile.bytes == 0
    await counting_reader(pile).read(receiver(*parts_of(b"x" * 1000, 100)))
    assert pile.bytes == 0


async def test_what_is_in_shared_memory_is_not_on_the_pile_and_what_waits_for_room_is(room: Room) -> None:
    pile = Pile(MIB)
    reader = counting_reader(pile, room)
    sink = reader.sink(declared=LARGE)
    sink.append(b"x" * 1000)
    assert pile.bytes == 0
    taken = room.take(MIB - arena_of(room).used, lambda _segment: None)
    waiting = reader.sink(declared=LARGE)
    assert not waiting.append(b"x" * 1000)
    assert pile.bytes == 1000
    del taken, sink
    await until(lambda: not waiting.waits)
    assert pile.bytes == 0
    waiting.drop()
