from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hotset.api.body import BodyReader, ClientGoneError
from hotset.api.errors import HttpError, HttpKind
from unit.api.scripted import until


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
