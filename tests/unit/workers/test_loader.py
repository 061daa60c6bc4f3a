"""How a version's files become a model that is weighed: what is to blame, what it weighs, what is remembered of it."""

from __future__ import annotations

import gc
import os
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hotset.errors import ErrorKind, LoadFailedError
from hotset.keys import DiskFile
from hotset.runtimes.base import Servable
from hotset.workers import light
from hotset.workers.base import LoadSpec
from hotset.workers.heap import HeapMeter
from hotset.workers.loader import LEAST_WEIGHT, Loaded, Loader
from hotset.workers.loopthread import LoopThread
from worker_fakes import FakePayloadServable, FakeTensorServable, echo, fake_kit, spec


def loader(make: Callable[[Path], Servable], *readings: int) -> Loader:
    """One that finds the heap at these sizes, one after the other; at its own with none."""
    left = iter(readings)
    meter = HeapMeter(lambda: next(left)) if readings else HeapMeter()
    return Loader(fake_kit(make), meter, LoopThread())


def weight(loaded: Loaded) -> int:
    return loaded.weighed.weight


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
    with pytest.raises(LoadFailedError) as raised:
        loader(make).load(replace(spec(tmp_path), files=(published,)))
    assert raised.value.kind is ErrorKind.FILES_DAMAGED
    assert closed == [True]


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
        loader(load).load(replace(spec(tmp_path), files=published))
    assert raised.value.kind == (ErrorKind.FILES_DAMAGED if is_damaged else ErrorKind.LOAD_FAILED)
    assert ("no JSON" in str(raised.value)) != is_damaged


def test_the_weight_is_the_heaps_growth_and_never_nothing(tmp_path: Path) -> None:
    it = loader(lambda _: FakePayloadServable(echo), 0, 1_000_000, 1_000_000, 900_000)
    assert weight(it.load(spec(tmp_path, 1))) == 1_000_000
    assert weight(it.load(spec(tmp_path, 2))) == LEAST_WEIGHT


def test_what_the_collector_finds_of_others_is_not_missing_in_a_weight(tmp_path: Path) -> None:
    class Ring:
        def __init__(self) -> None:
            self.itself = self
            self.block = bytearray(48 << 20)

    def make(_: Path) -> FakePayloadServable:
        servable = FakePayloadServable(echo)
        servable.kept = [bytearray(16 << 20), [{} for _ in range(100_000)]]  # type: ignore[attr-defined]
        return servable

    it = loader(make)
    gc.collect()
    Ring()  # whose block is garbage from now on
    assert weight(it.load(spec(tmp_path, 1))) > 16 << 20


def test_a_load_that_imports_its_framework_is_not_charged_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 10_000)

    def make(_: Path) -> FakeTensorServable:
        monkeypatch.setitem(sys.modules, "a_framework_of_this_test", types.ModuleType("x"))
        return FakeTensorServable()

    it = loader(make, 0, 50_000_000, 50_000_000, 50_012_345)
    first, second = it.load(spec(tmp_path, 1)).weighed, it.load(spec(tmp_path, 2)).weighed
    assert first[1:] == (20_000, True)  # its files' size times the runtime's factor
    assert second[1:] == (12_345, False)


def test_a_weight_that_was_measured_before_survives_a_load_that_imports_its_framework(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 10_000)

    def make(_: Path) -> FakeTensorServable:
        monkeypatch.setitem(sys.modules, "another_framework_of_this_test", types.ModuleType("x"))
        return FakeTensorServable()

    known = 3 << 20
    loaded = loader(make, 0, 50_000_000).load(replace(spec(tmp_path, 1), weight=known))
    assert loaded.weighed[1:] == (known, False)


def test_what_the_users_own_code_imports_while_it_loads_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 10_000)

    def make(_: Path) -> FakePayloadServable:
        monkeypatch.setitem(sys.modules, "a_module_of_the_user", types.ModuleType("x"))
        return FakePayloadServable(echo)

    loaded = loader(make, 0, 50_000_000).load(spec(tmp_path, 1))
    assert loaded.weighed[1:] == (50_000_000, False)


class TestLight:
    """What a load that disturbed nobody is remembered for."""

    @pytest.fixture(autouse=True)
    def _patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A busy machine makes a load take and wait longer, which is none of its own doing."""
        monkeypatch.setattr(light, "LIGHT_LOAD_S", 60.0)
        monkeypatch.setattr(light, "LIGHT_WAIT_S", 60.0)

    @staticmethod
    def small(path: Path) -> LoadSpec:
        (path / "model.bin").write_bytes(b"model")
        return replace(spec(path), files=(DiskFile("model.bin", 5),), weight=5000)

    def test_it_is_light_once_it_was_loaded_and_learned(self, tmp_path: Path) -> None:
        it, small = loader(lambda _: FakeTensorServable()), self.small(tmp_path)
        loaded = it.load(small)
        assert not it.is_light(small)
        assert it.learn(small, loaded, is_plain=True)
        assert it.is_light(small)
        it.forget(small)
        assert not it.is_light(small)

    def test_one_with_code_of_its_own_never_is(self, tmp_path: Path) -> None:
        it, small = loader(lambda _: FakeTensorServable()), self.small(tmp_path)
        assert not it.learn(small, it.load(small), is_plain=False)
        assert not it.is_light(small)

    def test_one_that_fails_is_light_no_longer(self, tmp_path: Path) -> None:
        it, small = loader(lambda _: FakeTensorServable()), self.small(tmp_path)
        it.learn(small, it.load(small), is_plain=True)
        (tmp_path / "model.bin").unlink()
        with pytest.raises(LoadFailedError, match="missing"):
            it.load(small)
        assert not it.is_light(small)
