"""What a host does with what it holds: predict, and let go."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from pathlib import Path
from typing import Any

import pytest

from hotset.errors import ErrorKind, InvalidInputError, LoadFailedError, PredictFailedError, UnavailableError
from hotset.runtimes.base import CallMeta
from hotset.workers.host import Held, Host
from worker_fakes import FakePayloadServable, FakeTensorServable, echo, fake_kit, raw_call, spec


def unload(host: Host, handle: int) -> None:
    def release(held: Held | None) -> None:
        if held is not None:
            host.release(held)

    host.retire(handle, release)
    host.reclaim(quiet=True)


def raising(error: BaseException) -> Any:
    def reply(payload: bytes, meta: CallMeta) -> bytes:
        raise error

    return reply


def test_a_payload_model_answers_with_its_own_name_and_version(tmp_path: Path) -> None:
    host = Host(
        fake_kit(
            lambda _: FakePayloadServable(lambda _, meta: f"{meta.model_name} {meta.model_version}".encode())
        )
    )
    reply = host.load(spec(tmp_path))
    assert (reply.runtime, reply.wants) == ("fake", frozenset({"payload"}))
    assert host.predict(raw_call()).body == b"paris 7"


def test_a_tensor_model_answers_through_the_codecs_tensors(tmp_path: Path) -> None:
    host = Host(fake_kit(lambda _: FakeTensorServable()))
    assert host.load(spec(tmp_path)).wants == frozenset()
    answer = host.predict(raw_call(body=b"abc"))
    assert (answer.body, answer.content_type) == (b"cba", "application/tensors")


def test_errors_of_the_tree_pass_and_others_are_named_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    servable = FakePayloadServable(echo)
    host = Host(fake_kit(lambda _: servable))
    host.load(spec(tmp_path))
    servable.reply = raising(InvalidInputError("field x"))
    with pytest.raises(InvalidInputError, match="field x"):
        host.predict(raw_call())
    assert not caplog.records
    servable.reply = raising(KeyError("y"))
    with caplog.at_level(logging.ERROR), pytest.raises(PredictFailedError, match="KeyError: 'y'"):
        host.predict(raw_call())
    assert caplog.records[0].exc_info
    servable.reply = raising(MemoryError())
    with pytest.raises(UnavailableError) as caught:
        host.predict(raw_call())
    assert caught.value.kind is ErrorKind.OUT_OF_MEMORY


@pytest.mark.usefixtures("caplog")
def test_a_load_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def make(_: Path) -> FakePayloadServable:
        raise ValueError("broken")

    host = Host(fake_kit(make))
    with pytest.raises(LoadFailedError, match="ValueError: broken"):
        host.load(spec(tmp_path))
    assert host.handles() == []


def test_an_unloaded_model_is_closed_once_and_every_reference_is_dropped(tmp_path: Path) -> None:
    closed: list[int] = []

    class Watched(FakePayloadServable):
        def close(self) -> None:
            super().close()
            closed.append(self.closed)

    made: list[weakref.ref[Watched]] = []

    def make(_: Path) -> Watched:
        servable = Watched(echo)
        servable.itself = servable  # type: ignore[attr-defined] # a cycle, as real models have
        made.append(weakref.ref(servable))
        return servable

    gc.disable()
    try:
        host = Host(fake_kit(make))
        host.load(spec(tmp_path))
        host.predict(raw_call())
        unload(host, 1)
        assert closed == [1]
        gc.collect()
        assert made[0]() is None
    finally:
        gc.enable()
    with pytest.raises(UnavailableError, match="unloaded"):
        host.predict(raw_call())


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3)])
def test_whatever_the_users_code_raises_is_one_calls_failure(tmp_path: Path, error: BaseException) -> None:
    def fail(_: Path) -> FakePayloadServable:
        raise error

    with pytest.raises(LoadFailedError):
        Host(fake_kit(fail)).load(spec(tmp_path))
    host = Host(fake_kit(lambda _: FakePayloadServable(raising(error))))
    host.load(spec(tmp_path))
    with pytest.raises(PredictFailedError):
        host.predict(raw_call())


def test_pace_is_a_moving_mean_and_goes_with_the_model(tmp_path: Path) -> None:
    host = Host(fake_kit(lambda _: FakePayloadServable(echo)))
    host.load(spec(tmp_path))
    assert host.pace_s(1) == 0.0
    host.note_pace(1, 1.0)
    assert host.pace_s(1) == 0.25
    unload(host, 1)
    host.note_pace(1, 1.0)
    assert host.pace_s(1) == 0.0
