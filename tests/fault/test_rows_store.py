"""Rows of the fault table: a store that is away, late, refuses, lies or changes, under a stream for models that need it not.

A real S3 server behind a proxy that does wrong on purpose. Some models are in memory when the fault begins and some on disk
alone: none of their requests may fail. Others are only in the store: theirs may, with 503, until the fault is over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import parse_qs

import pytest

from fault_city import FAR, KEPT, UNAVAILABLE, City
from fault_stream import Stream
from faulty_store import (
    Answer,
    Call,
    Fault,
    Forward,
    as_it_is,
    delays,
    drops,
    first,
    hangs,
    only,
    refuses,
    scrambles,
    trickles,
    truncates,
)

WRONG: Mapping[str, Fault] = {
    "drops every connection": drops,
    "answers 403": refuses(403, "AccessDenied"),
    "answers 500": refuses(500, "InternalError"),
    "answers 503 SlowDown, with Retry-After": refuses(503, "SlowDown", Retry_After="1"),
    "answers 429": refuses(429, "TooManyRequests", Retry_After="1"),
    "cuts every body short": truncates(),
    "sends nothing but HTML": scrambles(lambda _body: b"<html>Sign in to go on</html>"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
async def test_a_store_that_does_wrong(name: str, city: City, fault_row) -> None:
    with city.warm_server() as server:
        city.store.fault = WRONG[name]
        async with Stream(server, [*KEPT, *FAR], connections=10) as stream:
            stream.fault_begins()
            await stream.goes_on(4, models=KEPT)
            await stream.server_says(lambda: server.metric("hotset_sync_degraded"), what="degraded")
            await stream.until(lambda: {it.model for it in stream.failures()} == set(FAR), what="failures")
            stream.fault_begins()
            city.store.fault = as_it_is
            await stream.recovered()
            await stream.goes_on()
        fault_row(f"the store {name}", stream, touched=FAR, kinds=UNAVAILABLE)


@pytest.mark.slow
async def test_a_store_that_refuses_connections(city: City, fault_row) -> None:
    with city.warm_server(request_timeout="1s") as server:
        city.store.away()
        async with Stream(server, [*KEPT, *FAR], connections=10) as stream:
            stream.fault_begins()
            await stream.goes_on(4, models=KEPT)
            await stream.until(lambda: {it.model for it in stream.failures()} == set(FAR), what="failures")
            stream.fault_begins()
            city.store.back()
            await stream.recovered()
            await stream.goes_on()
        fault_row("the store refuses connections", stream, touched=FAR, kinds={*UNAVAILABLE, "deadline"})


@pytest.mark.slow
async def test_a_store_that_never_answers(city: City, fault_row) -> None:
    with city.warm_server(request_timeout="1s") as server:
        city.store.fault = hangs
        async with Stream(server, [*KEPT, *FAR], connections=10) as stream:
            stream.fault_begins()
            await stream.goes_on(4, models=KEPT)
            await stream.until(lambda: {it.model for it in stream.failures()} == set(FAR), what="failures")
            stream.fault_begins()
            city.store.fault = as_it_is
            city.store.reset()
            await stream.recovered()
            await stream.goes_on()
        fault_row("the store never answers", stream, touched=FAR, kinds={*UNAVAILABLE, "deadline"})


SLOW: Mapping[str, Fault] = {
    "answers after 0.4 s": delays(0.4),
    "sends 10,000 bytes a second": trickles(part_bytes=500, pause_s=0.05),
    "drops the first 3 requests": first(3, drops),
    "answers the first 3 requests with 503": first(3, refuses(503, "SlowDown")),
    "cuts the first 2 bodies short": only(first(2, truncates()), where=lambda call: not call.is_listing),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
async def test_a_store_that_is_only_slow_costs_time_and_no_request(name: str, city: City, fault_row) -> None:
    with city.warm_server(request_timeout="30s") as server:
        city.store.fault = SLOW[name]
        async with Stream(server, [*KEPT, *FAR], connections=10) as stream:
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on()
        fault_row(f"the store {name}", stream)


@pytest.mark.slow
async def test_a_store_that_lists_another_half_each_time(city: City, fault_row) -> None:
    passes = 0

    async def forgetful(call: Call, forward: Forward) -> Answer:
        nonlocal passes
        answer = await forward(call)
        if parse_qs(call.query).get("prefix") != ["prod/"]:
            return answer  # of one model alone it says what is true
        entries = re.findall(rb"<Contents>.*?</Contents>", answer.body, re.DOTALL)
        passes += 1
        left_out = entries[passes % 2 :: 2]
        body = answer.body
        for entry in left_out:
            body = body.replace(entry, b"")
        return replace(answer, body=body)

    with city.warm_server() as server:
        city.store.fault = forgetful
        async with Stream(server, [*KEPT, *FAR], connections=10) as stream:
            stream.fault_begins()
            await stream.goes_on(30)
            await stream.until(lambda: passes > 6, what="passes over the store")
            stream.fault_begins()
            city.store.fault = as_it_is
            await stream.recovered()
            await stream.goes_on()
        fault_row("the store lists another half each time", stream)


def is_of(name: str) -> Callable[[Call], bool]:
    """A request for a file of this model, and none for a listing."""
    return lambda call: f"/{name}/" in call.path and not call.is_listing


def flipped(body: bytes) -> bytes:
    """Other bytes that are as good a model: what no runtime would notice."""
    return body.replace(b'"is": "far0"', b'"is": "fake"')


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 1000], ids=["once", "always"])
async def test_a_store_that_sends_other_bytes_of_the_same_length(times: int, city: City, fault_row) -> None:
    with city.warm_server() as server:
        city.store.fault = only(first(times, scrambles(flipped)), where=is_of("far0"))
        async with Stream(server, [*KEPT, *FAR], connections=10) as stream:
            stream.fault_begins()
            await stream.recovered([*KEPT, "far1"])
            if times > 1:
                await stream.until(lambda: bool(stream.failures(["far0"])), what="a refusal")
                stream.fault_begins()
                city.store.fault = as_it_is
            await stream.recovered()
            await stream.goes_on()
        often = "once" if times == 1 else "always"
        fault_row(f"the store sends wrong bytes, {often}", stream, touched=["far0"], kinds=UNAVAILABLE)


@pytest.mark.slow
async def test_a_version_that_is_lost_while_it_is_fetched(city: City, fault_row) -> None:
    """The listing has it, and its files are gone: the one before answers, and the other is asked for now and then."""
    city.models.write("far0", 2)
    with city.warm_server() as server:
        city.store.fault = only(refuses(404, "NoSuchKey"), where=is_of("far0/2"))
        async with Stream(server, [*KEPT, *FAR], versions={"far0": {1, 2}}, connections=10) as stream:
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on(20)
            tries = len(server.events("fetch_failed"))
            assert tries < len(stream.asked) / 20, "it is asked for again and again"
            stream.fault_begins()
            city.store.fault = as_it_is
            await stream.server_says(
                lambda: server.predict("far0").version == 2, what="the version that was lost"
            )
            await stream.recovered()
        fault_row("a version is lost while it is fetched", stream)
