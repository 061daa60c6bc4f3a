"""MLServer with its scikit-learn runtime, a folder for each model, and the V2 protocol's repository routes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from models import FEATURES, ROW
from peer import Launch, Loads, PeerRequest, Place, Row
from subjects import free_port

IMPLEMENTATION: Final = "mlserver_sklearn.SKLearnModel"
CANNOT: Final = {
    Row.CHURN: "never unloads by itself and answers 404 for a model that is not loaded: no room for 20 of 200",
}


@dataclass(frozen=True, slots=True)
class MLServer:
    """``workers`` are the processes that predict beside the server's own; with 0 it predicts itself."""

    key: str
    title: str
    workers: int
    batch: int = 0
    quiet: bool = True
    """Without compression, metrics and access logs."""

    environment: str = "mlserver"
    most: int = 200
    cannot: Mapping[Row, str] = field(default_factory=lambda: CANNOT)

    def launch(self, place: Place) -> Launch:
        root = place.folder / "repository"
        for name in place.names:
            (root / name).mkdir(parents=True)
            os.link(place.file(name), root / name / "model.joblib")
            self._write_settings(root / name, name, 1)
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "http_port": place.port,
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "parallel_workers": self.workers,
        }
        if self.quiet:
            settings |= {"debug": False, "gzip_enabled": False, "metrics_endpoint": None}
        (root / "settings.json").write_text(json.dumps(settings))
        return Launch((place.program("mlserver"), "start", str(root)))

    def _write_settings(self, folder: Path, name: str, version: int) -> None:
        settings: dict[str, Any] = {
            "name": name,
            "implementation": IMPLEMENTATION,
            "parameters": {"uri": "./model.joblib", "version": str(version)},
        }
        if self.batch:
            settings |= {"max_batch_size": self.batch, "max_batch_time": 0.001}
        (folder / "model-settings.json").write_text(json.dumps(settings))

    def request(self, model: str) -> PeerRequest:
        tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP64", "data": list(ROW)}
        return PeerRequest(f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}))

    def value(self, answer: Any) -> float:
        return float(answer["outputs"][0]["data"][0])

    def loads(self, models: list[str]) -> Loads:
        pairs = (
            PeerRequest(f"/v2/repository/models/{it}/{verb}", "{}")
            for it in models
            for verb in ("load", "unload")
        )
        return Loads(tuple(pairs), of_each=0.5)

    def publish(self, place: Place, model: str, file: Path, version: int) -> PeerRequest:
        folder = place.folder / "repository" / model
        staged = folder / "staged"
        os.link(file, staged)
        staged.rename(folder / "model.joblib")
        self._write_settings(folder, model, version)
        return PeerRequest(f"/v2/repository/models/{model}/load", "{}")


CHOSEN: Final = (
    MLServer("mlserver", "MLServer, workers off", workers=0),
    MLServer("mlserver-default", "MLServer, default", workers=1, quiet=False),
)
CANDIDATES: Final = (
    CHOSEN[1],
    MLServer("mlserver-1-quiet", "MLServer, 1 worker, quiet", workers=1),
    MLServer("mlserver-2-quiet", "MLServer, 2 workers, quiet", workers=2),
    MLServer("mlserver-0", "MLServer, workers off, with metrics and gzip", workers=0, quiet=False),
    CHOSEN[0],
    MLServer(
        "mlserver-0-batch", "MLServer, workers off, quiet, batches of 32 within 1 ms", workers=0, batch=32
    ),
    MLServer("mlserver-1-batch", "MLServer, 1 worker, quiet, batches of 32 within 1 ms", workers=1, batch=32),
)
