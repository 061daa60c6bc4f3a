"""``ModelStreamInfer`` of models that answer in parts: what is written, in what order, and what ends it early."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import aio

from hotset.api.grpc.conversation import AHEAD, WANTS_END
from hotset.api.grpc.inference import STREAM_CODEC, Inference
from hotset.errors import PredictFailedError
from hotset.messages.joined import packed
from hotset.messages.pool import message_class
from hotset.payload import Encoded
from hotset.workers.incoming import IncomingStreams
from unit.api.rpc import FakeContext
from unit.api.scripted import Bench, ScriptedModel
from waiting import until

Request = message_class("ModelInferRequest")
Response = message_class("ModelInferResponse")
StreamResponse = message_class("ModelStreamInferResponse")
GRPC = "application/grpc"


class Maker:
    """The other end of streamed answers: what a worker would do. Each request of the model begins one more."""

    def __init__(self, bench: Bench, model: str) -> None:
        self.stopped: list[int] = []
        self.taken = 0
        self.streams = IncomingStreams(taken=self._take, stop=self.stopped.append)
        self._bench = bench
        self._model = model
        self._begun = 0

    def begins(self, first: bytes) -> None:
        """The answer to the next request begins with this part; to be called before it comes."""
        answer = asyncio.get_running_loop().create_future()
        self._begun += 1
        self.streams.begin(self._begun, Encoded(first, GRPC), answer)
        self._bench.model(self._model).encoded = answer.result()

    def _take(self, _number: int, count: int) -> None:
        self.taken += count


def asked(name: str, own_id: str = "", *, wants_end: bool | None = None) -> bytes:
    request = Request(model_name=name, id=own_id)
    if wants_end is not None:
        request.parameters[WANTS_END].bool_param = wants_end
    encoded: bytes = request.SerializeToString()
    return encoded


def part(text: str) -> bytes:
    return packed(Response(model_name="paris", id=text).SerializeToString())


def read(message: bytes) -> tuple[str, bool | None]:
    """Return what was sent (a part by its text, an error by its message) and whether it is said to be the last."""
    answer = StreamResponse.FromString(message)
    flag = answer.infer_response.parameters.get("triton_final_response")
    return answer.error_message or answer.infer_response.id, None if flag is None else flag.bool_param


@pytest.fixture
def inference(bench: Bench) -> Inference:
    bench.residency.scripted["rome"] = ScriptedModel([3])
    return Inference(bench.dataplane, bodies=bench.app.bodies, stop=asyncio.Event())


@pytest.fixture
def maker(bench: Bench) -> Maker:
    return Maker(bench, "paris")


@pytest.mark.parametrize("wants_end", [None, False, True])
async def test_each_part_is_a_message_and_the_end_one_for_who_wants_it(
    bench: Bench, inference: Inference, maker: Maker, wants_end: bool | None
) -> None:
    context = FakeContext()
    cut = part("second") + part("third")
    maker.begins(part("first") + cut[:5])
    maker.streams.part(1, cut[5:])
    context.send(asked("paris", "mine", wants_end=wants_end))
    answering = asyncio.create_task(inference.stream(None, context))
    await until(lambda: len(context.written) == 3)
    assert (bench.residency.leased, bench.dataplane.inside) == (1, 1)

    maker.streams.end(1)
    await answering

    assert bench.residency.calls[0]["codec"] == STREAM_CODEC
    end = [("mine", True)] if wants_end else []
    assert list(map(read, context.written)) == [("first", False), ("second", False), ("third", False), *end]
    if wants_end:
        last = StreamResponse.FromString(context.written[-1]).infer_response
        assert (last.model_name, last.model_version, len(last.outputs)) == ("paris", "7", 0)
    assert (bench.residency.leased, bench.dataplane.inside) == (0, 0)
    assert len(bench.observers["oip-grpc"].good) == 1
    assert context.code is None


@pytest.mark.parametrize("wants_end", [False, True])
async def test_an_answer_without_parts(bench: Bench, inference: Inference, wants_end: bool) -> None:
    context = FakeContext()
    bench.model("paris").encoded = Encoded(b"", GRPC)
    context.send(asked("paris", "none", wants_end=wants_end), asked("rome", "next"))
    bench.model("rome").encoded = Encoded(Response(id="whole").SerializeToString(), GRPC)
    await inference.stream(None, context)
    assert list(map(read, context.written)) == [*([("none", True)] if wants_end else []), ("whole", True)]


async def test_one_that_breaks_off_says_why_and_the_stream_goes_on(
    bench: Bench, inference: Inference, maker: Maker
) -> None:
    context = FakeContext()
    maker.begins(part("first"))
    context.send(asked("paris", "mine", wants_end=True), end=False)
    answering = asyncio.create_task(inference.stream(None, context))
    await until(lambda: context.written)

    maker.streams.end(1, PredictFailedError("ValueError: no second"))
    await until(lambda: len(context.written) == 2)
    bench.model("rome").encoded = Encoded(Response(id="whole").SerializeToString(), GRPC)
    context.send(asked("rome"))
    await answering

    assert list(map(read, context.written)) == [
        ("first", False), ("ValueError: no second", True), ("whole", True),
    ]  # fmt: skip
    failed = StreamResponse.FromString(context.written[1]).infer_response
    assert (failed.id, failed.model_name) == ("mine", "paris")
    assert context.code is None
    assert bench.observers["oip-grpc"].bad == [PredictFailedError.kind]


async def test_answers_in_parts_go_on_beside_each_other_and_beside_whole_ones(
    bench: Bench, inference: Inference, maker: Maker
) -> None:
    context = FakeContext()
    bench.model("rome").encoded = Encoded(Response(id="whole").SerializeToString(), GRPC)
    answering = asyncio.create_task(inference.stream(None, context))
    for number, first in enumerate(("a", "b")):
        maker.begins(part(first))
        context.send(asked("paris"), end=False)
        await until(lambda number=number: len(context.written) == number + 1)
    context.send(asked("rome"))
    await until(lambda: len(context.written) == 3)

    for number, text in ((2, "b"), (1, "a"), (2, "b")):
        maker.streams.part(number, part(text))
        before = len(context.written)
        await until(lambda before=before: len(context.written) == before + 1)
    maker.streams.end(2)
    maker.streams.end(1)
    await answering

    assert [text for text, _ in map(read, context.written)] == ["a", "b", "whole", "b", "a", "b"]


async def test_answers_begin_in_the_order_of_their_requests(
    bench: Bench, inference: Inference, maker: Maker
) -> None:
    """One that has begun waits for those before it, and for no more of them than their first message."""
    gate = asyncio.Event()
    context = FakeContext()
    bench.model("rome").steps.append(gate.wait)
    bench.model("rome").encoded = Encoded(Response(id="whole").SerializeToString(), GRPC)
    maker.begins(part("a"))
    context.send(asked("rome"), asked("paris"), asked("rome"))
    answering = asyncio.create_task(inference.stream(None, context))
    await until(lambda: len(bench.residency.calls) == 3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not context.written

    gate.set()
    await until(lambda: len(context.written) == 3)
    maker.streams.end(1)
    await answering
    assert [text for text, _ in map(read, context.written)] == ["whole", "a", "whole"]


async def test_a_stream_that_is_cancelled_stops_those_who_make_its_parts(
    bench: Bench, inference: Inference, maker: Maker
) -> None:
    """Also one whose turn has not come."""
    context = FakeContext()
    maker.begins(part("a"))
    context.send(asked("paris"), end=False)
    answering = asyncio.create_task(inference.stream(None, context))
    await until(lambda: context.written)
    bench.model("rome").steps.append(asyncio.Event().wait)
    maker.begins(part("b"))
    context.send(asked("rome"), asked("paris"), end=False)
    await until(lambda: len(bench.residency.calls) == 3)

    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering

    assert sorted(maker.stopped) == [1, 2]
    assert (bench.residency.leased, bench.dataplane.inside) == (0, 0)


async def test_a_client_that_goes_in_the_middle_of_a_message_is_no_fault_of_the_servers(
    bench: Bench, inference: Inference, maker: Maker
) -> None:
    context = GoneContext()
    maker.begins(part("a"))
    context.send(asked("paris"), end=False)

    with pytest.raises(asyncio.CancelledError):
        await inference.stream(None, context)

    assert maker.stopped == [1]
    assert (bench.residency.leased, bench.dataplane.inside) == (0, 0)


async def test_a_client_that_takes_nothing_is_waited_for(
    bench: Bench, inference: Inference, maker: Maker
) -> None:
    """Parts are taken from their maker only as they can be written, so that it stops at its window."""
    gate = asyncio.Event()
    context = SlowContext(gate)
    maker.begins(part("0"))
    for number in range(1, 12):
        maker.streams.part(1, part(str(number)))
    context.send(asked("paris"))
    answering = asyncio.create_task(inference.stream(None, context))
    await until(lambda: context.waiting)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (maker.taken, context.waiting) == (0, 1)

    gate.set()
    await until(lambda: len(context.written) == 12)
    maker.streams.end(1)
    await answering
    assert maker.taken == 8


async def test_no_more_are_begun_than_may_be_and_one_that_ends_lets_another_in(
    bench: Bench, inference: Inference, maker: Maker
) -> None:
    context = FakeContext()
    answering = asyncio.create_task(inference.stream(None, context))
    for number in range(AHEAD):
        maker.begins(part("x"))
        context.send(asked("paris"), end=False)
        await until(lambda number=number: len(context.written) == number + 1)
    maker.begins(part("one more"))
    context.send(asked("paris"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(bench.residency.calls) == AHEAD

    maker.streams.end(1)
    await until(lambda: len(bench.residency.calls) == AHEAD + 1)
    for number in range(2, AHEAD + 2):
        maker.streams.end(number)
    await answering
    assert read(context.written[-1]) == ("one more", False)


class SlowContext(FakeContext):
    """Of a client that takes nothing until ``gate`` is set."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__()
        self.waiting = 0
        self._gate = gate

    async def write(self, message: bytes) -> Any:
        self.waiting += 1
        await self._gate.wait()
        await super().write(message)


class GoneContext(FakeContext):
    """Of a client that is not there any more."""

    async def write(self, message: bytes) -> Any:
        raise aio.InternalError("Failed to execute a batch")
