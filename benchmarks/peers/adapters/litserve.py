"""LitServe: one API whose ``setup`` loads every model into each worker, as its guide has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from environments import HERE
from peer import INSTANCES, Launch, Loads, PeerRequest, Place, Row, cannot_be_asked

NO_LOADS: Final = "models are loaded by setup, before the first request; a cache would be the user's own code"
CANNOT: Final = {
    Row.CHURN: NO_LOADS,
    Row.INTERFERENCE: NO_LOADS,
    Row.VERSION: "a new version needs a restart",
}


@dataclass(frozen=True, slots=True)
class LitServe:
    """``servers`` take HTTP, ``workers`` predict; ``fast_queue`` is ZeroMQ between them."""

    key: str
    title: str
    workers: int = 1
    servers: int = 1
    batch: int = 1
    fast_queue: bool = False
    environment: str = "litserve"
    most: int = 200
    cannot: Mapping[Row, str] = field(default_factory=lambda: CANNOT)

    def launch(self, place: Place) -> Launch:
        options = (place.port, self.workers, self.servers, self.batch, int(self.fast_queue))
        script = str(HERE / self.environment / "serve.py")
        return Launch((str(place.python), script, *map(str, options)), {"MODELS": str(place.models)})

    def request(self, model: str) -> PeerRequest:
        return PeerRequest("/predict", json.dumps({"model": model} | INSTANCES))

    def value(self, answer: Any) -> float:
        return float(answer["predictions"][0])

    def loads(self, models: list[str]) -> Loads:
        del models
        return cannot_be_asked()

    def publish(self, place: Place, model: str, file: Path, version: int) -> PeerRequest | None:
        del place, model, file, version
        return cannot_be_asked()


CHOSEN: Final = (LitServe("litserve", "LitServe", fast_queue=True),)
CANDIDATES: Final = (
    *CHOSEN,
    LitServe("litserve-slow", "LitServe, its default queue"),
    LitServe("litserve-batch", "LitServe, batches of 64", batch=64),
    LitServe("litserve-fast-batch", "LitServe, fast queue, batches of 64", batch=64, fast_queue=True),
    LitServe("litserve-2", "LitServe, fast queue, 2 workers", workers=2, fast_queue=True),
    LitServe(
        "litserve-2-2", "LitServe, fast queue, 2 servers, 2 workers", workers=2, servers=2, fast_queue=True
    ),
    LitServe("litserve-2-1", "LitServe, fast queue, 2 servers, 1 worker", servers=2, fast_queue=True),
    LitServe("litserve-2-1-batch", "LitServe, 2 servers, 1 worker, batches of 64", servers=2, batch=64),
)
