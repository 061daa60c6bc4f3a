from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import types
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotset.errors import ErrorKind, InvalidInputError, LoadFailedError, PredictFailedError, UnavailableError
from hotset.keys import DiskFile
from hotset.runtimes.base import CallMeta
from hotset.workers.heap import HeapMeter
from hotset.workers.host import LEAST_WEIGHT, Held, Host, files_below
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


def test_what_was_written_to_while_it_was_read_is_not_kept(tmp_path: Path) -> None:
    """It may be as good a model, and is not the one that was published."""
    closed: list[bool] = []

    class Closing(FakeTensorServable):
        def close(self) -> None:
            closed.append(True)

    def make(path: Path) -> FakeTensorServable:
        (path / "model.bin").write_bytes(b"other")
        return Closing()

    file = tmp_path / "model.bin"
    file.write_bytes(b"model")
    published = DiskFile("model.bin", 5, file.stat().st_mtime_ns - 10**9)
    os.utime(file, ns=(published.modified_ns, published.modified_ns))
    host = Host(fake_kit(make))
    with pytest.raises(LoadFailedError) as raised:
        host.load(replace(spec(tmp_path), files=(published,)))
    assert raised.value.kind is ErrorKind.FILES_DAMAGED
    assert closed == [True]
    assert host.handles() == []


@pytest.mark.parametrize(
    "error", [ValueError("no JSON"), LoadFailedError("no JSON")], ids=lambda it: type(it).__name__
)
@pytest.mark.parametrize("is_damaged", [True, False])
def test_files_that_are_damaged_in_the_middle_of_a_load_are_to_blame_for_it(
    is_damaged: bool, error: Exception, tmp_path: Path
) -> None:
    """Regression: the version was taken for one that cannot be loaded, and its files were not fetched again."""
    file = tmp_path / "model.json"
    file.write_text("{}")
    published = (DiskFile(file.name, 2, file.stat().st_mtime_ns),)

    def load(_: object) -> FakePayloadServable:
        if is_damaged:
            file.write_text("{")
        raise error

    with pytest.raises(LoadFailedError) as raised:
        Host(fake_kit(load)).load(replace(spec(tmp_path), files=published))
    assert raised.value.kind == (ErrorKind.FILES_DAMAGED if is_damaged else ErrorKind.LOAD_FAILED)
    assert ("no JSON" in str(raised.value)) != is_damaged


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


def test_the_weight_is_the_heaps_growth_and_never_nothing(tmp_path: Path) -> None:
    readings = iter([0, 1_000_000, 1_000_000, 900_000])
    host = Host(fake_kit(lambda _: FakePayloadServable(echo)), meter=HeapMeter(lambda: next(readings)))
    assert host.load(spec(tmp_path, 1)).bytes == 1_000_000
    assert host.load(spec(tmp_path, 2)).bytes == LEAST_WEIGHT


def test_what_the_collector_finds_of_others_is_not_missing_in_a_weight(tmp_path: Path) -> None:
    class Ring:
        def __init__(self) -> None:
            self.itself = self
            self.block = bytearray(48 << 20)

    def make(_: Path) -> FakePayloadServable:
        servable = FakePayloadServable(echo)
        servable.kept = [bytearray(16 << 20), [{} for _ in range(100_000)]]  # type: ignore[attr-defined]
        return servable

    host = Host(fake_kit(make))
    gc.collect()
    Ring()  # whose block is garbage from now on
    assert host.load(spec(tmp_path, 1)).bytes > 16 << 20


def test_a_load_that_imports_its_framework_is_not_charged_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 10_000)

    def make(_: Path) -> FakeTensorServable:
        monkeypatch.setitem(sys.modules, "a_framework_of_this_test", types.ModuleType("x"))
        return FakeTensorServable()

    readings = iter([0, 50_000_000, 50_000_000, 50_012_345])
    host = Host(fake_kit(make), meter=HeapMeter(lambda: next(readings)))
    first, second = host.load(spec(tmp_path, 1)), host.load(spec(tmp_path, 2))
    assert (first.bytes, first.is_estimate) == (20_000, True)  # its files' size times the runtime's factor
    assert (second.bytes, second.is_estimate) == (12_345, False)


def test_a_weight_that_was_measured_before_survives_a_load_that_imports_its_framework(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 10_000)

    def make(_: Path) -> FakeTensorServable:
        monkeypatch.setitem(sys.modules, "another_framework_of_this_test", types.ModuleType("x"))
        return FakeTensorServable()

    readings = iter([0, 50_000_000])
    host = Host(fake_kit(make), meter=HeapMeter(lambda: next(readings)))
    known = 3 << 20
    reply = host.load(replace(spec(tmp_path, 1), weight=known))
    assert (reply.bytes, reply.is_estimate) == (known, False)


def test_what_the_users_own_code_imports_while_it_loads_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 10_000)

    def make(_: Path) -> FakePayloadServable:
        monkeypatch.setitem(sys.modules, "a_module_of_the_user", types.ModuleType("x"))
        return FakePayloadServable(echo)

    readings = iter([0, 50_000_000])
    host = Host(fake_kit(make), meter=HeapMeter(lambda: next(readings)))
    reply = host.load(spec(tmp_path, 1))
    assert (reply.bytes, reply.is_estimate) == (50_000_000, False)


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


def test_files_below_are_relative_sorted_and_with_slashes(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/x", "a", "b/y"):
        (tmp_path / name).touch()
    assert files_below(tmp_path) == ["a", "b/c/x", "b/y"]
    with pytest.raises(LoadFailedError, match="expected a directory"):
        files_below(tmp_path / "a")
