"""Predictions over gRPC: what of a request is read, and how it ends."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from hotset.api.body import BodyReader
from hotset.api.grpc.conversation import AHEAD
from hotset.api.grpc.inference import CODEC, Inference, Refs
from hotset.api.grpc.statuses import CODES, MOST_DETAILS
from hotset.errors import ErrorKind, HotsetError, InvalidInputError, UnavailableError
from hotset.keys import ModelRef
from hotset.messages.pool import message_class
from hotset.payload import Encoded
from hotset.shared.room import Room
from unit.api.rpc import FakeContext
from unit.api.scripted import Bench
from waiting import until

Request = message_class("ModelInferRequest")
Response = message_class("ModelInferResponse")
StreamResponse = message_class("ModelStreamInferResponse")


def asked(name: str, version: str = "", own_id: str = "") -> bytes:
    return Request(model_name=name, model_version=version, id=own_id).SerializeToString()


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def inference(bench: Bench, stop: asyncio.Event) -> Inference:
    for model in bench.residency.scripted.values():
        model.encoded = Encoded(Response(model_name="someone").SerializeToString(), "application/grpc")
    return Inference(bench.dataplane, bodies=bench.app.bodies, stop=stop)


async def test_the_request_goes_on_as_it_came(bench: Bench, inference: Inference) -> None:
    context = FakeContext(metadata=(("X-Tenant", "acme"), ("token-bin", b"\xff")))
    bench.model("paris").wants = frozenset({"headers"})
    body = asked("paris", "2")

    answer = await inference.infer(body, context)

    assert answer == Response(model_name="someone").SerializeToString()
    assert context.code is None
    call = bench.residency.calls[0]
    assert (call["codec"], call["body"], call["content_type"]) == (CODEC, body, "application/grpc")
    assert call["headers"] == (("x-tenant", "acme"), ("token-bin", "\xff"))
    assert context.trailing == {}


async def test_a_miss_says_what_took_its_time(inference: Inference) -> None:
    context = FakeContext()
    await inference.infer(asked("oslo"), context)
    assert context.trailing == {"server-timing": "fetch;dur=250.0, load;dur=500.0"}


async def test_the_clients_limit_is_the_requests(bench: Bench, inference: Inference) -> None:
    began = bench.dataplane.deadline(0.0)
    await inference.infer(asked("paris"), FakeContext(remaining_s=2.0))
    assert 1.9 < bench.residency.calls[0]["deadline_s"] - began < 5.0


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (b"\x0a\x7f", "not a ModelInferRequest"),
        (asked(""), "a model's name is empty"),
        (asked("../x"), "the part '..'"),
        (asked("paris", "x y"), "expected a version number"),
        (b"\x0a\x02\xff\xff", "in UTF-8"),
    ],
)
async def test_what_cannot_be_asked(bench: Bench, inference: Inference, body: bytes, details: str) -> None:
    context = FakeContext()
    assert await inference.infer(body, context) == b""
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert details in context.details
    assert context.trailing["error-kind"] == "invalid_input"
    assert not bench.residency.calls


@pytest.mark.parametrize("kind", ErrorKind)
async def test_every_kind_of_error_has_its_status(
    bench: Bench, inference: Inference, kind: ErrorKind
) -> None:
    error = HotsetError("it went wrong", kind=kind, retry_after_s=1.2)
    bench.model("paris").steps.append(error)
    context = FakeContext()

    await inference.infer(asked("paris"), context)

    assert context.code is CODES[kind]
    assert "it went wrong" in context.details or kind in {
        ErrorKind.MODEL_NOT_FOUND, ErrorKind.VERSION_NOT_FOUND,
    }  # fmt: skip
    assert context.trailing == {
        "error-kind": kind.value,
        "x-model-name": "paris",
        "x-model-version": "7",
        "retry-after": "2",
        "grpc-retry-pushback-ms": "2000",
    }


async def test_words_that_clients_look_for(inference: Inference) -> None:
    for body, words in (
        (asked("atlantis"), "Request for unknown model: 'atlantis' is not found"),
        (asked("paris", "9"), "Request for unknown model: 'paris' version 9 is not found"),
    ):
        context = FakeContext()
        await inference.infer(body, context)
        assert (context.code, context.details) == (grpc.StatusCode.NOT_FOUND, words)


async def test_a_long_message_fits_into_a_header(bench: Bench, inference: Inference) -> None:
    bench.model("paris").steps.append(InvalidInputError("é" * 5000 + "\ud800"))
    context = FakeContext()
    await inference.infer(asked("paris"), context)
    assert len(context.details.encode()) <= MOST_DETAILS + len("…".encode())


async def test_an_error_that_is_not_ours_is_logged_and_not_shown(
    bench: Bench, inference: Inference, caplog: pytest.LogCaptureFixture
) -> None:
    bench.model("paris").steps.append(RuntimeError("secret"))
    context = FakeContext()
    with caplog.at_level(logging.ERROR):
        await inference.infer(asked("paris"), context)
    assert context.code is grpc.StatusCode.INTERNAL
    assert "secret" not in context.details
    assert "secret" in caplog.text


async def test_a_cancelled_call_gives_its_lease_back(bench: Bench, inference: Inference) -> None:
    bench.model("paris").steps.append(asyncio.Event().wait)
    call = asyncio.create_task(inference.infer(asked("paris"), FakeContext()))
    await until(lambda: bench.residency.calls)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert bench.residency.leased == 0
    assert bench.dataplane.inside == 0


async def test_what_is_cut_off_is_told_so(bench: Bench, inference: Inference) -> None:
    bench.model("paris").steps += [asyncio.Event().wait, asyncio.Event().wait]
    single, stream = FakeContext(), FakeContext()
    stream.send(asked("paris"), end=False)
    calls = [
        asyncio.create_task(inference.infer(asked("paris"), single)),
        asyncio.create_task(inference.stream(None, stream)),
    ]
    await until(lambda: len(bench.residency.calls) == 2)

    inference.cut_off()
    await asyncio.gather(*calls)

    for context in (single, stream):
        assert context.code is grpc.StatusCode.UNAVAILABLE
        assert "waits no longer" in context.details


async def test_a_stream_is_answered_in_order_with_several_at_once(bench: Bench, inference: Inference) -> None:
    """The first is the last to be predicted."""
    gate = asyncio.Event()
    bench.model("paris").steps.append(gate.wait)
    context = FakeContext()
    context.send(*(asked("paris", own_id=str(number)) for number in range(10)))
    stream = asyncio.create_task(inference.stream(None, context))
    await until(lambda: len(bench.residency.calls) == 10)
    assert not context.written

    gate.set()
    await stream

    assert len(context.written) == 10
    for message in context.written:
        answer = StreamResponse.FromString(message)
        assert not answer.error_message
        assert answer.infer_response.model_name == "someone"
        assert answer.infer_response.parameters["triton_final_response"].bool_param
    assert context.code is None


async def test_no_more_of_a_stream_is_read_than_is_predicted(bench: Bench, inference: Inference) -> None:
    gate = asyncio.Event()
    bench.model("paris").steps += [gate.wait] * 1000
    context = FakeContext()
    context.send(*[asked("paris")] * 1000)
    stream = asyncio.create_task(inference.stream(None, context))

    await until(lambda: len(bench.residency.calls) >= AHEAD)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(bench.residency.calls) <= AHEAD + 2

    gate.set()
    await stream
    assert len(context.written) == 1000


async def test_what_is_wrong_with_one_of_a_stream_is_its_own(inference: Inference) -> None:
    context = FakeContext()
    context.send(asked("atlantis", own_id="1"), b"\x0a\x7f", asked("paris", own_id="3"))

    await inference.stream(None, context)

    first, second, third = map(StreamResponse.FromString, context.written)
    assert first.error_message == "Request for unknown model: 'atlantis' is not found"
    assert (first.infer_response.id, first.infer_response.model_name) == ("1", "atlantis")
    assert "not a ModelInferRequest" in second.error_message
    assert not third.error_message
    assert context.code is None


async def test_an_idle_stream_ends_with_the_server(
    bench: Bench, inference: Inference, stop: asyncio.Event
) -> None:
    """What is inside is answered first."""
    gate = asyncio.Event()
    bench.model("paris").steps.append(gate.wait)
    context = FakeContext()
    context.send(asked("paris"), end=False)
    stream = asyncio.create_task(inference.stream(None, context))
    await until(lambda: bench.residency.calls)

    stop.set()
    await until(lambda: len(asyncio.all_tasks()) > 1)
    gate.set()
    await stream

    assert len(context.written) == 1
    assert context.code is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_that_is_cancelled_gives_everything_back(bench: Bench, inference: Inference) -> None:
    bench.model("paris").steps += [asyncio.Event().wait] * 3
    context = FakeContext()
    context.send(*[asked("paris")] * 3, end=False)
    stream = asyncio.create_task(inference.stream(None, context))
    await until(lambda: len(bench.residency.calls) == 3)

    stream.cancel()

    with pytest.raises(asyncio.CancelledError):
        await stream
    assert bench.residency.leased == 0


async def test_a_server_that_drains_says_so(bench: Bench, inference: Inference) -> None:
    bench.dataplane.drain()
    context = FakeContext()
    await inference.infer(asked("paris"), context)
    assert context.code is grpc.StatusCode.UNAVAILABLE
    assert context.trailing["error-kind"] == UnavailableError.kind


def large(name: str) -> bytes:
    request = Request(model_name=name)
    request.raw_input_contents.append(bytes(700_000))
    return request.SerializeToString()


async def test_large_requests_wait_for_room(bench: Bench, stop: asyncio.Event) -> None:
    """The second goes on when the first has ended, and one that waits too long is told so."""
    room = Room(1 << 20)
    room.open()
    try:
        bodies = BodyReader(limit_bytes=1 << 20, limit_s=30, room=room)
        inference = Inference(bench.dataplane, bodies=bodies, stop=stop)
        impatient = Inference(
            bench.dataplane, bodies=BodyReader(limit_bytes=1 << 20, limit_s=0.01, room=room), stop=stop
        )
        gate = asyncio.Event()
        bench.model("paris").steps.append(gate.wait)
        first = asyncio.create_task(inference.infer(large("paris"), FakeContext()))
        await until(lambda: bench.residency.calls)
        context = FakeContext()
        second = asyncio.create_task(inference.infer(large("paris"), context))
        await until(lambda: room.waiting)

        late = FakeContext()
        await impatient.infer(large("paris"), late)
        assert late.trailing["error-kind"] == "overloaded"
        assert len(bench.residency.calls) == 1

        gate.set()
        await first
        assert bench.residency.calls[0]["body"].tobytes() == large("paris")
        bench.residency.calls.clear()
        await second
        assert context.code is None
    finally:
        bench.residency.calls.clear()
        room.close()


def test_what_clients_name_is_remembered_within_bounds() -> None:
    refs = Refs()
    assert refs.find(b"paris", b"2") is refs.find(b"paris", b"2")
    assert refs.find(b"paris", b"2") == ModelRef("paris", 2)
    for number in range(Refs.MOST + 10):
        refs.find(b"model-%d" % number, b"")
    assert len(refs._known) <= Refs.MOST
    long_name = b"a/" * 250 + b"a"
    refs.find(long_name, b"1" * 12)
    assert (long_name, b"1" * 12) not in refs._known
