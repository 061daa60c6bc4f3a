"""Fixtures of the end-to-end tests: a real S3 server with a bucket, and a figure that is printed and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers import S3Server, rclone_s3

Figure = Callable[[str, object], None]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of a real S3 server that serves ``root``: what is written there is in the bucket at once."""

    server: S3Server
    root: Path
    url: str

    @property
    def source(self) -> dict[str, object]:
        """What ``running_server`` takes to serve it."""
        return {"model_dir": self.url, "environment": self.server.environment}


@contextmanager
def served_bucket(directory: Path, *, dir_cache_time: str = "0s") -> Iterator[Bucket]:
    """Serve a new bucket whose files are below ``directory``."""
    directory.mkdir()
    with rclone_s3(directory, dir_cache_time=dir_cache_time) as server:
        url = f"{server.make_bucket('city-models')}/prod"
        root = directory / "city-models" / "prod"
        root.mkdir()
        yield Bucket(server, root, url)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    with served_bucket(tmp_path / "s3") as made:
        yield made


@pytest.fixture
def still_bucket(tmp_path: Path) -> Iterator[Bucket]:
    """A bucket that is filled before the first listing and does not change any more; large ones list fast."""
    with served_bucket(tmp_path / "s3", dir_cache_time="1h") as made:
        yield made


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Print a figure and put it into the report."""

    def show(name: str, value: object) -> None:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"{name}: {text}")
        record_property(name, text)

    return show
