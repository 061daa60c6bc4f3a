"""A store that is away, slow, refuses or lies: a plain ``StoreError`` in bounded time, and never a file left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from pathlib import Path

import pytest

from fault_server import (
    BODY,
    ETAG,
    Fault,
    FaultServer,
    Headers,
    answers,
    fault_server,
    hangs,
    hangs_midway,
    listing,
    response,
    whole,
)
from hotset.errors import StoreError
from hotset.store import (
    ObjectChangedError,
    ObjectMeta,
    ObjectStore,
    StoreBusyError,
    StoreLimits,
    open_store,
)
from waiting import until

LISTED = ObjectMeta(path="m/1/weights", size=len(BODY), etag=ETAG, modified_s=1.7e9)
QUICK = StoreLimits(
    connect_timeout_s=1, read_timeout_s=0.3, max_retries=1, retry_timeout_s=1, part_bytes=64 << 10
)


def store_at(server: FaultServer) -> ObjectStore:
    return open_store("s3://bucket", options=server.options, limits=QUICK)


async def listed(store: ObjectStore) -> list[ObjectMeta]:
    return [object_ async for page in store.list() for object_ in page]


BROKEN = {
    "hangs": (hangs, "no answer in time"),
    "500": (answers(response("500 Oops", b"<Code>InternalError</Code>")), "HTTP 500 InternalError"),
    "503": (answers(response("503 Slow Down", b"<Code>SlowDown</Code>")), "HTTP 503 SlowDown"),
    "403": (answers(response("403 Forbidden", b"<Code>AccessDenied</Code>")), "HTTP 403.*credentials"),
    "401": (answers(response("401 Unauthorized")), "HTTP 401.*credentials"),
    "nothing": (answers(b""), "failed"),
    "not HTTP": (answers(b"SSH-2.0-OpenSSH_9.6\r\n"), "failed"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_store_is_a_store_error_everywhere(name: str, tmp_path: Path) -> None:
    fault, message = BROKEN[name]
    async with fault_server(fault) as server:
        store = store_at(server)
        with pytest.raises(StoreError, match=message) as failed:
            await listed(store)
        assert failed.value.__cause__ is not None
        with pytest.raises(StoreError, match=message):
            await store.read("m/label.json")
        with pytest.raises(StoreError, match=message):
            await store.download(LISTED, tmp_path / "target")
        assert not (tmp_path / "target").exists()
        assert "\n" not in str(failed.value)


async def test_a_refused_connection(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody else gets it, and it refuses
        options = {"endpoint": f"http://127.0.0.1:{taken.getsockname()[1]}", "skip_signature": "true"}
        store = open_store("s3://bucket", options=options, limits=QUICK)
        with pytest.raises(StoreError, match="refused"):
            await listed(store)
        with pytest.raises(StoreError, match="refused"):
            await store.download(LISTED, tmp_path / "target")
    assert not (tmp_path / "target").exists()


async def test_a_missing_bucket_is_no_empty_store() -> None:
    async with fault_server(answers(response("404 Not Found", b"<Code>NoSuchBucket</Code>"))) as server:
        with pytest.raises(StoreError, match="NoSuchBucket"):
            await listed(store_at(server))


@pytest.mark.parametrize("body", [b"", b"ok", b"{}", b"<ListBucketResult><Contents>"])
async def test_a_listing_that_is_not_one(body: bytes) -> None:
    async with fault_server(answers(response("200 OK", body))) as server:
        with pytest.raises(StoreError):
            await listed(store_at(server))


@pytest.mark.parametrize("whole_object", [True, False], ids=["whole", "parts"])
@pytest.mark.parametrize(
    "fault",
    [answers(response("200 OK", BODY[:1000], length=len(BODY), ETag=f'"{ETAG}"')), hangs_midway],
    ids=["truncated", "stalled"],
)
async def test_a_body_cut_short(fault: Fault, whole_object: bool, tmp_path: Path) -> None:
    async with fault_server(fault) as server:
        limits = StoreLimits(read_timeout_s=0.3, max_retries=1, part_bytes=(1 if whole_object else 64) << 20)
        store = open_store("s3://bucket", options=server.options, limits=limits)
        with pytest.raises(StoreError) as failed:
            await store.download(LISTED, tmp_path / "target")
        assert not isinstance(failed.value, ObjectChangedError)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    "fault",
    [
        whole(etag='"other"'),
        whole(body=BODY[:-1]),
        whole(body=BODY + b"x"),
        answers(response("404 Not Found")),
    ],
    ids=["etag", "shorter", "longer", "gone"],
)
async def test_another_object_than_the_listed_one(fault: Fault, tmp_path: Path) -> None:
    async with fault_server(fault) as server:
        with pytest.raises(ObjectChangedError, match="m/1/weights"):
            await store_at(server).download(LISTED, tmp_path / "target")
    assert not (tmp_path / "target").exists()


async def test_a_store_without_ranges_is_asked_for_the_whole_from_then_on(tmp_path: Path) -> None:
    async with fault_server(whole()) as server:
        store = store_at(server)
        await store.download(LISTED, tmp_path / "first")
        asked = len(server.requests)
        await store.download(LISTED, tmp_path / "second")
        assert len(server.requests) == asked + 1
        assert "range" not in server.requests[-1][1]
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes() == BODY


@pytest.mark.parametrize("etag", [f'"{ETAG}"', f'W/"{ETAG}"', ETAG])
async def test_a_store_that_misunderstands_conditions(etag: str, tmp_path: Path) -> None:
    async def fault(_target: str, headers: Headers, writer: asyncio.StreamWriter) -> None:
        refused = response("412 Precondition Failed")
        writer.write(refused if "if-match" in headers else response("200 OK", BODY, ETag=etag))
        await writer.drain()

    async with fault_server(fault) as server:
        store = open_store("s3://bucket", options=server.options)
        await store.download(LISTED, tmp_path / "first")
        asked = len(server.requests)
        await store.download(LISTED, tmp_path / "second")
        assert len(server.requests) == asked + 1
    assert (tmp_path / "second").read_bytes() == BODY


async def test_the_condition_is_sent(tmp_path: Path) -> None:
    async with fault_server(whole()) as server:
        await open_store("s3://bucket", options=server.options).download(LISTED, tmp_path / "target")
        assert server.requests[0][1]["if-match"] == f'"{ETAG}"'


@pytest.mark.parametrize("etag", ["", '""'], ids=["none", "empty"])
async def test_without_etags_the_time_of_the_last_change_stands_in(etag: str, tmp_path: Path) -> None:
    async with fault_server(answers(response("200 OK", listing("m/1/weights", etag=etag)))) as server:
        store = open_store("s3://bucket", options=server.options)
        object_ = (await listed(store))[0]
        assert object_.etag == f"modified-{int(object_.modified_s)}"
        server.fault = answers(response("200 OK", BODY))
        await store.download(object_, tmp_path / "target")
        assert "if-match" not in server.requests[-1][1]
        changed = ObjectMeta(path=object_.path, size=object_.size, etag="modified-1", modified_s=1.0)
        with pytest.raises(ObjectChangedError):
            await store.download(changed, tmp_path / "other")
    assert (tmp_path / "target").read_bytes() == BODY


async def test_one_retry_is_enough_when_the_store_recovers(tmp_path: Path) -> None:
    async def fault(target: str, headers: Headers, writer: asyncio.StreamWriter) -> None:
        server.fault = whole()
        await answers(response("503 Slow Down"))(target, headers, writer)

    async with fault_server(fault) as server:
        await open_store("s3://bucket", options=server.options).download(LISTED, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == BODY


async def test_cancelled_while_the_store_hangs(tmp_path: Path) -> None:
    async with fault_server(hangs) as server:
        task = asyncio.create_task(store_at(server).download(LISTED, tmp_path / "target"))
        await until(lambda: bool(server.requests))
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
    assert not (tmp_path / "target").exists()


async def test_no_more_requests_at_once_than_the_limit(tmp_path: Path) -> None:
    under_way = most = 0

    async def fault(target: str, headers: Headers, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(20):
            await asyncio.sleep(0)
        under_way -= 1
        await whole()(target, headers, writer)

    async with fault_server(fault) as server:
        store = open_store("s3://bucket", options=server.options, limits=StoreLimits(max_parallel=3))
        await asyncio.gather(*(store.download(LISTED, tmp_path / str(number)) for number in range(12)))
    assert 1 < most <= 3


async def test_an_error_never_shows_a_query(tmp_path: Path) -> None:
    async with fault_server(answers(b"")) as server:
        with pytest.raises(StoreError) as failed:
            await listed(store_at(server))
    assert "list-type" not in str(failed.value)


async def test_a_file_that_cannot_grow_is_the_disks_error(tmp_path: Path) -> None:
    store = open_store("memory://", limits=StoreLimits(part_bytes=1 << 20))
    await store.write("m/1/weights", os.urandom(8 << 20))
    object_ = (await listed(store))[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, hard))
    try:
        with pytest.raises(OSError, match="File too large") as failed:
            await store.download(object_, tmp_path / "target")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed.value.errno == errno.EFBIG
    assert not (tmp_path / "target").exists()


async def test_a_store_that_says_for_how_long_it_refuses_is_not_asked_meanwhile(tmp_path: Path) -> None:
    refused = response("503 Slow Down", b"<Code>SlowDown</Code>", Retry_After="60")
    async with fault_server(answers(refused)) as server:
        options = {**server.options, "access_key_id": "key", "secret_access_key": "secret"}
        del options["skip_signature"]
        store = open_store("s3://bucket", options=options, limits=QUICK)
        with pytest.raises(StoreBusyError, match="HTTP 503 SlowDown") as failed:
            await store.download(LISTED, tmp_path / "target")
        assert failed.value.retry_after_s == pytest.approx(60, abs=10)
        asked = len(server.requests)
        for work in (listed(store), store.read("m/x"), store.download(LISTED, tmp_path / "target")):
            with pytest.raises(StoreBusyError, match="has asked for a pause") as paused:
                await work
            assert paused.value.retry_after_s == pytest.approx(60, abs=20)
        assert len(server.requests) == asked
        assert "Signature" not in str(failed.value)


async def test_bytes_that_are_not_the_objects_are_asked_for_once_more(tmp_path: Path) -> None:
    wrong = bytes([*BODY[:-1], 0])

    async def fault(target: str, headers: Headers, writer: asyncio.StreamWriter) -> None:
        server.fault = whole()
        await whole(body=wrong)(target, headers, writer)

    async with fault_server(fault) as server:
        store = open_store("s3://bucket", options=server.options)
        await store.download(LISTED, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == BODY
