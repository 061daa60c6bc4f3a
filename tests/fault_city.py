"""A bucket of a real S3 server with models in it, a proxy that does wrong on purpose before it, and servers that know some.

What the rows of the fault table about stores begin with. ``tests/fault/conftest.py`` makes the fixture ``city`` of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fault_models import FaultModels
from faulty_store import FaultyStore, faulty_store
from server_process import ServerProcess, running_server
from servers import S3Server, rclone_s3

KEPT = [f"kept{number}" for number in range(6)]
FAR = ["far0", "far1"]
IN_MEMORY = 4
UNAVAILABLE = {"store_unavailable", "loading"}


@dataclass(frozen=True, slots=True)
class City:
    """A bucket with models, the proxy before it, and what a server needs to serve it from there."""

    directory: Path
    models: FaultModels
    store: FaultyStore
    s3: S3Server
    disk: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return self.store.environment(self.s3.environment)

    @property
    def settings(self) -> Mapping[str, object]:
        return {
            "model_dir": "s3://city/prod",
            "predictor": self.models.predictor,
            "environment": self.environment,
            "settle_time": 0,
            "sync_interval": "300ms",
            "request_timeout": "3s",
            "model_cache_size": IN_MEMORY,
            "disk_model_cache_size": 50,
        }

    @contextmanager
    def warm_server(self, **more: object) -> Iterator[ServerProcess]:
        """A server that has ``KEPT`` on disk, the last of them in memory, and nothing of ``FAR``."""
        with running_server(self.disk, **{**self.settings, **more}) as server:
            for name in KEPT:
                assert server.predict(name).status == 200
            yield server


@contextmanager
def served_city(root: Path) -> Iterator[City]:
    """Serve a bucket whose files are below the directory ``root``; of what is in it, far models are only there."""
    directory = root / "s3"
    models = FaultModels(directory / "city" / "prod")
    for name in [*KEPT, *FAR]:
        models.write(name, padding="x" * 4000)
    with rclone_s3(directory) as s3, faulty_store(s3.endpoint) as store:
        yield City(directory, models, store, s3, root / "disk")
