"""hotset's own HTTP/1.1 connection: order, what is ahead, what is malformed or slow, and the end; over raw sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections import deque
from contextlib import suppress
from functools import partial

import pytest

from hotset.connection import KEEP_ALIVE_S, MOST_AHEAD, MOST_HEAD_BYTES, sweep
from hotset.exchange import Targets
from hotset.payload import Encoded
from hotset.uptake import LEAST_TAKEN_BYTES
from unit.api.scripted import Bench, ScriptedLease
from unit.api.test_app_served import PREDICT, head, raw, serving
from waiting import until

GET = b"GET /models/paris HTTP/1.1\r\nHost: hotset\r\n\r\n"


def predict(version: int, *headers: str) -> bytes:
    return head(f"/models/paris/versions/{version}/predict", "Content-Length: 0", *headers)


async def test_predictions_and_other_requests_keep_their_order() -> None:
    """The first prediction is the slowest; what was sent behind it waits its turn, whichever way it goes."""
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1) + GET + predict(2) + GET + GET + predict(7) + predict(1))
        await until(lambda: bench.residency.leased == 1)
        go.set()
        bodies = [json.loads((await client.answer())[2]) for _ in range(7)]
    seen = [body.get("version", body.get("name")) for body in bodies]
    assert seen == [1, "paris", 2, "paris", "paris", 7, 1]


async def test_what_is_sent_ahead_is_predicted_side_by_side_within_a_limit() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait] * (2 * MOST_AHEAD))
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1) * MOST_AHEAD + predict(2) * MOST_AHEAD)
        await until(lambda: bench.residency.leased == MOST_AHEAD)
        client.send(predict(7) * 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.residency.leased == MOST_AHEAD
        go.set()
        versions = [json.loads((await client.answer())[2])["version"] for _ in range(2 * MOST_AHEAD + 3)]
    assert versions == [1] * MOST_AHEAD + [2] * MOST_AHEAD + [7] * 3
    assert bench.residency.leased == 0


async def test_thousands_that_are_refused_at_once_do_not_pile_up() -> None:
    """Each answer makes room for the next: that must not be a call within a call within a call."""
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    bad = head("/models/a%00b/predict", "Content-Length: 0")
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1) + bad * 3000)
        await until(lambda: bench.residency.leased == 1)
        go.set()
        statuses = [(await client.answer())[0] for _ in range(3001)]
    assert statuses == [200] + [400] * 3000


async def test_a_client_that_does_not_read_is_not_read_either() -> None:
    bench = Bench()
    bench.model("paris").encoded = Encoded(b"x" * 100_000)
    async with serving(bench) as port, raw(port) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(400):
            client.send(predict(1) * 10)
        last = -1
        while bench.residency.leases_given != last:
            last = bench.residency.leases_given
            await asyncio.sleep(0.1)
        assert last < 2000, "answers of 400 MB would wait in our memory"
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(4000):
            assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("request_head", "closes"),
    [
        (b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", False),
        (b"POST %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", True),
        (b"POST %s HTTP/1.0\r\nContent-Length: 0\r\n\r\n", True),
    ],
)
async def test_who_wants_the_connection_closed_is_told_and_gets_that(
    request_head: bytes, closes: bool
) -> None:
    async with serving(Bench()) as port, raw(port) as client:
        client.send(request_head % PREDICT.encode())
        status, headers, _ = await client.answer()
        assert (status, headers.get("connection")) == (200, "close" if closes else None)
        if closes:
            assert await client.closed()
        else:
            client.send(predict(1))
            assert (await client.answer())[0] == 200


async def test_what_comes_behind_the_last_request_is_ignored() -> None:
    bench = Bench()
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1) + predict(2, "Connection: close") + predict(7) + GET)
        assert [json.loads((await client.answer())[2])["version"] for _ in range(2)] == [1, 2]
        assert await client.closed()
    assert bench.residency.leases_given == 2


async def test_no_http_is_answered_in_its_turn() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1) + b"NONSENSE\r\n\r\n")
        await until(lambda: bench.residency.leased == 1)
        go.set()
        assert json.loads((await client.answer())[2])["version"] == 1
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert json.loads(body)["kind"] == "invalid_input"
        assert await client.closed()


LOAD = "/v2/repository/models/paris/load"


@pytest.mark.parametrize("path", [PREDICT, LOAD])
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "found none"),
        (("Host: a", "Host: a"), "found 2"),
        (("Host: a", "HOST: b", "host: a"), "found 3"),
        (("Host:", "Host:"), "found 2"),
        (("Host: eve@a",), "found: eve@a"),
        (("Host: a b",), "found: a b"),
    ],
)
async def test_who_does_not_say_once_which_host_is_meant_is_refused_in_its_turn(
    path: str, lines: tuple[str, ...], message: str
) -> None:
    """Whichever way it goes, on a connection that a good request has used before, and nothing behind it is done."""
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    bad = "\r\n".join([f"POST {path} HTTP/1.1", *lines, "Content-Length: 2", "", "{}"]).encode()
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1) + bad + predict(2))
        await until(lambda: bench.residency.leased == 1)
        go.set()
        assert json.loads((await client.answer())[2])["version"] == 1
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert message in json.loads(body)["error"]
        assert await client.closed()
    assert bench.residency.leases_given == 1
    assert not bench.residency.verbs


@pytest.mark.parametrize("line", ["GET /models/paris", f"POST {PREDICT}"])
async def test_a_client_of_http_1_0_may_say_nothing_of_a_host_but_not_two_things(line: str) -> None:
    async with serving(Bench()) as port, raw(port) as silent, raw(port) as other:
        silent.send(f"{line} HTTP/1.0\r\nContent-Length: 0\r\n\r\n".encode())
        assert (await silent.answer())[0] == 200
        other.send(f"{line} HTTP/1.0\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n".encode())
        assert (await other.answer())[0] == 400


async def test_a_host_may_be_empty_and_another_with_each_request() -> None:
    hosts = (b"", b"a:1", b"[::1]:8500", b"a:1")
    async with serving(Bench()) as port, raw(port) as client:
        for host in hosts:
            client.send(predict(1).replace(b"Host: hotset", b"Host: " + host))
            assert (await client.answer())[0] == 200


async def test_an_offer_to_change_the_protocol_does_not_count_the_host_twice() -> None:
    offering = head("/models/paris/versions/2/predict", "Content-Length: 0", *OFFER)
    async with serving(Bench()) as port, raw(port) as client:
        client.send(offering + offering.replace(b"Host: hotset\r\n", b""))
        assert [(await client.answer())[0] for _ in range(2)] == [200, 400]


async def test_a_head_without_end_is_refused() -> None:
    bench = Bench()
    async with serving(bench) as port, raw(port) as client:
        client.send(b"POST /x HTTP/1.1\r\n")
        line = b"a: " + b"b" * 1000 + b"\r\n"
        with suppress(ConnectionError):
            for _ in range(3 * MOST_HEAD_BYTES // 1000):
                client.send(line)
                await client.writer.drain()
        with suppress(ConnectionError):  # who goes on sending may not see the answer
            status, _, body = await client.answer()
            assert status == 400
            assert "head" in json.loads(body)["error"]
        await until(lambda: not bench.listener.server_state.connections)


async def test_expect_continue_is_answered_before_the_body() -> None:
    async with serving(Bench()) as port, raw(port) as client:
        client.send(head(PREDICT, "Content-Length: 2", "Expect: 100-continue"))
        assert await client.line() == b"HTTP/1.1 100 Continue\r\n"
        assert await client.line() == b"\r\n"
        client.send(b"{}")
        assert (await client.answer())[0] == 200


async def test_who_waits_for_continue_behind_another_request_is_told_in_its_turn() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    expecting = head(PREDICT, "Content-Length: 2", "Expect: 100-continue")
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1) + expecting)
        await until(lambda: bench.residency.leased == 1)
        go.set()
        assert (await client.answer())[0] == 200
        assert await client.line() == b"HTTP/1.1 100 Continue\r\n"
        assert await client.line() == b"\r\n"
        client.send(b"{}" + GET + expecting)
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
        assert await client.line() == b"HTTP/1.1 100 Continue\r\n"


async def test_a_client_that_sends_on_without_end_is_closed() -> None:
    """It would else be read for as long as a request may take to come."""
    async with serving(Bench()) as port, raw(port) as client:
        client.send(head(PREDICT, f"Content-Length: {1 << 40}"))
        assert (await client.answer())[0] == 413
        sent = 0
        with suppress(ConnectionError):
            while sent < 100_000_000:
                client.send(b"x" * 100_000)
                await client.writer.drain()
                sent += 100_000
        assert 1_500_000 < sent < 50_000_000, "what the system holds on the way comes to it"


async def test_a_refusal_before_the_body_that_a_client_holds_back_ends_the_connection() -> None:
    """The client sends it or does not; what comes next could be either."""
    async with serving(Bench()) as port, raw(port) as client:
        client.send(head("/nothing", "Content-Length: 5", "Expect: 100-continue"))
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (404, "close")
        assert await client.closed()
    async with serving(Bench()) as port, raw(port) as client:
        client.send(head(PREDICT, "Content-Length: 5", "X-Request-Timeout: 0", "Expect: 100-continue"))
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert await client.closed()


OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")


@pytest.mark.parametrize(
    ("length", "body"),
    [("Content-Length: 4", b'{"":'), ("Transfer-Encoding: chunked", b'2\r\n{"\r\n2\r\n":\r\n0\r\n\r\n')],
)
async def test_an_offer_to_change_the_protocol_is_declined_and_the_body_is_a_body(
    length: str, body: bytes
) -> None:
    bench = Bench()
    offering = head("/models/paris/versions/2/predict", length, *OFFER)
    async with serving(bench) as port, raw(port) as client:
        client.send(offering + body + predict(1) + offering + body[:2])
        answers = [await client.answer() for _ in range(2)]
        client.send(
            body[2:] + GET.replace(b"\r\n\r\n", "\r\n".join(["", *OFFER, "", ""]).encode()) + predict(7)
        )
        answers += [await client.answer() for _ in range(3)]
    seen = [json.loads(answer[2]) for answer in answers]
    assert [it.get("version", it.get("name")) for it in seen] == [2, 1, 2, "paris", 7]
    assert [call["body"] for call in bench.residency.calls] == [b'{"":', b"", b'{"":', b""]


async def test_connect_is_refused_and_what_is_behind_it_not_read() -> None:
    bench = Bench()
    connect = b"CONNECT paris:80 HTTP/1.1\r\nHost: h\r\n\r\n"
    async with serving(bench) as port, raw(port) as client, raw(port) as other:
        client.send(connect + predict(1))
        assert (await client.answer())[0] == 400
        assert await client.closed()
        other.send(predict(1, "Connection: close") + connect + predict(2))
        assert (await other.answer())[0] == 200
        assert await other.closed()
    assert bench.residency.leases_given == 1


async def test_a_trailer_is_no_header() -> None:
    bench = Bench()
    bench.model("paris").wants = frozenset({"headers"})
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with serving(bench) as port, raw(port) as client:
        chunked = head(PREDICT, "Transfer-Encoding: chunked", "X-User: ann")
        client.send(predict(1) * MOST_AHEAD + chunked + b"2\r\n{}\r\n0\r\nX-User: eve\r\n\r\n")
        go.set()
        for _ in range(MOST_AHEAD + 1):
            assert (await client.answer())[0] == 200
    assert [it for it in bench.residency.calls[-1]["headers"] if it[0] == "x-user"] == [("x-user", "ann")]


@pytest.mark.parametrize("line", [b"a: " + b"b" * 1000 + b"\r\n", b"b" * 1000])
async def test_trailers_without_end_are_refused(line: bytes) -> None:
    bench = Bench()
    async with serving(bench) as port, raw(port) as client:
        client.send(head(PREDICT, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\na: b")
        with suppress(ConnectionError):
            for _ in range(6 * MOST_HEAD_BYTES // 1000):
                client.send(line)
                await client.writer.drain()
        await until(lambda: not bench.listener.server_state.connections)
    assert not bench.residency.calls


async def test_a_body_in_many_small_chunks_is_not_taken_for_trailers() -> None:
    bench = Bench()
    async with serving(bench) as port, raw(port) as client:
        client.send(head(PREDICT, "Transfer-Encoding: chunked"))
        for _ in range(MOST_HEAD_BYTES // 6000):
            client.send(b"1;a=" + b"b" * 3000 + b"\r\n")
            await client.writer.drain()
            client.send(b"x\r\n")
        client.send(b"0\r\n\r\n")
        assert (await client.answer())[0] == 200


async def test_a_malformed_body_on_uvicorns_way_is_answered_at_once() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    bad = head("/v2/repository/models/paris/load", "Transfer-Encoding: chunked") + b"zz\r\n"
    async with serving(bench) as port, raw(port) as client, raw(port) as behind:
        client.send(bad)
        assert (await client.answer())[0] == 400
        assert await client.closed()
        behind.send(predict(1) + bad)
        await until(lambda: bench.residency.leased == 1)
        go.set()
        assert [(await behind.answer())[0] for _ in range(2)] == [200, 400]
        assert await behind.closed()


async def test_what_is_whole_is_answered_although_no_http_comes_behind_it() -> None:
    async with serving(Bench()) as port, raw(port) as client:
        client.send(GET + predict(1) + b"NONSENSE\r\n\r\n")
        assert [(await client.answer())[0] for _ in range(3)] == [200, 200, 400]
        assert await client.closed()


async def test_only_the_last_answer_says_that_the_connection_closes() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1) + predict(2, "Connection: close"))
        await until(lambda: bench.residency.leases_given == 2)
        go.set()
        assert [(await client.answer())[1].get("connection") for _ in range(2)] == [None, "close"]
        assert await client.closed()


async def test_nothing_behind_the_last_request_is_done_whichever_way_it_goes() -> None:
    bench = Bench()
    closing = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with serving(bench) as port, raw(port) as client:
        client.send(closing + predict(1) + head("/v2/repository/models/paris/load", "Content-Length: 0"))
        assert (await client.answer())[1]["connection"] == "close"
        assert await client.closed()
    assert not bench.residency.leases_given
    assert [verb for verb, _ in bench.residency.verbs if verb == "load"] == []


async def test_at_the_end_a_request_on_uvicorns_way_that_waited_is_answered_and_the_connection_closed() -> (
    None
):
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with serving(bench) as port, raw(port) as idle, raw(port) as client:
        idle.send(GET)
        await idle.answer()
        client.send(predict(1) + GET)
        await until(lambda: bench.residency.leased == 1)
        bench.listener.should_exit = True
        assert await idle.closed()
        go.set()
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
        assert await client.closed()


async def test_what_is_remembered_of_a_wrong_name_does_not_grow() -> None:
    """An exception that is raised again and again would, and would keep every connection that asked."""
    bench = Bench()
    bad = head("/models/a%00b/predict", "Content-Length: 0")
    async with serving(bench) as port:
        seen = []
        for _ in range(3):
            async with raw(port) as client:
                client.send(bad)
                assert (await client.answer())[0] == 400
                (connection,) = bench.listener.server_state.connections
                seen.append(weakref.ref(connection))
                del connection
            await until(lambda: not bench.listener.server_state.connections)
        gc.collect()
        assert [ref() for ref in seen] == [None] * 3


async def test_a_failure_in_the_first_step_of_a_prediction_is_answered_and_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()

    def fails(*_: object, **__: object) -> None:
        raise OSError("no")

    async with serving(bench) as port, raw(port) as client:
        with monkeypatch.context() as patch:
            patch.setattr(bench.residency, "lease_now", fails)
            client.send(predict(1))
            assert (await client.answer())[0] == 500
        with monkeypatch.context() as patch:
            patch.setattr(ScriptedLease, "predict", fails)
            client.send(predict(1))
            assert (await client.answer())[0] == 500
        assert (bench.residency.leased, bench.dataplane.inside) == (0, 0)


async def test_an_answered_request_whose_body_never_comes_does_not_keep_its_connection() -> None:
    bench = Bench()
    async with serving(bench) as port, raw(port) as client:
        client.send(GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 10\r\n\r\n"))
        assert (await client.answer())[0] == 200
        sweep(bench.listener.server_state.connections, asyncio.get_running_loop().time() + KEEP_ALIVE_S + 5)
        assert await client.closed()


async def test_who_takes_nothing_of_an_answer_is_cut_off_in_time() -> None:
    bench = Bench()
    bench.model("paris").encoded = Encoded(b"x" * 50_000_000)
    async with serving(bench) as port, raw(port) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(predict(1, "Connection: close"))
        await until(lambda: bench.listener.server_state.total_requests == 1)
        connections = bench.listener.server_state.connections
        now_s = asyncio.get_running_loop().time()
        for later_s in (1, KEEP_ALIVE_S - 5):
            sweep(connections, now_s + later_s)
            assert len(connections) == 1
        sweep(connections, now_s + KEEP_ALIVE_S + 5)
        await until(lambda: not connections)
        client.writer.transport.abort()


async def test_who_takes_a_byte_now_and_then_is_cut_off_in_time_too() -> None:
    bench = Bench()
    async with serving(bench) as port, raw(port) as slow, raw(port) as steady:
        for client in (slow, steady):
            client.send(predict(1))
            assert (await client.answer())[0] == 200
        connections = bench.listener.server_state.connections
        left = dict.fromkeys(connections, 10_000_000)
        by_port = {it.client[1]: it for it in connections}
        paces = {
            by_port[slow.writer.get_extra_info("sockname")[1]]: 100,
            by_port[steady.writer.get_extra_info("sockname")[1]]: LEAST_TAKEN_BYTES // 60,
        }
        for connection in connections:
            connection._unsent = partial(left.get, connection)
        now_s = asyncio.get_running_loop().time()
        for second in range(round(KEEP_ALIVE_S) + 5):
            sweep(paces, now_s + second)
            for connection, pace in paces.items():
                left[connection] -= pace
                connection._since_s = now_s + second  # it is not for being idle that it goes
        assert await slow.closed()
        await until(lambda: len(connections) == 1)
        for connection in connections:
            del connection._unsent


async def test_past_the_most_connections_the_longest_idle_one_makes_way() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait, go.wait])
    async with serving(bench, most=2) as port, raw(port) as busy, raw(port) as idle:
        busy.send(predict(1))
        await until(lambda: bench.residency.leased == 1)
        async with raw(port) as third:
            assert await idle.closed()
            third.send(predict(2))
            await until(lambda: bench.residency.leased == 2)
            async with raw(port) as fourth:
                status, headers, body = await fourth.answer()
                assert (status, headers["retry-after"]) == (503, "1")
                assert json.loads(body)["kind"] == "overloaded"
                assert await fourth.closed()
            go.set()
            assert [(await it.answer())[0] for it in (busy, third)] == [200, 200]


async def test_headers_of_the_users_code_cannot_break_the_protocol() -> None:
    bench = Bench()
    bench.model("paris").encoded = Encoded(b"{}", "application/json", (("x-a", "1\r\nx-b: 2"),))
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1))
        status, headers, body = await client.answer()
        assert (status, json.loads(body)["kind"]) == (500, "internal")
        assert "x-b" not in headers
        bench.model("paris").encoded = Encoded(b"{}", "text/pla\nin")
        client.send(predict(1))
        assert (await client.answer())[0] == 500
        for content_type, name, value in (
            ("text/\u201cplain", "", ""),
            ("text/plain", "x-\xfc", ""),
            ("text/plain", "x-a", "\u201c"),
        ):
            bench.model("paris").encoded = Encoded(b"{}", content_type, ((name, value),) if name else ())
            client.send(predict(1))
            assert (await client.answer())[0] == 500
        false = (("Content-Length", "7"), ("Transfer-Encoding", "chunked"))
        bench.model("paris").encoded = Encoded(b"{}", "text/plain", false)
        client.send(predict(1))
        _, headers, _ = await client.answer()
        assert "transfer-encoding" not in headers
        bench.model("paris").encoded = Encoded(b"{}", "text/plain", (("X-A", "1"),))
        client.send(predict(1))
        _, headers, _ = await client.answer()
        assert (headers["content-type"], headers["x-a"]) == ("text/plain", "1")


async def test_an_idle_connection_is_closed_in_time_and_a_busy_one_is_not() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with serving(bench) as port, raw(port) as idle, raw(port) as busy:
        idle.send(GET)
        await idle.answer()
        busy.send(predict(1))
        await until(lambda: bench.residency.leased == 1)
        connections = bench.listener.server_state.connections
        loop = asyncio.get_running_loop()
        sweep(connections, loop.time() + KEEP_ALIVE_S - 5)
        assert len(connections) == 2
        sweep(connections, loop.time() + KEEP_ALIVE_S + 5)
        assert await idle.closed()
        go.set()
        assert (await busy.answer())[0] == 200


async def test_at_the_end_what_is_inside_is_answered_and_what_is_idle_closed() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with serving(bench) as port, raw(port) as idle, raw(port) as busy:
        idle.send(GET)
        await idle.answer()
        busy.send(predict(1) + predict(2))
        await until(lambda: bench.residency.leased == 1)
        bench.listener.should_exit = True
        assert await idle.closed()
        go.set()
        assert json.loads((await busy.answer())[2])["version"] == 1
        assert json.loads((await busy.answer())[2])["version"] == 2
        assert await busy.closed()


async def test_who_is_still_inside_when_draining_is_over_is_told() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1))
        await until(lambda: bench.residency.leased == 1)
        bench.listener.should_exit = True
        bench.listener.hurry()
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (503, "close")
        assert json.loads(body)["kind"] == "shutting_down"
        go.set()
        await until(lambda: bench.residency.leased == 0)


async def test_first_lines_are_remembered_within_a_limit() -> None:
    targets = Targets(Bench().app.predictions)
    first = targets.find(b"/models/paris/predict?a=1")
    assert first is not None
    assert targets.find(b"/models/paris/predict?a=1") is first
    assert (first.query, str(first.ref)) == ("a=1", "paris@latest")
    assert targets.find(b"/models/paris") is None
    long = b"/models/" + b"x" * Targets.LONGEST + b"/predict"
    assert targets.find(long) is not targets.find(long)
    for number in range(Targets.MOST):
        targets.find(b"/models/m%d/predict" % number)
    assert targets.find(b"/models/paris/predict?a=1") is not first


async def test_a_client_that_only_closes_its_own_side_gets_its_answers() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with serving(bench) as port, raw(port) as client:
        client.send(predict(1) + predict(2))
        client.writer.write_eof()
        await until(lambda: bench.residency.leased == 1)
        go.set()
        assert [json.loads((await client.answer())[2])["version"] for _ in range(2)] == [1, 2]
        assert await client.closed()
    await until(lambda: not bench.listener.server_state.connections)
