from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest

from hotset.api.dataplane import MOST_LOSSES, Answer
from hotset.errors import (
    ErrorKind,
    HotsetError,
    LoadFailedError,
    NotFoundError,
    OverloadedError,
    PredictFailedError,
    UnavailableError,
    WorkerDiedError,
)
from hotset.keys import ModelKey, ModelRef
from hotset.payload import Encoded
from hotset.workers.incoming import IncomingStreams
from unit.api.scripted import Bench, ManualTime, ScriptedModel
from waiting import until


async def infer(bench: Bench, ref: ModelRef, **options: Any) -> Answer:
    options = {"protocol": "test", "codec": "native", "body": b"{}"} | options
    return await bench.dataplane.infer(ref, **options)


def out_of_memory() -> UnavailableError:
    return UnavailableError("no memory left", kind=ErrorKind.OUT_OF_MEMORY)


async def test_a_hit_answers_under_one_lease(bench: Bench) -> None:
    answer = await infer(bench, ModelRef("paris"))

    assert answer.key == ModelKey("paris", 7)
    assert (answer.tier, answer.fetch_s, answer.load_s) == ("memory", 0.0, 0.0)
    assert bench.residency.leases_given == 1
    assert bench.observers["test"].good[0][1] == "memory"


async def test_a_miss_tells_where_it_was_found_and_what_it_took(bench: Bench) -> None:
    answer = await infer(bench, ModelRef("oslo"))

    assert (answer.tier, answer.fetch_s, answer.load_s) == ("disk", 0.25, 0.5)
    assert [tier for _, tier in bench.observers["test"].good] == ["disk"]


async def test_headers_and_query_reach_only_a_model_that_wants_them(bench: Bench) -> None:
    def never() -> tuple[tuple[str, str], ...]:
        raise AssertionError("headers were decoded for nobody")

    await infer(bench, ModelRef("paris"), query_string="a=1", headers=never, codec_headers=(("c", "1"),))
    bench.model("paris").wants = frozenset({"headers", "query_params"})
    await infer(bench, ModelRef("paris"), query_string="a=1", headers=lambda: (("h", "1"),))

    plain, wanting = bench.residency.calls
    assert (plain["query_string"], plain["headers"]) == ("", (("c", "1"),))
    assert (wanting["query_string"], wanting["headers"]) == ("a=1", (("h", "1"),))


@pytest.mark.parametrize(("client_s", "deadline_s"), [(None, 110.0), (3.0, 103.0), (60.0, 110.0)])
async def test_the_sooner_deadline_counts(client_s: float | None, deadline_s: float) -> None:
    bench = Bench(clock=ManualTime(), request_timeout_s=10.0)

    await infer(bench, ModelRef("oslo"), timeout_s=client_s)

    assert bench.residency.deadlines == [deadline_s]
    assert bench.residency.calls[0]["deadline_s"] == deadline_s


@pytest.mark.parametrize("error", [WorkerDiedError("child 3 ended"), out_of_memory()])
async def test_a_failure_of_the_place_is_tried_once_more_with_a_fresh_lease(
    bench: Bench, error: HotsetError
) -> None:
    bench.model("paris").steps = deque([error])

    answer = await infer(bench, ModelRef("paris"))

    assert answer.key == ModelKey("paris", 7)
    assert bench.residency.leases_given == 2
    assert not bench.observers["test"].bad


async def test_the_second_failure_of_the_place_is_the_answer(bench: Bench) -> None:
    bench.model("paris").steps = deque([WorkerDiedError("first"), out_of_memory(), WorkerDiedError("third")])

    with pytest.raises(UnavailableError, match="no memory left") as caught:
        await infer(bench, ModelRef("paris"))

    assert caught.value.key == ("paris", 7)
    assert bench.observers["test"].bad == [ErrorKind.OUT_OF_MEMORY]


async def test_what_killed_its_worker_itself_gets_no_third_attempt(bench: Bench) -> None:
    bench.model("paris").steps = deque([WorkerDiedError("first"), WorkerDiedError("second")])

    with pytest.raises(WorkerDiedError, match="second"):
        await infer(bench, ModelRef("paris"))

    assert bench.residency.leases_given == 2


async def test_what_died_of_another_model_is_tried_until_that_is_quarantined(bench: Bench) -> None:
    bench.residency.blameless.add("paris")
    bench.model("paris").steps = deque(WorkerDiedError(f"{number}") for number in range(1, MOST_LOSSES))

    answer = await infer(bench, ModelRef("paris"))

    assert answer.key == ModelKey("paris", 7)
    assert bench.residency.leases_given == MOST_LOSSES


async def test_nor_is_it_to_blame_for_a_worker_that_ended_before_it_was_given_the_call(bench: Bench) -> None:
    early = [UnavailableError("it ended just after the load", kind=ErrorKind.WORKER_DIED) for _ in range(3)]
    bench.model("paris").steps = deque([WorkerDiedError("first"), *early])

    answer = await infer(bench, ModelRef("paris"))

    assert answer.key == ModelKey("paris", 7)


async def test_and_not_for_ever(bench: Bench) -> None:
    bench.residency.blameless.add("paris")
    bench.model("paris").steps = deque(WorkerDiedError(f"number {number}") for number in range(1, 20))

    with pytest.raises(WorkerDiedError, match=f"number {MOST_LOSSES}"):
        await infer(bench, ModelRef("paris"))


@pytest.mark.parametrize("error", [PredictFailedError("ValueError: no"), OverloadedError("full")])
async def test_other_failures_are_not_tried_again(bench: Bench, error: HotsetError) -> None:
    bench.model("paris").steps = deque([error])

    with pytest.raises(type(error)) as caught:
        await infer(bench, ModelRef("paris", 2))

    assert caught.value.key == ("paris", 2)
    assert bench.residency.leases_given == 1
    assert bench.observers["test"].bad == [error.kind]


async def test_a_failed_load_and_an_unknown_name_are_counted_by_their_kind(bench: Bench) -> None:
    bench.model("oslo").lease_steps = deque([LoadFailedError("bad file")])
    with pytest.raises(LoadFailedError):
        await infer(bench, ModelRef("oslo"))
    with pytest.raises(NotFoundError):
        await infer(bench, ModelRef("atlantis"))

    assert bench.observers["test"].bad == [ErrorKind.LOAD_FAILED, ErrorKind.MODEL_NOT_FOUND]


async def test_an_error_that_is_not_ours_is_counted_as_internal_and_goes_on(bench: Bench) -> None:
    bench.model("paris").steps = deque([ZeroDivisionError()])

    with pytest.raises(ZeroDivisionError):
        await infer(bench, ModelRef("paris"))

    assert bench.observers["test"].bad == [ErrorKind.INTERNAL]


async def test_cancelled_in_predict_gives_the_lease_back(bench: Bench) -> None:
    bench.model("paris").steps = deque([asyncio.Event().wait])
    task = asyncio.create_task(infer(bench, ModelRef("paris")))
    await until(lambda: bench.residency.calls)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert bench.residency.leased == 0
    assert bench.dataplane.inside == 0
    assert not bench.observers["test"].bad


async def test_cancelled_in_the_step_in_which_its_answer_begins_it_stops_the_answer(bench: Bench) -> None:
    stopped: list[int] = []
    streams = IncomingStreams(taken=lambda _number, _count: None, stop=stopped.append)
    sent: asyncio.Future[Encoded] = asyncio.get_running_loop().create_future()
    lease = bench.residency.lease_now(ModelRef("paris"))
    assert lease is not None
    lease.predict = lambda **_call: sent  # type: ignore[method-assign]
    bench.residency.lease_now = lambda _ref: lease  # type: ignore[method-assign]
    task = asyncio.create_task(infer(bench, ModelRef("paris")))
    await until(lambda: bench.dataplane.inside)

    streams.begin(1, Encoded(b"first"), sent)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert stopped == [1]
    assert (bench.residency.leased, bench.dataplane.inside) == (0, 0)


async def test_cancelled_while_waiting_for_the_load_holds_nothing(bench: Bench) -> None:
    bench.model("oslo").lease_steps = deque([asyncio.Event().wait])
    task = asyncio.create_task(infer(bench, ModelRef("oslo")))
    await until(lambda: bench.residency.deadlines)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert bench.residency.leases_given == 0
    assert bench.dataplane.inside == 0


async def test_past_the_bound_requests_are_refused_and_the_others_are_not_hurt() -> None:
    bench = Bench(max_queue=2)
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait, go.wait])
    inside = [asyncio.create_task(infer(bench, ModelRef("paris"))) for _ in range(2)]
    await until(lambda: bench.dataplane.inside == 2)

    with pytest.raises(OverloadedError, match="at most 2") as caught:
        await infer(bench, ModelRef("acme/rome"))
    assert caught.value.retry_after_s
    go.set()

    assert [answer.key.version for answer in await asyncio.gather(*inside)] == [7, 7]
    await infer(bench, ModelRef("acme/rome"))
    assert bench.observers["test"].bad == [ErrorKind.OVERLOADED]


async def test_drain_refuses_the_new_and_waits_for_the_old(bench: Bench) -> None:
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    inside = asyncio.create_task(infer(bench, ModelRef("paris")))
    await until(lambda: bench.residency.calls)

    bench.dataplane.drain()
    bench.dataplane.drain()
    drained = asyncio.create_task(bench.dataplane.drained())
    with pytest.raises(UnavailableError) as caught:
        await infer(bench, ModelRef("paris"))

    assert caught.value.kind is ErrorKind.SHUTTING_DOWN
    assert not bench.dataplane.readiness().ready
    assert not drained.done()
    go.set()
    await asyncio.wait_for(drained, 5)
    assert (await inside).key == ModelKey("paris", 7)


async def test_an_idle_server_is_drained_at_once(bench: Bench) -> None:
    bench.dataplane.drain()
    await asyncio.wait_for(bench.dataplane.drained(), 5)


async def test_room_is_made_before_a_prediction_that_ran_out_of_memory_is_tried_again() -> None:
    bench = Bench(clock=ManualTime(), request_timeout_s=10.0)
    bench.model("paris").steps = deque([out_of_memory()])

    await infer(bench, ModelRef("paris"))

    assert bench.residency.relieved == [ModelKey("paris", 7)]
    assert bench.residency.deadlines == [110.0]


async def test_no_room_is_made_for_other_failures(bench: Bench) -> None:
    bench.model("paris").steps = deque([WorkerDiedError("child 3 ended")])

    await infer(bench, ModelRef("paris"))

    assert bench.residency.relieved == []


async def test_a_retry_may_find_another_version(bench: Bench) -> None:
    model = bench.model("paris")

    async def roll_over() -> None:
        model.versions.append(8)
        raise WorkerDiedError("ended")

    model.steps = deque([roll_over])
    assert (await infer(bench, ModelRef("paris"))).key == ModelKey("paris", 8)


async def test_two_models_do_not_wait_for_each_other(bench: Bench) -> None:
    go = asyncio.Event()
    bench.residency.scripted["slow"] = ScriptedModel([1], steps=deque([go.wait]))
    slow = asyncio.create_task(infer(bench, ModelRef("slow")))
    await until(lambda: bench.residency.calls)

    await infer(bench, ModelRef("paris"))

    assert not slow.done()
    go.set()
    await slow


async def test_what_is_cut_off_is_waited_for_no_longer() -> None:
    bench = Bench()
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    outcomes: list[object] = []
    bench.dataplane.start(ModelRef("paris"), protocol="test", codec="", body=b"", done=outcomes.append)
    bench.dataplane.drain()
    drained = asyncio.create_task(bench.dataplane.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    bench.dataplane.cut_off()
    bench.dataplane.drain()
    await drained
    go.set()
    await until(lambda: len(outcomes) == 1)
    assert bench.residency.leased == 0


async def test_what_is_started_is_answered_as_infer_answers() -> None:
    """In memory, cold, retried, refused, failed, broken: the same outcome and the same count, and no lease kept."""
    cases: list[tuple[str, list[object]]] = [
        ("paris", []),
        ("oslo", []),
        ("paris", [WorkerDiedError("gone")]),
        ("paris", [WorkerDiedError("gone"), WorkerDiedError("again")]),
        ("paris", [UnavailableError("no memory", kind=ErrorKind.OUT_OF_MEMORY)]),
        ("paris", [PredictFailedError("ValueError: no")]),
        ("paris", [RuntimeError("a fault of ours")]),
        ("rome", []),
    ]
    for name, steps in cases:
        seen = []
        for way in ("infer", "start"):
            bench = Bench()
            if steps:
                bench.model(name).steps = deque(steps)
            outcomes: list[Any] = []
            if way == "start":
                bench.dataplane.start(
                    ModelRef(name), protocol="test", codec="", body=b"", done=outcomes.append
                )
                await until(lambda outcomes=outcomes: len(outcomes) == 1)
            else:
                try:
                    outcomes.append(
                        await bench.dataplane.infer(ModelRef(name), protocol="test", codec="", body=b"")
                    )
                except Exception as error:
                    outcomes.append(error)
            observer = bench.observers["test"]
            told = outcomes[0] if isinstance(outcomes[0], Answer) else repr(outcomes[0])
            seen.append((told, len(observer.good), list(observer.bad), bench.dataplane.inside))
            assert bench.residency.leased == 0
        assert seen[0] == seen[1], name


class TestLeaseSoon:
    """A started prediction that waits for a load without a task of its own."""

    def start(self, bench: Bench, *, name: str = "oslo") -> list[Any]:
        outcomes: list[Any] = []
        bench.dataplane.start(ModelRef(name), protocol="test", codec="", body=b"", done=outcomes.append)
        return outcomes

    def waits(self, bench: Bench, name: str = "oslo") -> asyncio.Future[Any]:
        bench.model(name).soon = waiting = asyncio.get_running_loop().create_future()
        return waiting

    async def test_it_is_answered_when_the_lease_is_there(self) -> None:
        bench = Bench()
        waiting = self.waits(bench)
        outcomes = self.start(bench)
        tasks = len(asyncio.all_tasks())
        assert bench.dataplane.inside == 1
        waiting.set_result(await bench.residency.lease(ModelRef("oslo"), deadline_s=1.0))
        await until(lambda: len(outcomes) == 1)
        assert outcomes[0].key == ModelKey("oslo", 1)
        assert tasks == 1, "nothing but this test"
        assert (bench.residency.leased, bench.dataplane.inside) == (0, 0)
        assert not bench.dataplane.waiting

    async def test_what_answers_instead_is_asked_where_it_fails(self) -> None:
        bench = Bench()
        waiting = self.waits(bench)
        bench.model("oslo").instead = True
        outcomes = self.start(bench)
        waiting.set_exception(LoadFailedError("corrupt"))
        await until(lambda: len(outcomes) == 1)
        assert outcomes[0].key == ModelKey("oslo", 1)
        assert bench.residency.leased == 0

    async def test_a_failure_with_nothing_instead_is_told(self) -> None:
        bench = Bench()
        waiting = self.waits(bench)
        outcomes = self.start(bench)
        waiting.set_exception(LoadFailedError("corrupt"))
        await until(lambda: len(outcomes) == 1)
        assert isinstance(outcomes[0], LoadFailedError)
        assert bench.observers["test"].bad == [ErrorKind.LOAD_FAILED]
        assert bench.dataplane.inside == 0

    async def test_a_worker_that_died_meanwhile_is_worth_a_second_attempt(self) -> None:
        bench = Bench()
        waiting = self.waits(bench)
        outcomes = self.start(bench)
        waiting.set_exception(WorkerDiedError("just after it had loaded"))
        await until(lambda: len(outcomes) == 1)
        assert outcomes[0].key == ModelKey("oslo", 1)

    async def test_a_fault_of_ours_leaves_nobody_inside(self) -> None:
        bench = Bench()
        waiting = self.waits(bench)
        outcomes = self.start(bench)
        waiting.set_exception(RuntimeError("a fault of ours"))
        await until(lambda: len(outcomes) == 1)
        assert isinstance(outcomes[0], RuntimeError)
        assert bench.dataplane.inside == 0

    async def test_what_is_cut_off_waits_no_longer(self) -> None:
        bench = Bench()
        waiting = self.waits(bench)
        outcomes = self.start(bench)
        bench.dataplane.drain()
        bench.dataplane.cut_off()
        await bench.dataplane.drained()
        await until(lambda: len(outcomes) == 1)
        assert waiting.cancelled()
        assert isinstance(outcomes[0], UnavailableError)
        assert not bench.dataplane.waiting
