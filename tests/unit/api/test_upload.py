"""A large body in the connection: received into shared memory directly, and what may go wrong with it meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from hotset.api.app import App
from hotset.connection import sweep
from hotset.shared.arena import LARGE_BYTES, Segment
from hotset.shared.room import Room
from hotset.upload import LEAST_UPLOAD_BYTES, READ_BYTES, Upload
from shared_room import arena_of, opened_room
from unit.api.scripted import Bench
from unit.api.test_app_served import PREDICT, RawClient, head, raw, serving
from waiting import until

MIB = 1 << 20


@pytest.fixture(name="room")
async def _room() -> AsyncIterator[Room]:
    with opened_room(4 * MIB) as room:
        yield room


def shared_bench(room: Room, *, body_timeout_s: float = 30.0) -> Bench:
    bench = Bench()
    bench.app = App(
        bench.dataplane,
        metrics=lambda: (b"", "text/plain"),
        version="1",
        max_body_bytes=4 * MIB,
        body_timeout_s=body_timeout_s,
        room=room,
    )
    return bench


def post(body: bytes, *headers: str) -> bytes:
    return head(PREDICT, f"Content-Length: {len(body)}", *headers) + body


def received(bench: Bench) -> list[bytes]:
    """Return the bodies that the model got, and let them go."""
    bodies = [call.pop("body") for call in bench.residency.calls]
    bench.residency.calls.clear()
    return [body.tobytes() if isinstance(body, Segment) else body for body in bodies]


SIZES = (
    0,
    1,
    LARGE_BYTES - 1,
    LARGE_BYTES,
    LARGE_BYTES + 1,
    LARGE_BYTES + LEAST_UPLOAD_BYTES,
    MIB + 17,
    3 * MIB,
)


async def test_bodies_of_any_size_one_after_the_other_and_sent_ahead(room: Room) -> None:
    bench, draw = shared_bench(room), random.Random(1)
    bodies = [draw.randbytes(size) for size in (*SIZES, *reversed(SIZES))]
    async with serving(bench) as port, raw(port) as client:
        for body in bodies:
            client.send(post(body))
            assert (await client.answer())[0] == 200
            assert received(bench) == [body]
        client.send(b"".join(map(post, bodies[: len(SIZES) - 1])))
        for _ in SIZES[1:]:
            assert (await client.answer())[0] == 200
        assert received(bench) == bodies[: len(SIZES) - 1]
    assert arena_of(room).used == 0


@pytest.mark.parametrize("cut", [1, 1000, READ_BYTES - 1, READ_BYTES, MIB])
async def test_bodies_in_parts_of_any_size(room: Room, cut: int) -> None:
    bench = shared_bench(room)
    body = random.Random(cut).randbytes(LARGE_BYTES + LEAST_UPLOAD_BYTES + 3000)
    whole = post(body)
    small = min(cut * 50, len(whole)) if cut < 1000 else 0  # byte by byte only where it begins and ends
    parts = [whole[:small]] if cut < 1000 else []
    parts += [whole[start : start + max(cut, 500)] for start in range(small, len(whole), max(cut, 500))]
    async with serving(bench) as port, raw(port) as client:
        for part in parts:
            client.send(part)
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.answer())[0] == 200
        client.send(post(b"next"))
        assert (await client.answer())[0] == 200
    assert received(bench) == [body, b"next"]


async def upload_begins(client: RawClient, room: Room, *, size: int = 2 * MIB) -> None:
    client.send(head(PREDICT, f"Content-Length: {size}") + bytes(size // 2))
    await until(lambda: arena_of(room).used >= size)


async def test_a_client_that_goes_in_the_middle_leaves_nothing(room: Room) -> None:
    bench = shared_bench(room)
    async with serving(bench) as port:
        async with raw(port) as client:
            await upload_begins(client, room)
        await until(lambda: arena_of(room).used == 0)
    assert bench.residency.calls == []


async def test_a_client_that_resets_in_the_middle_leaves_nothing(room: Room) -> None:
    bench = shared_bench(room)
    async with serving(bench) as port, raw(port) as client:
        await upload_begins(client, room)
        client.writer.transport.abort()
        await until(lambda: arena_of(room).used == 0)


async def test_a_body_that_is_too_long_in_coming_is_refused(
    room: Room,
) -> None:
    bench = shared_bench(room)
    async with serving(bench) as port, raw(port) as client:
        await upload_begins(client, room)
        connections = bench.listener.server_state.connections
        (connection,) = connections
        await until(lambda: connection._coming.sink.missing == MIB)
        sweep(connections, asyncio.get_running_loop().time() + 31)
        status, headers, body = await client.answer()
        assert (status, json.loads(body)["kind"], headers["connection"]) == (408, "body_timeout", "close")
    await until(lambda: arena_of(room).used == 0)
    assert bench.residency.calls == []


async def test_a_body_waits_for_room_and_its_client_with_it(room: Room) -> None:
    bench = shared_bench(room)
    taken = room.take(4 * MIB, lambda _segment: None)
    body = random.Random(1).randbytes(2 * MIB)
    async with serving(bench) as port, raw(port) as client, raw(port) as other:
        client.send(post(body))
        await until(lambda: room.waiting == 1)
        other.send(post(b"small"))
        assert (await other.answer())[0] == 200
        assert received(bench) == [b"small"]
        del taken
        assert (await client.answer())[0] == 200
        assert received(bench) == [body]
    assert arena_of(room).used == 0


async def test_who_waits_for_room_too_long_gets_503(room: Room) -> None:
    bench = shared_bench(room)
    taken = room.take(4 * MIB, lambda _segment: None)
    async with serving(bench) as port, raw(port) as client:
        client.send(head(PREDICT, f"Content-Length: {2 * MIB}") + bytes(MIB))
        await until(lambda: room.waiting == 1)
        sweep(bench.listener.server_state.connections, asyncio.get_running_loop().time() + 31)
        status, headers, body = await client.answer()
        assert (status, json.loads(body)["kind"]) == (503, "overloaded")
        assert "retry-after" in headers
    assert room.waiting == 0
    del taken


async def test_the_server_ends_while_a_body_comes(room: Room) -> None:
    bench = shared_bench(room)
    async with serving(bench) as port:
        client_context = raw(port)
        client = await client_context.__aenter__()
        await upload_begins(client, room)
        bench.dataplane.drain()
        client.send(bytes(MIB))
        status, _, body = await client.answer()
        assert (status, json.loads(body)["kind"]) == (503, "shutting_down") or status == 503
        await client_context.__aexit__(None, None, None)
    assert arena_of(room).used == 0


class Told:
    """A protocol that notes what it is told, and a sink that lacks ``missing`` bytes."""

    def __init__(self, missing: int) -> None:
        self.told: list[Any] = []
        self.memory = bytearray(missing)
        self.got = 0

    @property
    def missing(self) -> int:
        return len(self.memory) - self.got

    def buffer(self) -> memoryview:
        return memoryview(self.memory)[self.got :]

    def filled(self, count: int) -> None:
        self.got += count

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.told.append((name, *arguments))


def test_an_upload_tells_its_owner_what_the_transport_says() -> None:
    sink, owner = Told(READ_BYTES + 5), Told(0)
    upload = Upload(sink, owner, on_whole=lambda: owner.told.append("whole"))  # type: ignore[arg-type]
    assert len(upload.get_buffer(-1)) == READ_BYTES
    upload.buffer_updated(READ_BYTES)
    upload.pause_writing()
    upload.resume_writing()
    assert len(upload.get_buffer(-1)) == 5
    upload.buffer_updated(5)
    upload.eof_received()
    upload.connection_lost(None)
    assert owner.told == [
        ("pause_writing",),
        ("resume_writing",),
        "whole",
        ("eof_received",),
        ("connection_lost", None),
    ]
    assert len(upload.get_buffer(-1)) == READ_BYTES, "what comes behind a body that was given up is dropped"
    upload.buffer_updated(100)
    assert sink.got == READ_BYTES + 5


def test_with_uvloop_it_is_the_same() -> None:
    """uvloop's transports are others than asyncio's, and it is what serves."""

    async def work() -> None:
        room = Room(4 * MIB)
        room.open()
        bench = shared_bench(room)
        bodies = [random.Random(size).randbytes(size) for size in SIZES[:-1]]
        async with serving(bench) as port, raw(port) as client:
            for body in bodies:
                client.send(post(body))
            for _ in bodies:
                assert (await client.answer())[0] == 200
            assert received(bench) == bodies
            await upload_begins(client, room)
        await until(lambda: arena_of(room).used == 0)
        room.close()

    uvloop.run(work())
