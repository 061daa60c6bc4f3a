"""What a peer is to the driver: how it is started, asked, made to load, and given a new version.

Each module of ``adapters`` has one or more; ``rows.py`` measures them all alike. Nothing here starts anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from load import Request
from models import ROW

JSON: Final = "application/json"
INSTANCES: Final = {"instances": [list(ROW)]}


class Row(StrEnum):
    """A kind of work; its value is its title."""

    HOT = "one model hot"
    MANY = "many models hot"
    CHURN = "churn"
    INTERFERENCE = "loads beside a hot model"
    MEMORY = "memory"
    START = "start to first answer"
    VERSION = "new version"


@dataclass(frozen=True, slots=True)
class PeerRequest(Request):
    """A POST, with headers of its own where a peer names the model there."""

    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs. ``models`` holds ``NAME/model.joblib`` for each; memory may hold ``room`` of them.

    ``folder`` is the peer's own. ``python`` is that of its environment. ``loaded`` are the models that a peer without
    loads on demand has from its start on, where it can choose.
    """

    python: Path
    models: Path
    folder: Path
    port: int
    room: int
    loaded: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The models, by name."""
        return sorted(it.name for it in self.models.iterdir())

    def file(self, name: str) -> Path:
        """Return where a model is."""
        return self.models / name / "model.joblib"

    def program(self, name: str) -> str:
        """Return a program of the peer's environment."""
        return str(self.python.with_name(name))


@dataclass(frozen=True, slots=True)
class Launch:
    """A command, and what it finds in its environment beside the driver's own."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loads:
    """What makes a peer load models that are not in memory, in turn, without end; so many loads come of each request."""

    requests: tuple[PeerRequest, ...]
    of_each: float = 1.0


class Peer(Protocol):
    """A server in one configuration. Stateless: what it writes goes into a place."""

    @property
    def key(self) -> str:
        """Its name on the command line."""
        ...

    @property
    def title(self) -> str: ...

    @property
    def environment(self) -> str:
        """The folder with its ``requirements.txt``; empty: the driver's own environment."""
        ...

    @property
    def most(self) -> int:
        """How many models it is asked to hold."""
        ...

    @property
    def cannot(self) -> Mapping[Row, str]:
        """The rows that it cannot run, each with the reason."""
        ...

    def launch(self, place: Place) -> Launch:
        """Write what it needs below the place's folder, and return how it starts."""
        ...

    def request(self, model: str) -> PeerRequest:
        """Return a request for one row of a model."""
        ...

    def value(self, answer: Any) -> float:
        """Return the one prediction of an answer."""
        ...

    def loads(self, models: list[str]) -> Loads:
        """Return what loads these models again and again. Only where ``Row.INTERFERENCE`` can be run."""
        ...

    def publish(self, place: Place, model: str, file: Path, version: int) -> PeerRequest | None:
        """Put a new version where the peer looks for it, and return the request that makes it look, if it needs one.

        Only where ``Row.VERSION`` can be run.
        """
        ...


def cannot_be_asked() -> Any:
    """Raise what a peer says when it is asked for work that it told it cannot do."""
    raise NotImplementedError("asked for a row that is listed in cannot")
