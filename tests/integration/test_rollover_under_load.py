"""A new version every 2 s while 16 connections ask for ``latest``: nothing fails, nothing goes back, all is soon there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from load_client import Connection
from model_files import SLOW_PREDICTOR, write_predictor
from server_process import ServerProcess, running_server

VERSIONS = 5
EVERY_S = 2.0
CONNECTIONS = 16
SYNC_INTERVAL_S = 0.5
JITTER = 1.1
LOAD_S = 0.4
SOON_S = 4.0
"""To list, tell and answer, besides the interval, the fetch and the load, on a machine that others use too."""
SEEN_LIMIT_S = 30.0

Upload = Callable[[Path, int], None]


def content_of(version: int) -> dict[str, bytes]:
    model = {"value": {"version": version}, "load_sleep_s": LOAD_S}
    return {"value.json": json.dumps(model).encode(), "extra.bin": bytes([version]) * 100_000}


def with_marker(root: Path, version: int) -> None:
    """File by file, in the place where it will be served, the marker last."""
    directory = root / "city" / str(version)
    directory.mkdir(parents=True)
    for name, content in content_of(version).items():
        (directory / name).write_bytes(content)
        time.sleep(0.1)
    (directory / "_SUCCESS").touch()


def by_rename(root: Path, version: int) -> None:
    """Beside the models, and then into place in one step."""
    staged = root.parent / f"staged-{version}"
    staged.mkdir()
    for name, content in content_of(version).items():
        (staged / name).write_bytes(content)
    (staged / "_SUCCESS").touch()
    (root / "city").mkdir(exist_ok=True)
    staged.rename(root / "city" / f"v{version}")


class Clients:
    """What the connections see: the version of every answer, checked, and when each was first seen."""

    def __init__(self) -> None:
        self.answers = 0
        self.first_seen: dict[int, float] = {}
        self.uploaded = 0

    async def one(self, server: ServerProcess, end: asyncio.Event) -> None:
        version = 0
        async with Connection(server.host, server.port) as connection:
            while not end.is_set():
                answer = await connection.predict("city")
                assert answer.status == 200, answer.body
                assert answer.json == {"version": answer.version}
                assert version <= answer.version <= self.uploaded
                version = answer.version
                self.first_seen.setdefault(version, time.time())
                self.answers += 1

    async def have_seen(self, version: int) -> None:
        async with asyncio.timeout(SEEN_LIMIT_S):
            while version not in self.first_seen:
                await asyncio.sleep(0.01)


def load_seconds(server: ServerProcess, version: int) -> float:
    """Fetch and load, as the log tells them."""
    return sum(
        event["seconds"]
        for name in ("fetched", "loaded")
        for event in server.events(name)
        if event["version"] == version
    )


@pytest.mark.slow
@pytest.mark.parametrize(("upload", "place"), [(with_marker, "s3"), (by_rename, "directory")])
async def test_no_request_fails_and_each_version_is_soon_served(
    upload: Upload, place: str, bucket, tmp_path: Path, figure
) -> None:
    source = bucket.source if place == "s3" else {"model_dir": bucket.root}
    predictor = write_predictor(tmp_path, SLOW_PREDICTOR)
    clients, end = Clients(), asyncio.Event()
    upload(bucket.root, 1)
    clients.uploaded = 1
    with running_server(
        tmp_path / "disk",
        predictor=predictor,
        model_cache_size=2,
        disk_model_cache_size=3,
        sync_interval=SYNC_INTERVAL_S,
        settle_time=30,
        **source,
    ) as server:
        uploaded_at: dict[int, float] = {}
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(clients.one(server, end))
            for version in range(2, VERSIONS + 2):
                began = time.monotonic()
                clients.uploaded = version
                await asyncio.to_thread(upload, bucket.root, version)
                uploaded_at[version] = time.time()
                await asyncio.sleep(began + EVERY_S - time.monotonic())
                await clients.have_seen(version)  # no pass jumps over one, however slow the machine is
            end.set()
        delays = {version: clients.first_seen[version] - at for version, at in uploaded_at.items()}
        figure("answers, all good", clients.answers)
        figure("rollovers", len(delays))
        figure("slowest from upload to the first answer, s", max(delays.values()))
        for version, delay in delays.items():
            assert delay <= SYNC_INTERVAL_S * JITTER + load_seconds(server, version) + SOON_S
        moved = [event["version"] for event in server.events("latest_moved")]
        assert moved == list(range(2, VERSIONS + 2))
        # The old ones leave memory and make room for the next; the store and its order stay the truth.
        server.wait_until(lambda: server.tier("memory")["models"] == 1, limit_s=5, what="one version is left")
        assert server.metric("hotset_requests_total") == clients.answers
        assert not server.events("load_failed")


@pytest.mark.slow
async def test_a_version_uploaded_over_10_s_is_not_served_before_it_is_whole(
    bucket, tmp_path: Path, figure
) -> None:
    """Gaps of 2 s are longer than a sync interval: the same listing on two passes would not be enough."""
    settle_s, files = 3.0, 6
    predictor = write_predictor(
        tmp_path,
        """
import pathlib


class Predictor:
    def load_model(self, disk_path):
        return sorted(path.name for path in pathlib.Path(disk_path).iterdir())

    def predict(self, model):
        return model
""",
    )
    first = bucket.root / "city" / "1"
    first.mkdir(parents=True)
    (first / "only").write_text("1")
    names = [f"part-{number}" for number in range(files)]
    with running_server(
        tmp_path / "disk", predictor=predictor, sync_interval=0.5, settle_time=settle_s, **bucket.source
    ) as server:
        server.wait_until(lambda: server.predict("city").status == 200, limit_s=10, what="version 1 settled")
        async with Connection(server.host, server.port) as connection:
            second = bucket.root / "city" / "2"
            second.mkdir()
            asked = 0
            whole_at = 0.0
            began = time.monotonic()
            while True:
                due = min(files, 1 + int((time.monotonic() - began) / 2.0))
                for name in names[:due]:
                    if not (second / name).exists():
                        (second / name).write_bytes(b"x" * 1000)
                        whole_at = time.time()
                answer = await connection.predict("city")
                asked += 1
                assert answer.status == 200
                assert answer.json == (["only"] if answer.version == 1 else names)
                if answer.version == 2:
                    break
                # By number it is not there either.
                answer = await connection.predict("city/versions/2")
                assert answer.status == 404 or answer.json == names, (answer.status, answer.body)
                assert time.monotonic() - began < 40
                await asyncio.sleep(0.02)
        served_at = time.time()
        took = served_at - whole_at
        figure("questions while it was uploaded", asked)
        figure("served after its last file, s", took)
        assert took >= settle_s - 0.01
        assert len(server.events("fetched")) == 2
