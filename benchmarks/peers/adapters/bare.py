"""Bare servers: a few lines of Python over models in an LRU cache, behind uvicorn and behind granian.

They show what the machine gives to a service without any management: no versions, no limits, no metrics, no errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from environments import HERE
from peer import INSTANCES, Launch, Loads, PeerRequest, Place, Row, cannot_be_asked

NO_VERSIONS: Final = "knows no versions; needs a restart"
CANNOT: Final = {Row.VERSION: NO_VERSIONS}


class _Bare:
    """What both have in common. Stateless."""

    __slots__ = ()
    most: int = 200
    cannot: Mapping[Row, str] = CANNOT

    def request(self, model: str) -> PeerRequest:
        return PeerRequest(f"/models/{model}/predict", json.dumps(INSTANCES))

    def value(self, answer: Any) -> float:
        return float(answer["predictions"][0])

    def loads(self, models: list[str]) -> Loads:
        return Loads(tuple(PeerRequest(f"/models/{it}/load", "{}") for it in models))

    def publish(self, place: Place, model: str, file: Path, version: int) -> PeerRequest | None:
        del place, model, file, version
        return cannot_be_asked()


def _room(place: Place, workers: int) -> str:
    """Return the room of one worker's cache: where not all models fit, the workers share what there is."""
    fits = place.room >= len(place.names)
    return str(place.room if fits else max(1, place.room // workers))


@dataclass(frozen=True, slots=True)
class Uvicorn(_Bare):
    """An ASGI callable, uvloop and httptools."""

    key: str = "uvicorn"
    title: str = "bare uvicorn"
    environment: str = "bare_uvicorn"
    workers: int = 1

    def launch(self, place: Place) -> Launch:
        script = str(HERE / self.environment / "serve.py")
        return Launch(
            (str(place.python), script, str(place.port), str(self.workers)),
            {"MODELS": str(place.models), "ROOM": _room(place, self.workers)},
        )


@dataclass(frozen=True, slots=True)
class Granian(_Bare):
    """An RSGI callable, granian's own interface, or an ASGI one."""

    key: str = "granian"
    title: str = "bare granian"
    environment: str = "bare_granian"
    workers: int = 1
    runtime: str = "auto"

    def launch(self, place: Place) -> Launch:
        options = {
            "port": place.port,
            "workers": self.workers,
            "runtime-mode": self.runtime,
            "loop": "uvloop",
            "http": 1,
            "interface": "rsgi",
            "working-dir": HERE / self.environment,
        }
        given = (f"--{name}={value}" for name, value in options.items())
        return Launch(
            (place.program("granian"), *given, "--no-ws", "--no-log", "serve:app"),
            {"MODELS": str(place.models), "ROOM": _room(place, self.workers)},
        )


CHOSEN: Final = (
    Uvicorn(),
    Uvicorn(key="uvicorn-2", title="bare uvicorn, 2 workers", workers=2),
    Granian(),
    Granian(key="granian-2", title="bare granian, 2 workers", workers=2),
)
CANDIDATES: Final = (
    *CHOSEN,
    Granian(key="granian-st", title="bare granian, runtime st", runtime="st"),
    Granian(key="granian-mt", title="bare granian, runtime mt", runtime="mt"),
)
