"""The routes of handlers written for Cortex: every method of ``/`` goes to the handler, and ``GET /info`` lists its models.

On where the settings name a ``cortex.yaml``. Which model is meant is the handler's to say; nothing here reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from hotset.api.predictions import Door
from hotset.api.reply import Reply, json_reply
from hotset.api.routes import Exchange, Operation, Route, RouteTable
from hotset.keys import ModelRef

PROTOCOL: Final = "cortex"
METHODS: Final = ("POST", "GET", "PUT", "PATCH", "DELETE")

DOORS: Final[Mapping[str, Door]] = MappingProxyType(
    {
        method: Door(
            protocol=PROTOCOL,
            codec="handler",
            prefix=b"/",
            suffix=b"",
            method=method,
            only=ModelRef("", method.lower()),
        )
        for method in METHODS
    }
)
"""One for each method. The ref names no model: it is how the residency knows a request to the handler."""

_FAILS: Final = (404, 413, 501, 503, 504, 507)

Offered: TypeAlias = Callable[[], Mapping[str, Sequence[tuple[int, float]]]]
"""Gives the versions of every model that is offered, and when each was last changed, in seconds of the day's time."""


class CortexRoutes:
    """Holds nothing of its own. Owned by the event loop."""

    def __init__(self, offered: Offered) -> None:
        self._offered = offered

    def table(self) -> RouteTable:
        """Return the routes."""
        handler = tuple(
            Operation(
                method,
                f"Have the handler answer with handle_{method.lower()}"
                + (", or predict." if method == "POST" else "."),
                None,
                "Payload",
                "Payload" if method in {"POST", "PUT", "PATCH"} else "",
                fails=_FAILS,
            )
            for method in METHODS
        )
        info = Operation("GET", "List the models that the handler can ask for.", self._info, "Object")
        return RouteTable(PROTOCOL, (Route("/", handler), Route("/info", (info,))))

    async def _info(self, exchange: Exchange) -> Reply:
        return json_reply(
            {
                "model_metadata": {
                    name: {
                        "versions": [str(version) for version, _ in versions],
                        "timestamps": [int(changed_s) for _, changed_s in versions],
                    }
                    for name, versions in self._offered().items()
                    if exchange.grant.covers(name)
                }
            }
        )
