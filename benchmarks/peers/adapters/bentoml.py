"""BentoML: a service whose constructor loads every model, as its guide has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from environments import HERE
from peer import INSTANCES, Launch, Loads, PeerRequest, Place, Row, cannot_be_asked

NO_LOADS: Final = "models are loaded by the service's constructor; a cache would be the user's own code"
CANNOT: Final = {
    Row.CHURN: NO_LOADS,
    Row.INTERFERENCE: NO_LOADS,
    Row.VERSION: "a new version needs a restart",
}


@dataclass(frozen=True, slots=True)
class BentoML:
    """``api`` is the method that is called: ``predict`` in a thread, ``predict_async`` on the event loop, or ``predict_batch``."""

    key: str
    title: str
    api: str
    workers: int = 1
    environment: str = "bentoml"
    most: int = 200
    cannot: Mapping[Row, str] = field(default_factory=lambda: CANNOT)

    def launch(self, place: Place) -> Launch:
        options = (f"--port={place.port}", "--host=127.0.0.1", f"--working-dir={HERE / self.environment}")
        environment = {
            "MODELS": str(place.models),
            "WORKERS": str(self.workers),
            "BENTOML_HOME": str(place.folder / "home"),
            "BENTOML_DO_NOT_TRACK": "True",
        }
        return Launch((place.program("bentoml"), "serve", "service:Models", *options), environment)

    def request(self, model: str) -> PeerRequest:
        return PeerRequest(f"/{self.api}", json.dumps({"model": model} | INSTANCES))

    def value(self, answer: Any) -> float:
        return float(answer[0])

    def loads(self, models: list[str]) -> Loads:
        del models
        return cannot_be_asked()

    def publish(self, place: Place, model: str, file: Path, version: int) -> PeerRequest | None:
        del place, model, file, version
        return cannot_be_asked()


ONE_MODEL: Final = "batching joins calls of a method, whatever model they name: a service, with its processes, for each model"
CHOSEN: Final = (
    BentoML("bentoml", "BentoML", "predict_async"),
    BentoML(
        "bentoml-batch",
        "BentoML, adaptive batching",
        "predict_batch",
        cannot=CANNOT | {Row.MANY: ONE_MODEL, Row.MEMORY: ONE_MODEL},
    ),
)
CANDIDATES: Final = (
    *CHOSEN,
    BentoML("bentoml-sync", "BentoML, sync method", "predict"),
    BentoML("bentoml-2", "BentoML, async method, 2 workers", "predict_async", workers=2),
)
