"""Models that a platform brings: loaded, pinned, refused without room, forgotten; and what comes at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hotset.errors import (
    ErrorKind,
    HotsetError,
    InvalidInputError,
    LoadFailedError,
    LoadingError,
    NotFoundError,
    OverloadedError,
)
from hotset.keys import ModelRef
from hotset.residency.given import GivenModels
from hotset.store import MountedStore
from residency_bench import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(
        tmp_path / "disk",
        MountedStore({}),  # type: ignore[arg-type]  # the bench takes what a replica takes
        model_dir=None,
        sagemaker=True,
        model_cache_size=2,
        sagemaker_roots=[str(tmp_path / "opt")],
    )
    await bench.start()
    try:
        yield bench
        bench.check()
    finally:
        await bench.stop()


@pytest.fixture
def given(bench: Bench) -> GivenModels:
    assert isinstance(bench.replica.discovery, GivenModels)
    return bench.replica.discovery


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    return tmp_path / "opt"


def bring(opt: Path, name: str, content: str = "weights") -> str:
    directory = opt / name / "model"
    directory.mkdir(parents=True)
    (directory / "file").write_text(content)
    return str(directory)


async def test_what_is_brought_is_loaded_and_pinned(bench: Bench, given: GivenModels, opt: Path) -> None:
    url = bring(opt, "a")
    assert await given.load("a", url)
    assert dict(given.loaded) == {"a": url}
    assert bench.in_memory() == {"a@1"}
    assert bench.memory.entries()[0].pinned
    assert await bench.ask("a") == "a@1|weights"


async def test_a_name_that_is_there_is_not_loaded_twice(bench: Bench, given: GivenModels, opt: Path) -> None:
    url = bring(opt, "a")
    assert [await given.load("a", url), await given.load("a", url)] == [True, False]
    at_once = await asyncio.gather(
        *(
            given.load("b", bring(opt, "b")) if i == 0 else given.load("b", str(opt / "b" / "model"))
            for i in range(3)
        )
    )
    assert sorted(at_once) == [False, False, True]
    assert bench.script.loads == {"a@1": 1, "b@1": 1}


async def test_what_is_forgotten_leaves_memory_disk_and_catalog(
    bench: Bench, given: GivenModels, opt: Path
) -> None:
    await given.load("a", bring(opt, "a"))
    await given.unload("a")
    assert not bench.in_memory()
    assert bench.memory.usage.bytes == 0
    assert not given.loaded
    await bench.settled()
    assert not bench.on_disk()
    for attempt in (given.unload("a"), bench.ask("a")):
        with pytest.raises(NotFoundError):
            await attempt
    assert await given.load("a", str(opt / "a" / "model")), "it may come again"


async def test_without_room_a_load_is_refused_at_once_and_nothing_leaves(
    bench: Bench, given: GivenModels, opt: Path
) -> None:
    for name in "ab":
        await given.load(name, bring(opt, name))
    url = bring(opt, "c")
    with pytest.raises(OverloadedError) as refused:
        await given.load("c", url)
    assert refused.value.kind is ErrorKind.NO_ROOM
    assert (bench.in_memory(), set(given.loaded)) == ({"a@1", "b@1"}, {"a", "b"})
    assert bench.script.loads["c@1"] == 0
    with pytest.raises(NotFoundError):
        await bench.ask("c")

    await given.unload("a")
    assert await given.load("c", url), "a refusal is not held against what comes next"


async def test_of_two_for_the_last_room_one_gets_it(bench: Bench, given: GivenModels, opt: Path) -> None:
    await given.load("a", bring(opt, "a"))
    both = await asyncio.gather(
        *(given.load(name, bring(opt, name)) for name in "bc"), return_exceptions=True
    )
    assert sorted(type(it).__name__ for it in both) == ["OverloadedError", "bool"]
    assert len(bench.in_memory()) == 2


async def test_what_weighs_more_than_there_is_room_for_is_refused_when_that_is_known(
    tmp_path: Path, opt: Path
) -> None:
    bench = Bench(
        tmp_path / "bytes",
        MountedStore({}),  # type: ignore[arg-type]
        model_dir=None,
        sagemaker=True,
        model_cache_size="100MB",
        sagemaker_roots=[str(opt)],
    )
    await bench.start()
    given = bench.replica.discovery
    assert isinstance(given, GivenModels)
    bench.script.weights.update(a=60_000_000, b=60_000_000)
    try:
        await given.load("a", bring(opt, "a"))
        with pytest.raises(OverloadedError):
            await given.load("b", bring(opt, "b"))
        assert bench.in_memory() == {"a@1"}
        assert len(bench.script.live) == 1, "what had loaded was unloaded again"
    finally:
        await bench.stop()


@pytest.mark.parametrize("name", ["", "..", "_a", "a/../b"])
async def test_a_name_that_is_none(given: GivenModels, opt: Path, name: str) -> None:
    with pytest.raises(InvalidInputError):
        await given.load(name, bring(opt, "a"))


async def test_a_name_inside_another(given: GivenModels, opt: Path) -> None:
    await given.load("a", bring(opt, "a"))
    with pytest.raises(InvalidInputError, match="lies inside"):
        await given.load("a/b", str(opt / "a" / "model"))
    assert set(given.loaded) == {"a"}


async def test_a_directory_that_is_not_there_or_empty(bench: Bench, given: GivenModels, opt: Path) -> None:
    with pytest.raises(NotFoundError, match="expected a directory"):
        await given.load("a", str(opt / "nowhere"))
    (opt / "empty").mkdir(parents=True)
    with pytest.raises(LoadFailedError, match="found none"):
        await given.load("a", str(opt / "empty"))
    assert bench.replica.store.url == "a list without models"


async def test_a_load_that_fails_leaves_nothing_and_can_be_tried_again(
    bench: Bench, given: GivenModels, opt: Path
) -> None:
    url = bring(opt, "a")
    bench.script.load_faults["a"] = LoadFailedError("torn")
    with pytest.raises(LoadFailedError, match="torn"):
        await given.load("a", url)
    await bench.settled()
    assert (len(given.loaded), bench.in_memory(), bench.on_disk(), bench.words()) == (0, set(), set(), set())
    del bench.script.load_faults["a"]
    assert await given.load("a", url)


async def test_a_load_whose_caller_leaves_leaves_nothing(bench: Bench, given: GivenModels, opt: Path) -> None:
    gate = bench.script.gate("a")
    gate.close()
    load = asyncio.create_task(given.load("a", bring(opt, "a")))
    await gate.arrived()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    gate.open()
    await bench.settled()
    assert (len(given.loaded), bench.in_memory()) == (0, set())


async def test_it_is_unloaded_when_its_requests_have_ended(
    bench: Bench, given: GivenModels, opt: Path
) -> None:
    await given.load("a", bring(opt, "a"))
    lease = await bench.lease("a")
    unload = asyncio.create_task(given.unload("a"))
    async with asyncio.timeout(10):
        while bench.in_memory():
            await asyncio.sleep(0)
    with pytest.raises(NotFoundError):
        await bench.ask("a")
    assert not unload.done()
    again = asyncio.create_task(given.load("a", str(opt / "a" / "model")))
    lease.release()
    await unload
    assert await again, "which waited for the other to have gone"
    assert bench.in_memory() == {"a@1"}


async def test_an_unload_that_takes_too_long_says_so_and_goes_on(
    bench: Bench, given: GivenModels, opt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await given.load("a", bring(opt, "a"))
    lease = await bench.lease("a")
    monkeypatch.setattr(given, "_limit_s", 0.01)
    with pytest.raises(LoadingError):
        await given.unload("a")
    lease.release()
    await bench.settled()
    assert not bench.in_memory()


async def test_a_pin_outlives_the_worker(bench: Bench, given: GivenModels, opt: Path) -> None:
    await given.load("a", bring(opt, "a"))
    bench.workers[0].die()
    await bench.settled()
    assert await bench.ask("a") == "a@1|weights"
    entry = bench.memory.find(ModelRef("a"))
    assert entry is not None
    assert entry.pinned


@pytest.mark.parametrize(
    "url", ["/etc", "/", "{opt}/../elsewhere", "{opt}/link", "{opt}/link/model", "{opt}x"]
)
async def test_what_is_not_below_an_allowed_directory_is_refused(
    bench: Bench, given: GivenModels, opt: Path, tmp_path: Path, url: str
) -> None:
    bring(tmp_path / "elsewhere", "")
    opt.mkdir(exist_ok=True)
    (opt / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HotsetError, match="expected a directory below one of") as caught:
        await given.load("a", url.format(opt=opt))
    assert caught.value.kind is ErrorKind.FORBIDDEN
    assert not bench.in_memory()
    assert not given.loaded


async def test_a_link_that_stays_below_is_followed(bench: Bench, given: GivenModels, opt: Path) -> None:
    bring(opt, "a")
    (opt / "link").symlink_to(opt / "a" / "model")
    assert await given.load("a", str(opt / "link"))
    assert bench.in_memory() == {"a@1"}
