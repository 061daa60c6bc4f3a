"""Publishing: a version is offered whole or not at all, whatever ends the upload, and never taken twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from hotset.clock import SystemClock
from hotset.errors import InvalidInputError, StoreError
from hotset.keys import ModelKey
from hotset.publishing import Progress, Published, Publisher, Target
from hotset.store import ConflictError, ObjectMeta, Revision, WritableStore
from publishing_kit import FailingStore, objects, offered

Source = Callable[..., Path]
NEXT = Target("", "paris", None)


def at(version: str, name: str = "paris") -> Target:
    return Target("", name, version)


def publisher(store: WritableStore, report: Callable[[Progress], None] = lambda _: None) -> Publisher:
    return Publisher(store, clock=SystemClock(), report=report)


async def test_a_directory_becomes_a_version(store: WritableStore, source: Source) -> None:
    seen: list[Progress] = []
    files = source(model="weights", meta__info="x", _SUCCESS="an old marker", _PUBLISHING="an old claim")
    done = await publisher(store, seen.append).publish(files, at("3"))
    assert done == Published(ModelKey("paris", 3), f"{store.url.rstrip('/')}/paris/3", 2, 8)
    assert await objects(store) == {"paris/3/model": 7, "paris/3/meta/info": 1, "paris/3/_SUCCESS": 0}
    assert await offered(store) == {"paris": [3]}
    assert seen[-1] == Progress(2, 2, 8, 8)


async def test_one_file_becomes_a_version_too(store: WritableStore, source: Source) -> None:
    await publisher(store).publish(source(model="weights") / "model", at("v1"))
    assert await objects(store) == {"paris/v1/model": 7, "paris/v1/_SUCCESS": 0}


async def test_without_a_number_it_is_the_next(store: WritableStore, source: Source) -> None:
    for expected in (1, 2):
        assert (await publisher(store).publish(source(), NEXT)).key.version == expected
    await publisher(store).publish(source(), at("v9"))
    assert (await publisher(store).publish(source(), NEXT)).key.version == 10
    assert await offered(store) == {"paris": [1, 2, 9, 10]}


async def test_a_version_that_is_there_is_not_replaced_unasked(store: WritableStore, source: Source) -> None:
    await publisher(store).publish(source(), at("v3"))
    for folder in ("3", "v3"):
        with pytest.raises(InvalidInputError, match="in the store already; publish the next number"):
            await publisher(store).publish(source(), at(folder))
    assert set(await objects(store)) == {"paris/v3/model", "paris/v3/_SUCCESS"}


async def test_a_version_is_replaced_where_it_is_when_asked_to(store: WritableStore, source: Source) -> None:
    await publisher(store).publish(source(model="old", gone="x"), at("v3"))
    await publisher(store).publish(source("new", model="newer", more="y"), at("3"), overwrite=True)
    assert await objects(store) == {"paris/v3/model": 5, "paris/v3/more": 1, "paris/v3/_SUCCESS": 0}


async def test_a_model_without_version_directories_gets_none_by_accident(
    store: WritableStore, source: Source
) -> None:
    await store.write("paris/model", b"x")
    with pytest.raises(InvalidInputError, match="no version directories"):
        await publisher(store).publish(source(), NEXT)


async def test_files_that_no_store_could_hold_are_refused_before_anything_is_sent(
    store: WritableStore, source: Source, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="backslash"):
        await publisher(store).publish(source(**{"a\\b": "x"}), NEXT)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="found none"):
        await publisher(store).publish(tmp_path / "empty", NEXT)
    with pytest.raises(InvalidInputError, match="cannot read"):
        await publisher(store).publish(tmp_path / "absent", NEXT)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "loop").symlink_to(tmp_path)
    with pytest.raises(InvalidInputError, match="link to a directory"):
        await publisher(store).publish(tmp_path / "linked", NEXT)
    assert await objects(store) == {}


async def test_a_file_that_changes_while_it_is_sent_publishes_nothing(
    store: WritableStore, source: Source
) -> None:
    files = source(model="weights", other="x")

    def change(at_: Progress) -> None:
        if at_.files == 1:
            (files / "model").write_text("weight2")

    with pytest.raises(InvalidInputError, match="changed while it was uploaded"):
        await publisher(store, change).publish(files, NEXT)
    assert await objects(store) == {}, "and what was sent is removed"


@pytest.mark.parametrize("writes", range(6))
async def test_a_publisher_that_dies_at_any_moment_leaves_nothing_that_is_served(
    store: WritableStore, source: Source, writes: int
) -> None:
    """The marker, two files, _SUCCESS and the removal of the marker: five writes."""
    dying = FailingStore(store, writes=writes)
    files = source(model="weights", other="x")
    if writes < 5:
        with pytest.raises(StoreError, match="went away"):
            await publisher(dying).publish(files, NEXT)
        assert await offered(store) == {}
        await publisher(store).publish(files, NEXT)
        version = 1 if writes == 0 else 2
        assert await offered(store) == {"paris": [version]}, "the next one takes the next number"
    else:
        await publisher(dying).publish(files, NEXT)
        assert await offered(store) == {"paris": [1]}


@pytest.mark.parametrize("writes", range(1, 7))
async def test_a_publisher_that_dies_while_it_replaces_leaves_it_to_be_finished(
    store: WritableStore, source: Source, writes: int
) -> None:
    await publisher(store).publish(source(model="old", gone="x"), at("1"))
    new = source("new", model="newer")
    with pytest.raises(StoreError, match="went away") as raised:
        await publisher(FailingStore(store, writes=writes)).publish(new, at("1"), overwrite=True)
        pytest.skip("it was through")
    assert "half replaced" in raised.value.__notes__[0]
    assert await offered(store) == {}, "to a server that starts now; one that has it serves on what it has"
    await publisher(store).publish(new, at("1"), overwrite=True)
    assert await objects(store) == {"paris/1/model": 5, "paris/1/_SUCCESS": 0}


async def test_a_failure_removes_what_was_sent(store: WritableStore, source: Source) -> None:
    files = source(model="weights", other="x")
    seen: list[str] = []
    upload = store.upload

    async def fail_second(path: str, file: Path, *, sent: Callable[[int], None]) -> None:
        seen.append(path)
        if len(seen) == 2:
            raise StoreError("no")
        await upload(path, file, sent=sent)

    store.upload = fail_second  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="no"):
        await publisher(store).publish(files, NEXT)
    assert await objects(store) == {}


async def test_of_two_publishers_of_one_version_one_is_told(store: WritableStore, source: Source) -> None:
    outcomes = await asyncio.gather(
        publisher(store).publish(source("a", model="one"), at("1")),
        publisher(store).publish(source("b", model="other"), at("1")),
        return_exceptions=True,
    )
    (failure,) = (it for it in outcomes if isinstance(it, BaseException))
    assert isinstance(failure, InvalidInputError)
    assert any(reason in str(failure) for reason in ("being published by", "in the store already"))
    assert await offered(store) == {"paris": [1]}


async def test_publishers_of_the_next_version_get_different_ones(
    store: WritableStore, source: Source
) -> None:
    done = await asyncio.gather(
        *(publisher(store).publish(source(str(number), model=str(number)), NEXT) for number in range(8))
    )
    assert sorted(it.key.version for it in done) == [*range(1, 9)]
    assert await offered(store) == {"paris": [*range(1, 9)]}


async def test_a_publisher_that_comes_late_does_not_touch_what_another_has_finished(
    store: WritableStore, source: Source
) -> None:
    """It has listed the versions before the other began, and claims its number after the other has ended."""
    listing, overtaken = store.list, False

    def list_(prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        return pages(prefix)

    async def pages(prefix: str) -> AsyncIterator[Sequence[ObjectMeta]]:
        nonlocal overtaken
        found = [page async for page in listing(prefix)]
        if not overtaken:
            overtaken = True
            await publisher(store).publish(source("first", model="first"), NEXT)
        for page in found:
            yield page

    store.list = list_  # type: ignore[method-assign]
    done = await publisher(store).publish(source("second", model="second"), NEXT)
    assert done.key.version == 2
    assert await store.read("paris/1/model") == b"first"
    assert await offered(store) == {"paris": [1, 2]}


async def test_a_claim_whose_first_answer_was_lost_is_ours(store: WritableStore, source: Source) -> None:
    write_if = store.write_if

    async def answer_lost(path: str, data: bytes, revision: Revision | None) -> None:
        await write_if(path, data, revision)
        raise ConflictError("sent twice: the second finds the first")

    store.write_if = answer_lost  # type: ignore[method-assign]
    assert (await publisher(store).publish(source(), NEXT)).key.version == 1


async def test_somebody_elses_files_in_the_version_are_noticed(store: WritableStore, source: Source) -> None:
    async def intrude(path: str, file: Path, *, sent: Callable[[int], None]) -> None:
        await store.write("paris/1/theirs", b"x")
        await store.write(path, file.read_bytes())

    store.upload = intrude  # type: ignore[method-assign]
    with pytest.raises(InvalidInputError, match="somebody else writes into paris/1/"):
        await publisher(store).publish(source(), NEXT)
    assert await objects(store) == {"paris/1/theirs": 1}, "ours are removed, and theirs are theirs"


async def test_an_upload_that_did_not_arrive_is_noticed(store: WritableStore, source: Source) -> None:
    async def lose(path: str, file: Path, *, sent: Callable[[int], None]) -> None:
        await store.write(path, b"")

    store.upload = lose  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="does not show what was uploaded"):
        await publisher(store).publish(source(), NEXT)
    assert await offered(store) == {}
