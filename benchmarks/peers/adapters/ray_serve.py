"""Ray Serve's model multiplexing: one deployment that loads what is asked for and drops the least recently used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from environments import HERE
from peer import INSTANCES, Launch, Loads, PeerRequest, Place, Row, cannot_be_asked

CANNOT: Final = {
    Row.VERSION: "no refresh in place: a loaded id stays until it is evicted; a new version is a new id, or a new deployment",
}
TUNED: Final = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
"""Ray's own guide: HAProxy instead of the Python proxy, and the switches of throughput mode."""

ONE_THREAD: Final = {"RAY_SERVE_HAPROXY_NBTHREAD": "1"}


@dataclass(frozen=True, slots=True)
class RayServe:
    """``tuning`` is Ray's own, by variables of the environment."""

    key: str
    title: str
    tuning: Mapping[str, str]
    replicas: int = 1
    batched: bool = False
    environment: str = "ray_serve"
    most: int = 200
    cannot: Mapping[Row, str] = field(default_factory=lambda: CANNOT)

    def launch(self, place: Place) -> Launch:
        folder = HERE / self.environment
        environment = {
            "MODELS": str(place.models),
            "ROOM": str(place.room),
            "REPLICAS": str(self.replicas),
            "BATCHED": str(int(self.batched)),
            "PYTHONPATH": str(folder),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            **self.tuning,
        }
        return Launch((str(place.python), str(folder / "serve.py"), str(place.port)), environment)

    def request(self, model: str) -> PeerRequest:
        return PeerRequest("/", json.dumps(INSTANCES), (("serve_multiplexed_model_id", model),))

    def value(self, answer: Any) -> float:
        return float(answer["predictions"][0])

    def loads(self, models: list[str]) -> Loads:
        body = json.dumps({"instances": []})
        return Loads(tuple(PeerRequest("/", body, self.request(it).headers) for it in models))

    def publish(self, place: Place, model: str, file: Path, version: int) -> PeerRequest | None:
        del place, model, file, version
        return cannot_be_asked()


CHOSEN: Final = (
    RayServe("ray-tuned", "Ray Serve multiplexed, tuned, batched", TUNED, batched=True),
    RayServe("ray-tuned-plain", "Ray Serve multiplexed, tuned", TUNED),
    RayServe("ray", "Ray Serve multiplexed, default", {}),
)
CANDIDATES: Final = (
    *CHOSEN,
    RayServe("ray-throughput", "Ray Serve, throughput mode alone", {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}),
    RayServe("ray-tuned-1", "Ray Serve, tuned, HAProxy with 1 thread", TUNED | ONE_THREAD),
    RayServe("ray-tuned-2", "Ray Serve, tuned, 2 replicas", TUNED, replicas=2),
)
