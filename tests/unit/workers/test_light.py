"""What is light is loaded and unloaded by the thread that asks; all else in threads of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotset.errors import HotsetError, LoadFailedError
from hotset.keys import DiskFile
from hotset.runtimes.base import Servable
from hotset.runtimes.modelyaml import ModelOptions
from hotset.workers import light as rules
from hotset.workers.base import LoadReply, LoadSpec
from hotset.workers.held import SMALL_WEIGHT
from hotset.workers.host import Host
from hotset.workers.kit import Choice
from hotset.workers.light import (
    LIGHT_LOAD_S,
    LIGHT_WAIT_S,
    STILL_LIGHT_S,
    LightVersions,
    Recipes,
)
from hotset.workers.loading import LoadThreads
from hotset.workers.reclaim import LITTLE_BYTES, Reclaimer
from worker_fakes import FakePayloadServable, FakeTensorServable, echo, fake_kit, raw_call, spec

LIMIT_S = 30.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine makes a load wait, which is none of its own doing."""
    monkeypatch.setattr(rules, "LIGHT_WAIT_S", LIMIT_S)


FILE = "model.bin"


class Bench:
    """Load threads at work, whose every load and unload notes in which thread it was done."""

    def __init__(self, folder: Path, make: Callable[[Path], Servable], **options: Any) -> None:
        (folder / FILE).write_bytes(b"model")
        self.spec = replace(spec(folder), files=(DiskFile(FILE, 5),), weight=5000)
        self.host = Host(fake_kit(make), reclaimer=options.pop("reclaimer", None))
        self.threads = LoadThreads(self.host, parallel_loads=1, at_once=True, **options)

    def load(self, handle: int, **changes: Any) -> tuple[LoadReply | HotsetError, int]:
        """Return the outcome, and the thread that it came from."""
        done: queue.SimpleQueue[tuple[LoadReply | HotsetError, int]] = queue.SimpleQueue()
        self.threads.load(
            replace(self.spec, handle=handle, **changes),
            lambda outcome: done.put((outcome, threading.get_ident())),
        )
        return done.get(timeout=LIMIT_S)

    def unload(self, handle: int) -> int:
        done: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.threads.unload(handle, lambda: done.put(threading.get_ident()))
        return done.get(timeout=LIMIT_S)


@contextmanager
def bench(folder: Path, make: Callable[[Path], Servable], **options: Any) -> Iterator[Bench]:
    it = Bench(folder, make, **options)
    it.threads.start()
    try:
        yield it
    finally:
        assert it.threads.close(LIMIT_S)


def tensors(_: Path) -> Servable:
    return FakeTensorServable()


def test_what_was_loaded_in_no_time_is_loaded_by_who_asks(tmp_path: Path) -> None:
    with bench(tmp_path, tensors) as it:
        first, thread = it.load(1)
        assert isinstance(first, LoadReply)
        assert thread != threading.get_ident()
        second, thread = it.load(2)
        assert second == first
        assert thread == threading.get_ident()
        assert it.host.handles() == [1, 2]


def test_a_plain_model_is_unloaded_by_who_asks(tmp_path: Path) -> None:
    with bench(tmp_path, tensors) as it:
        it.load(1)
        assert it.unload(1) == threading.get_ident()
        assert it.host.handles() == []


def test_models_with_code_of_their_own_never_keep_who_asks(tmp_path: Path) -> None:
    with bench(tmp_path, lambda _: FakePayloadServable(echo)) as it:
        assert it.load(1)[1] != threading.get_ident()
        assert it.load(2)[1] != threading.get_ident()
        assert it.unload(1) != threading.get_ident()


def test_tensors_by_code_of_their_own_never_keep_who_asks(tmp_path: Path) -> None:
    class WithCode(FakeTensorServable):
        brings_code = True

    with bench(tmp_path, lambda _: WithCode()) as it:
        it.load(1)
        assert it.load(2)[1] != threading.get_ident()
        assert it.unload(1) != threading.get_ident()


def test_a_load_that_takes_its_time_stays_in_a_thread(tmp_path: Path) -> None:
    def slow(_: Path) -> Servable:
        began_s = time.thread_time()
        while time.thread_time() - began_s <= LIGHT_LOAD_S:
            pass
        return FakeTensorServable()

    with bench(tmp_path, slow) as it:
        assert it.load(1)[1] != threading.get_ident()
        assert it.load(2)[1] != threading.get_ident()


def test_a_load_that_waits_for_something_stays_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no time of the processor, and would keep the thread that answers pings."""
    monkeypatch.setattr(rules, "LIGHT_WAIT_S", LIGHT_WAIT_S)

    def asleep(_: Path) -> Servable:
        time.sleep(LIGHT_WAIT_S)
        return FakeTensorServable()

    with bench(tmp_path, asleep) as it:
        assert it.load(1)[1] != threading.get_ident()
        assert it.load(2)[1] != threading.get_ident()


@pytest.mark.parametrize("weight", [None, SMALL_WEIGHT])
def test_what_is_not_known_to_be_small_is_loaded_in_a_thread(tmp_path: Path, weight: int | None) -> None:
    with bench(tmp_path, tensors) as it:
        it.load(1)
        assert it.load(2, weight=weight)[1] != threading.get_ident()


def test_a_failure_is_found_by_a_thread_and_makes_it_forget(tmp_path: Path) -> None:
    broken = False

    def make(_: Path) -> Servable:
        if broken:
            raise RuntimeError("no")
        return FakeTensorServable()

    with bench(tmp_path, make) as it:
        it.load(1)
        broken = True
        outcome, thread = it.load(2)
        assert isinstance(outcome, LoadFailedError)
        assert thread != threading.get_ident()
        broken = False
        assert it.load(3)[1] != threading.get_ident()
        assert it.load(4)[1] == threading.get_ident()


def test_damaged_files_are_found_in_a_light_version_too(tmp_path: Path) -> None:
    with bench(tmp_path, tensors) as it:
        it.load(1)
        (tmp_path / FILE).write_bytes(b"other")
        assert isinstance(it.load(2)[0], LoadReply)  # of the same size
        (tmp_path / FILE).write_bytes(b"longer than it was")
        outcome, _ = it.load(3)
        assert isinstance(outcome, LoadFailedError)
        assert "damaged" in str(outcome)


def test_the_last_prediction_hands_the_unload_to_a_thread(tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Waiting(FakeTensorServable):
        def infer(self, request: Any) -> Any:
            inside.set()
            assert go_on.wait(LIMIT_S)
            return super().infer(request)

    with bench(tmp_path, lambda _: Waiting()) as it:
        it.load(1)
        predicting = threading.Thread(target=it.host.predict, args=(raw_call(),))
        predicting.start()
        assert inside.wait(LIMIT_S)
        done: queue.SimpleQueue[int] = queue.SimpleQueue()
        it.threads.unload(1, lambda: done.put(threading.get_ident()))
        assert done.empty()
        go_on.set()
        assert done.get(timeout=LIMIT_S) not in {threading.get_ident(), predicting.ident}
        predicting.join(LIMIT_S)


def test_what_light_models_owe_is_paid_once_it_is_quiet(tmp_path: Path) -> None:
    trimmed = threading.Event()
    reclaimer = Reclaimer(collect=lambda: None, trim=trimmed.set)
    with bench(tmp_path, tensors, reclaimer=reclaimer) as it:
        it.load(1)
        reclaimer.released(LITTLE_BYTES, came_back=None)
        it.unload(1)
        assert it.host.owes
        assert trimmed.wait(LIMIT_S)


def test_it_is_not_quiet_while_light_models_come_and_go(tmp_path: Path) -> None:
    now_s = 0.0
    trimmed: list[None] = []
    reclaimer = Reclaimer(collect=lambda: None, trim=lambda: trimmed.append(None), now=lambda: now_s)
    it = Bench(tmp_path, tensors, reclaimer=reclaimer, now=lambda: now_s)
    it.host.load(it.spec)
    reclaimer.released(LITTLE_BYTES, came_back=None)
    it.unload(1)
    now_s = 1.9
    it.threads._reclaim()
    assert (trimmed, it.host.owes) == ([], True)
    now_s = 2.0
    it.threads._reclaim()
    assert (trimmed, it.host.owes) == ([None], False)


def test_it_is_not_quiet_while_models_are_swapped(tmp_path: Path) -> None:
    """A full collection every two seconds stopped the predictions of a child under churn for a tenth of a second each."""
    now_s = 0.0
    trimmed: list[None] = []
    reclaimer = Reclaimer(collect=lambda: None, trim=lambda: trimmed.append(None), now=lambda: now_s)
    it = Bench(tmp_path, tensors, reclaimer=reclaimer, now=lambda: now_s)
    it.host.load(it.spec)
    reclaimer.released(LITTLE_BYTES, came_back=None)
    now_s = 1.9
    assert it.host.swap(replace(it.spec, handle=2, after=(1,))).is_loaded
    now_s = 2.0
    it.threads._reclaim()
    assert (trimmed, it.host.owes) == ([], True)
    now_s = 3.9
    it.threads._reclaim()
    assert (trimmed, it.host.owes) == ([None], False)


def known(path: str, **changes: Any) -> LoadSpec:
    return replace(spec(Path(path)), **({"files": ((FILE, 5),), "weight": 5000} | changes))


def test_versions_are_known_by_their_files_and_forgotten_when_slow() -> None:
    light, choice = LightVersions(), fake_kit(tensors).runtimes.choice_for(spec(Path("a")), [FILE])
    light.note(known("a"), Path("a"), choice, took_s=LIGHT_LOAD_S, lasted_s=0.0)
    found = light.get(known("a"))
    assert found is not None
    assert (found.path, found.choice) == (Path("a"), choice)
    assert light.get(known("b")) is None
    assert light.get(known("a", files=(DiskFile(FILE, 6),))) is None
    light.note(known("a"), Path("a"), choice, took_s=STILL_LIGHT_S, lasted_s=0.0)
    assert light.get(known("a")) is not None, "once may be the machine's fault"
    light.note(known("a"), Path("a"), choice, took_s=STILL_LIGHT_S * 2, lasted_s=0.0)
    assert light.get(known("a")) is None


def test_files_that_nobody_published_are_never_known() -> None:
    light, choice = LightVersions(), fake_kit(tensors).runtimes.choice_for(spec(Path("a")), [FILE])
    light.note(known("a", files=None), Path("a"), choice, took_s=0.0, lasted_s=0.0)
    assert light.get(known("a", files=None)) is None


def test_it_does_not_grow_for_ever() -> None:
    light, choice = LightVersions(), fake_kit(tensors).runtimes.choice_for(spec(Path("a")), [FILE])
    for number in range(LightVersions.MOST + 1):
        light.note(known(str(number)), Path(str(number)), choice, took_s=0.0, lasted_s=0.0)
    assert light.get(known("0")) is None
    assert light.get(known(str(LightVersions.MOST))) is not None


class FakeRecipe:
    def __init__(self, bytes_: int = 100) -> None:
        self.bytes = bytes_
        self.loads = 0

    def load(self) -> FakeTensorServable:
        self.loads += 1
        return FakeTensorServable()


def test_what_can_be_built_again_is_not_read_again(tmp_path: Path) -> None:
    recipe = FakeRecipe()
    made: list[FakeTensorServable] = []

    def with_recipe(_: Path) -> Servable:
        made.append(FakeTensorServable(recipe))
        return made[-1]

    with bench(tmp_path, with_recipe) as it:
        first, _ = it.load(1)
        assert made[0].recipe is None, "kept once, and not with each model"
        second, _ = it.load(2)
        assert second == first
        assert (len(made), recipe.loads) == (1, 1)


def test_files_that_are_damaged_are_noticed_all_the_same(tmp_path: Path) -> None:
    recipe = FakeRecipe()

    def with_recipe(_: Path) -> Servable:
        return FakeTensorServable(recipe)

    with bench(tmp_path, with_recipe) as it:
        it.load(1)
        (tmp_path / FILE).write_bytes(b"mod")
        damaged, _ = it.load(2)
        assert isinstance(damaged, LoadFailedError)
        (tmp_path / FILE).write_bytes(b"model")
        it.load(3)
        assert recipe.loads == 0, "it was forgotten with the failure"


def test_a_recipe_belongs_to_the_files_that_it_came_from(tmp_path: Path) -> None:
    light = LightVersions()
    before = replace(spec(tmp_path), files=(DiskFile(FILE, 5),), weight=5000)
    after = replace(before, files=(DiskFile(FILE, 6),))
    choice = fake_kit(tensors).runtimes.choice_for(before, [FILE])
    recipe = FakeRecipe()
    light.note(before, tmp_path, choice, took_s=0.0, lasted_s=0.0, recipe=recipe)
    assert light.recipe(before) is recipe
    assert light.get(after) is None
    light.note(after, tmp_path, choice, took_s=0.0, lasted_s=0.0)
    assert light.get(after) is not None
    assert light.recipe(after) is None


def test_recipes_take_so_much_and_no_more() -> None:
    recipes = Recipes(1000)
    for number in range(10):
        recipes.keep(str(number), FakeRecipe(300))
    assert [number for number in range(10) if recipes.get(str(number)) is not None] == [7, 8, 9]
    recipes.keep("8", FakeRecipe(100))
    recipes.keep("10", FakeRecipe(300))
    assert [number for number in range(11) if recipes.get(str(number)) is not None] == [7, 8, 9, 10]
    recipes.keep("large", FakeRecipe(2000))
    assert recipes.get("large") is None
    recipes.drop("large")
    recipes.keep("1", FakeRecipe(1000))
    assert recipes.get("1") is not None


def test_what_model_yaml_asks_of_a_load_is_done_each_time(tmp_path: Path) -> None:
    """Regression: a light version with warm-up samples was warmed up by its first load alone."""
    recipe, made = FakeRecipe(), list[Path]()

    def with_recipe(path: Path) -> Servable:
        made.append(path)
        return FakeTensorServable(recipe)

    with bench(tmp_path, with_recipe) as it:
        source, asked = it.host._kit.runtimes, ModelOptions(most_rows=2)
        told = source.choice_for

        def choice_for(spec: LoadSpec, files: Sequence[str]) -> Choice:
            return replace(told(spec, files), options=asked)

        source.choice_for = choice_for  # type: ignore[method-assign]
        it.load(1)
        it.load(2)
        assert (len(made), recipe.loads) == (2, 0)
