from __future__ import annotations

import importlib
import queue
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotset.errors import OverloadedError, WorkerDiedError
from hotset.workers.base import LoadReply, LoadSpec
from hotset.workers.host import Host
from hotset.workers.imports import imports
from hotset.workers.loading import LoadThreads
from hotset.workers.reclaim import LITTLE_BYTES, Reclaimer
from worker_fakes import FakePayloadServable, echo, fake_kit, raw_call, spec

LIMIT_S = 30.0


def all_ended(threads: LoadThreads) -> bool:
    for thread in (*threads._loaders, threads._unloader):
        thread.join(LIMIT_S)
    return not any(thread.is_alive() for thread in (*threads._loaders, threads._unloader))


@contextmanager
def running(host: Host, **options: Any) -> Iterator[LoadThreads]:
    threads = LoadThreads(host, parallel_loads=2, **options)
    threads.start()
    try:
        yield threads
    finally:
        assert threads.close(LIMIT_S)


def test_what_is_owed_is_paid_once_it_is_quiet(tmp_path: Path) -> None:
    trimmed = threading.Event()
    reclaimer = Reclaimer(collect=lambda: None, trim=trimmed.set)
    host = Host(fake_kit(lambda _: FakePayloadServable(echo)), reclaimer=reclaimer)
    for handle in range(300):
        host.load(spec(tmp_path, handle))
    reclaimer.released(LITTLE_BYTES, came_back=None)
    with running(host) as threads:
        done: queue.SimpleQueue[int] = queue.SimpleQueue()
        for handle in range(300):
            threads.unload(handle, lambda handle=handle: done.put(handle))
        assert [done.get(timeout=LIMIT_S) for _ in range(300)] == list(range(300))
        assert trimmed.wait(LIMIT_S)
    assert not host.owes


def test_an_unknown_handle_owes_nothing() -> None:
    host = Host(fake_kit(lambda _: FakePayloadServable(echo)))
    with running(host) as threads:
        done = threading.Event()
        threads.unload(9, done.set)
        assert done.wait(LIMIT_S)
        assert not host.owes


def test_busy_is_told_of_the_first_load_and_the_last(tmp_path: Path) -> None:
    inside = threading.Barrier(3)
    told: list[bool] = []

    def make(_: Path) -> FakePayloadServable:
        inside.wait(LIMIT_S)
        return FakePayloadServable(echo)

    replies: queue.SimpleQueue[object] = queue.SimpleQueue()
    with running(Host(fake_kit(make)), busy=told.append) as threads:
        threads.load(spec(tmp_path, 1), replies.put)
        threads.load(spec(tmp_path, 2), replies.put)
        inside.wait(LIMIT_S)
        assert all(isinstance(replies.get(timeout=LIMIT_S), LoadReply) for _ in range(2))
    assert told == [True, False]


def test_close_refuses_queued_loads_and_unloads_what_is_there(tmp_path: Path) -> None:
    inside, go_on = threading.Barrier(3), threading.Event()
    made: list[FakePayloadServable] = []

    def make(_: Path) -> FakePayloadServable:
        made.append(FakePayloadServable(echo))
        inside.wait(LIMIT_S)
        assert go_on.wait(LIMIT_S)
        return made[-1]

    host = Host(fake_kit(make))
    replies: queue.SimpleQueue[object] = queue.SimpleQueue()
    threads = LoadThreads(host, parallel_loads=2)
    threads.start()
    for handle in range(3):
        threads.load(spec(tmp_path, handle), replies.put)
    inside.wait(LIMIT_S)
    closing = threading.Thread(target=threads.close, args=(LIMIT_S,))
    closing.start()
    while not threads._closing:
        pass
    go_on.set()
    closing.join(LIMIT_S)
    assert not closing.is_alive()
    kinds = sorted(type(replies.get(timeout=LIMIT_S)).__name__ for _ in range(3))
    assert kinds == [LoadReply.__name__, LoadReply.__name__, WorkerDiedError.__name__]
    assert len(made) == 2
    assert host.handles() == []
    assert sorted(servable.closed for servable in made) in ([0, 2], [1, 1])


def test_what_is_free_is_given_back_behind_the_unloads_that_were_asked_for(tmp_path: Path) -> None:
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    host = Host(fake_kit(lambda _: FakePayloadServable(echo)))
    host.trim = lambda: done.put("trimmed")  # type: ignore[method-assign]
    with running(host) as threads:
        host.load(spec(tmp_path, 1))
        threads.unload(1, lambda: done.put("unloaded"))
        threads.trim()
        threads.unload(2, lambda: done.put("no such model"))
        assert [done.get(timeout=LIMIT_S) for _ in range(3)] == ["unloaded", "trimmed", "no such model"]


def test_close_gives_up_on_a_prediction_that_goes_on(tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def reply(payload: bytes, _: object) -> bytes:
        inside.set()
        assert go_on.wait(LIMIT_S)
        return payload

    host = Host(fake_kit(lambda _: FakePayloadServable(reply)))
    host.load(spec(tmp_path))
    predicting = threading.Thread(target=host.predict, args=(raw_call(),))
    predicting.start()
    assert inside.wait(LIMIT_S)
    threads = LoadThreads(host, parallel_loads=1)
    threads.start()
    assert not threads.close(0.05)  # the model stays with its prediction
    go_on.set()
    assert all_ended(threads)
    predicting.join(LIMIT_S)
    assert not predicting.is_alive()


SIDE = """
import {name}_meets
{name}_meets.once()
import {other}
"""


def test_two_loads_whose_imports_wait_for_each_other_both_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: Python ends such a deadlock by failing one of the two, and a first load failed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    both = threading.Barrier(2)
    names = {1: "left_side", 2: "right_side"}
    for name, other in (("left_side", "right_side"), ("right_side", "left_side")):
        (tmp_path / f"{name}.py").write_text(SIDE.format(name=name, other=other))
        meets = types.ModuleType(f"{name}_meets")
        meetings = iter([both.wait])
        meets.once = lambda meetings=meetings: next(meetings, lambda: None)()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"{name}_meets", meets)
        (tmp_path / name).mkdir()

    def made(path: Path) -> FakePayloadServable:
        importlib.import_module(path.name)
        return FakePayloadServable(echo)

    outcomes: queue.SimpleQueue[object] = queue.SimpleQueue()
    with running(Host(fake_kit(made))) as threads:
        for handle, name in names.items():
            threads.load(spec(tmp_path / name, handle), outcomes.put)
        results = [outcomes.get(timeout=LIMIT_S) for _ in names]
    for name in names.values():
        monkeypatch.delitem(sys.modules, name)
    assert all(isinstance(it, LoadReply) for it in results), results


def test_a_load_waits_for_what_is_imported_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    go = threading.Event()
    gate = types.ModuleType("slow_gate")
    gate.go = go  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slow_gate", gate)
    (tmp_path / "slow_framework.py").write_text("import slow_gate\nslow_gate.go.wait(30)\n")
    (tmp_path / "files").mkdir()
    outcomes: queue.SimpleQueue[object] = queue.SimpleQueue()
    with running(Host(fake_kit(lambda _: FakePayloadServable(echo)))) as threads:
        imports.start(["slow_framework"])
        threads.load(spec(tmp_path / "files"), outcomes.put)
        with pytest.raises(queue.Empty):
            outcomes.get(timeout=0.1)
        go.set()
        assert isinstance(outcomes.get(timeout=LIMIT_S), LoadReply)
    monkeypatch.delitem(sys.modules, "slow_framework")


class Slow:
    """A host whose models say when their unload begins, and end it when they are let go; all that is told is noted."""

    def __init__(self, folder: Path) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.told: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.host = Host(fake_kit(lambda _: self))
        for handle in (1, 2):
            self.host.load(spec(folder, handle))

    signature, wants = FakePayloadServable.signature, FakePayloadServable.wants

    def predict(self, payload: bytes, _: object) -> bytes:
        self.wait()
        return payload

    def close(self) -> None:
        self.wait()

    def wait(self) -> None:
        self.inside.set()
        assert self.go_on.wait(LIMIT_S)

    def next_told(self) -> object:
        return self.told.get(timeout=LIMIT_S)

    @contextmanager
    def predicting(self, handle: int) -> Iterator[None]:
        thread = threading.Thread(target=self.host.predict, args=(raw_call(handle),))
        thread.start()
        assert self.inside.wait(LIMIT_S)
        try:
            yield
        finally:
            self.go_on.set()
            thread.join(LIMIT_S)
            assert not thread.is_alive()


def after(path: Path, handle: int, *models: int) -> LoadSpec:
    return replace(spec(path, handle), after=models)


def test_a_load_waits_until_those_before_it_are_gone(tmp_path: Path) -> None:
    slow = Slow(tmp_path)
    with running(slow.host) as threads:
        threads.unload(1, lambda: slow.told.put("1 is gone"))
        threads.unload(2, lambda: slow.told.put("2 is gone"))
        assert slow.inside.wait(LIMIT_S)
        threads.load(after(tmp_path, 3, 1, 2), lambda _: slow.told.put("3 is there"))
        threads.load(spec(tmp_path, 4), lambda _: slow.told.put("4 is there"))
        assert slow.next_told() == "4 is there"
        assert slow.host.handles() == [4]
        slow.go_on.set()
        assert [slow.next_told() for _ in range(3)] == ["1 is gone", "2 is gone", "3 is there"]
        assert sorted(slow.host.handles()) == [3, 4]


def test_a_load_may_be_asked_for_before_the_unload(tmp_path: Path) -> None:
    slow = Slow(tmp_path)
    slow.go_on.set()
    with running(slow.host) as threads:
        threads.load(after(tmp_path, 3, 2), lambda _: slow.told.put("3 is there"))
        assert slow.told.empty()
        threads.unload(2, lambda: slow.told.put("2 is gone"))
        assert [slow.next_told(), slow.next_told()] == ["2 is gone", "3 is there"]


def test_a_load_behind_models_that_are_gone_or_never_were_does_not_wait(tmp_path: Path) -> None:
    slow = Slow(tmp_path)
    slow.go_on.set()
    with running(slow.host) as threads:
        threads.unload(2, lambda: slow.told.put("2 is gone"))
        assert slow.next_told() == "2 is gone"
        threads.load(after(tmp_path, 3, 2, 99), lambda _: slow.told.put("3 is there"))
        assert slow.next_told() == "3 is there"


@pytest.mark.parametrize("load_first", [False, True])
def test_a_load_behind_a_model_in_use_is_refused(tmp_path: Path, load_first: bool) -> None:
    slow = Slow(tmp_path)
    with running(slow.host) as threads, slow.predicting(1):
        if load_first:
            threads.load(after(tmp_path, 3, 1), slow.told.put)
            assert slow.told.empty()
        threads.unload(1, lambda: None)
        if not load_first:
            threads.load(after(tmp_path, 3, 1), slow.told.put)
        refused = slow.next_told()
        assert isinstance(refused, OverloadedError)
        assert "still in use" in str(refused)


def test_a_load_that_still_waits_is_refused_at_the_end(tmp_path: Path) -> None:
    slow = Slow(tmp_path)
    threads = LoadThreads(slow.host, parallel_loads=1)
    threads.start()
    threads.unload(1, lambda: None)
    assert slow.inside.wait(LIMIT_S)
    threads.load(after(tmp_path, 3, 1), slow.told.put)
    threads.close(0.05)
    assert isinstance(slow.next_told(), WorkerDiedError)
    slow.go_on.set()
    assert all_ended(threads)
    assert 3 not in slow.host.handles()
