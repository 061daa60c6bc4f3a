"""hotset itself, measured beside each peer: as it comes, with one child of one thread."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from peer import INSTANCES, Launch, Loads, PeerRequest, Place, Row

SYNC_INTERVAL: Final = "500ms"


@dataclass(frozen=True, slots=True)
class Hotset:
    """The files of a place become its store, one version of each model."""

    key: str = "hotset"
    title: str = "hotset"
    told: bool = True
    """Whether it is told of new versions, or finds them at its next look into the store."""

    environment: str = ""
    most: int = 200
    cannot: Mapping[Row, str] = field(default_factory=dict)

    def launch(self, place: Place) -> Launch:
        for name in place.names:
            version = place.folder / "store" / name / "1"
            version.mkdir(parents=True)
            os.link(place.file(name), version / "model.joblib")
        settings = {
            "model-dir": place.folder / "store",
            "disk-path": place.folder / "disk",
            "port": place.port,
            "model-cache-size": place.room,
            "disk-model-cache-size": len(place.names) + place.room,
            "settle-time": "0s",
            "sync-interval": SYNC_INTERVAL,
            "log-level": "warning",
        }
        options = tuple(f"--{name}={value}" for name, value in settings.items())
        return Launch((sys.executable, "-m", "hotset", "serve", *options))

    def request(self, model: str) -> PeerRequest:
        return PeerRequest(f"/models/{model}/predict", json.dumps(INSTANCES))

    def value(self, answer: Any) -> float:
        return float(answer["predictions"][0])

    def loads(self, models: list[str]) -> Loads:
        return Loads(tuple(PeerRequest(f"/models/{it}/load", "{}") for it in models))

    def publish(self, place: Place, model: str, file: Path, version: int) -> PeerRequest | None:
        staged = place.folder / "staged" / str(version)
        staged.mkdir(parents=True)
        os.link(file, staged / "model.joblib")
        staged.rename(place.folder / "store" / model / str(version))
        return PeerRequest(f"/models/{model}/versions/{version}/load", "{}") if self.told else None


CHOSEN: Final = Hotset()
ON_ITS_OWN: Final = Hotset(key="hotset-untold", title="hotset, not told", told=False)
