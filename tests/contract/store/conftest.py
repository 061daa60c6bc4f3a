"""The stores that the contract is held against: a local directory, memory, rclone's S3 and moto's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import S3Server, moto_s3, rclone_s3
from store_places import Open, Place, make_place

_buckets = itertools.count()


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with moto_s3() as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with rclone_s3(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(
    params=[
        "local",
        "memory",
        *(pytest.param(server, marks=pytest.mark.xdist_group(server)) for server in ("rclone", "moto")),
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opening(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Call it once, with limits as keywords, to get the test's own empty store."""
    if kind == "local":
        root = tmp_path / "store"
        root.mkdir()
        return lambda **limits: make_place(str(root), limits)
    if kind == "memory":
        return lambda **limits: make_place("memory://", limits)
    server: S3Server = request.getfixturevalue(kind)
    url = server.make_bucket(f"bucket-{next(_buckets)}") + "/prod/models"
    return lambda **limits: make_place(url, limits, server)


@pytest.fixture
def place(opening: Open) -> Place:
    return opening()
