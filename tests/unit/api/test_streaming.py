"""Answers in parts on their way out: behind any ASGI server, and over hotset's own connection, with raw sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hotset.errors import PredictFailedError
from hotset.payload import Encoded
from hotset.workers.answers import WINDOW
from hotset.workers.incoming import IncomingStreams
from unit.api.scripted import Bench
from unit.api.test_app_served import PROTOCOLS, head, raw, serving
from waiting import until

ASK = head("/models/paris/predict", "Content-Length: 0")
OLD = b"POST /models/paris/predict HTTP/1.0\r\nContent-Length: 0\r\n\r\n"
NUMBER = 1


class Maker:
    """The other end of a streamed answer: what a worker would do."""

    def __init__(self, bench: Bench, content_type: str = "text/plain") -> None:
        self.taken = 0
        self.stopped = 0
        self.streams = IncomingStreams(taken=self._taken, stop=self._stop)
        answer = asyncio.get_running_loop().create_future()
        self.streams.begin(NUMBER, Encoded(b"one", content_type), answer)
        self.bench = bench
        bench.model("paris").encoded = answer.result()

    def _taken(self, _number: int, count: int) -> None:
        self.taken += count

    def _stop(self, _number: int) -> None:
        self.stopped += 1

    def part(self, body: bytes) -> None:
        self.streams.part(NUMBER, body)

    def end(self, error: PredictFailedError | None = None) -> None:
        self.streams.end(NUMBER, error)


@pytest.fixture(params=PROTOCOLS)
async def port(bench: Bench, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    async with serving(bench, request.param) as port:
        yield port


def outcomes(bench: Bench) -> list[str]:
    observer = bench.observers["hotset"]
    return ["ok"] * len(observer.good) + [kind.value for kind in observer.bad]


async def test_a_part_is_seen_before_the_next_one_is_made(bench: Bench, port: int) -> None:
    maker = Maker(bench)
    async with raw(port) as client:
        client.send(ASK)
        assert b"transfer-encoding: chunked" in (await client._reader.readuntil(b"\r\n\r\n")).lower()
        assert await client._reader.readuntil(b"one\r\n") == b"3\r\none\r\n"
        assert (bench.residency.leased, bench.dataplane.inside) == (1, 1)
        assert outcomes(bench) == []
        maker.part(b"")  # an empty chunk would be the last
        maker.part(b"second")
        assert await client._reader.readuntil(b"second\r\n") == b"6\r\nsecond\r\n"
        maker.end()
        assert await client._reader.readuntil(b"\r\n\r\n") == b"0\r\n\r\n"
        await until(lambda: bench.residency.leased == 0)
        assert outcomes(bench) == ["ok"]
        assert maker.stopped == 0


async def test_one_that_fails_breaks_off_without_the_last_chunk(bench: Bench, port: int) -> None:
    maker = Maker(bench)
    async with raw(port) as client:
        client.send(ASK)
        await client._reader.readuntil(b"one\r\n")
        maker.part(b"two")
        maker.end(PredictFailedError("no more"))
        assert await client._reader.read() == b"3\r\ntwo\r\n"
    assert outcomes(bench) == ["predict_failed"]


async def test_events_say_that_they_broke_off(bench: Bench, port: int) -> None:
    maker = Maker(bench, "text/event-stream")
    async with raw(port) as client:
        client.send(ASK)
        await client._reader.readuntil(b"one\r\n")
        maker.end(PredictFailedError("no more"))
        rest = await client._reader.read()
    assert b'event: error\ndata: {"error":"no more","kind":"predict_failed"}\n\n\r\n' in rest
    assert not rest.endswith(b"0\r\n\r\n")


async def test_a_client_that_goes_away_stops_it_and_gives_the_lease_back(bench: Bench, port: int) -> None:
    maker = Maker(bench)
    async with raw(port) as client:
        client.send(ASK)
        await client._reader.readuntil(b"one\r\n")
        client.writer.transport.abort()
        await until(lambda: maker.stopped == 1)
        await until(lambda: bench.residency.leased == 0)
    assert outcomes(bench) == ["ok"]


async def test_a_slow_client_sets_the_pace() -> None:
    """It is told of as many parts as were taken, and of no more: so its maker is never far ahead."""
    bench = Bench()
    maker = Maker(bench)
    made = 0
    async with serving(bench) as port, raw(port) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(ASK)
        await until(lambda: bench.residency.leased == 1)
        last = -1
        while made != last:  # until nothing moves any more
            last = made
            while made < maker.taken + WINDOW:
                maker.part(b"Z" * 65536)
                made += 1
            for _ in range(50):
                await asyncio.sleep(0.001)
        assert made < 400  # a few mebibytes, which are the sockets' own
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        maker.end()
        read = 0
        while not (data := await client._reader.read(1 << 20)).endswith(b"\r\n0\r\n\r\n"):
            read += data.count(b"Z")
        assert read + data.count(b"Z") == made * 65536
    assert bench.residency.leased == 0


async def test_one_without_chunks_ends_with_the_connection() -> None:
    bench = Bench()
    maker = Maker(bench)
    async with serving(bench) as port, raw(port) as client:
        client.send(OLD)
        before, _, _ = (await client._reader.readuntil(b"one")).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in before
        assert b"connection: close" in before
        maker.part(b"two")
        maker.end()
        assert await client._reader.read() == b"two"


async def test_one_without_chunks_that_fails_does_not_look_whole() -> None:
    bench = Bench()
    maker = Maker(bench)
    async with serving(bench) as port, raw(port) as client:
        client.send(OLD)
        await client._reader.readuntil(b"one")
        maker.end(PredictFailedError("no more"))
        with pytest.raises(ConnectionResetError):
            await client._reader.read()
    assert bench.residency.leased == 0


async def test_answers_behind_it_wait_for_its_end_and_the_connection_stays() -> None:
    bench = Bench()
    maker = Maker(bench)
    bench.model("acme/rome").encoded = Encoded(b"whole")
    behind = head("/models/acme%2Frome/predict", "Content-Length: 0")
    async with serving(bench) as port, raw(port) as client:
        client.send(ASK + behind)
        await client._reader.readuntil(b"one\r\n")
        await until(lambda: len(bench.residency.calls) == 2)
        maker.part(b"two")
        assert await client._reader.readuntil(b"two\r\n") == b"3\r\ntwo\r\n"
        maker.end()
        assert await client._reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
        assert (await client.answer())[2] == b"whole"
        client.send(behind)
        assert (await client.answer())[2] == b"whole"


async def test_one_that_waits_for_its_turn_is_stopped_when_the_client_goes_away() -> None:
    bench = Bench()
    maker = Maker(bench)
    go = asyncio.Event()
    bench.model("acme/rome").steps.append(go.wait)
    async with serving(bench) as port, raw(port) as client:
        client.send(head("/models/acme%2Frome/predict", "Content-Length: 0") + ASK)
        await until(lambda: len(bench.residency.calls) == 2)
        client.writer.transport.abort()
        go.set()
        await until(lambda: maker.stopped == 1)
    assert bench.residency.leased == 0


async def test_a_part_that_takes_too_long_breaks_it_off() -> None:
    bench = Bench(request_timeout_s=0.05)
    maker = Maker(bench)
    async with serving(bench) as port, raw(port) as client:
        client.send(ASK)
        await client._reader.readuntil(b"one\r\n")
        assert await client._reader.read() == b""
    assert (outcomes(bench), maker.stopped) == (["deadline"], 1)
    assert bench.residency.leased == 0


async def test_the_end_of_the_server_waits_for_it() -> None:
    bench = Bench()
    maker = Maker(bench)
    async with serving(bench) as port, raw(port) as client:
        client.send(ASK)
        await client._reader.readuntil(b"one\r\n")
        bench.dataplane.drain()
        bench.listener.should_exit = True
        drained = asyncio.ensure_future(bench.dataplane.drained())
        await until(lambda: not bench.listener.servers or not bench.listener.servers[0].is_serving())
        assert not drained.done()
        maker.part(b"two")
        maker.end()
        assert await client._reader.read() == b"3\r\ntwo\r\n0\r\n\r\n"
        await drained


async def test_at_the_end_of_draining_it_is_cut_off() -> None:
    bench = Bench()
    maker = Maker(bench, "text/event-stream")
    async with serving(bench) as port, raw(port) as client:
        client.send(ASK)
        await client._reader.readuntil(b"one\r\n")
        bench.listener.should_exit = True
        bench.listener.hurry()
        rest = await client._reader.read()
    assert b"event: error" in rest
    assert b"shutting_down" in rest
    assert not rest.endswith(b"0\r\n\r\n")
    assert maker.stopped == 1
    assert bench.residency.leased == 0


async def test_at_the_end_of_draining_one_without_chunks_does_not_look_whole() -> None:
    bench = Bench()
    maker = Maker(bench)
    async with serving(bench) as port, raw(port) as client:
        client.send(OLD)
        await client._reader.readuntil(b"one")
        bench.listener.should_exit = True
        bench.listener.hurry()
        with pytest.raises(ConnectionResetError):
            await client._reader.read()
    assert maker.stopped == 1


async def test_a_header_that_cannot_be_sent_is_an_error_and_not_an_answer() -> None:
    bench = Bench()
    maker = Maker(bench, "text/plain\r\nx-evil: 1")
    async with serving(bench) as port, raw(port) as client:
        client.send(ASK)
        assert (await client.answer())[0] == 500
    assert maker.stopped == 1
    assert bench.residency.leased == 0
