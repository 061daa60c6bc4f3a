"""Memory of 200 small models against one, all processes together; the same for a bare app that keeps them in a dict.

A section. USS is what belongs to the processes alone: what would come back if they ended.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Final

from models import request_for, write_models
from section import Bars, Goal, Grid, Options, Section
from subjects import Memory, Server, bare_cache, hotset

MODELS: Final = 200
LIMIT_MB: Final = 10.0
WARM_REQUESTS: Final = 500
SETTLE_S: Final = 3.0
SETTLE_QUICK_S: Final = 1.5
"""What is free is given back to the system once it is quiet: the least of this long is taken."""

POLL_S: Final = 0.5
MB: Final = 1e6
OURS: Final = "hotset"
BARE: Final = "bare uvicorn, dict"


@dataclass(frozen=True, slots=True)
class Growth:
    """One server with one model and with all of them."""

    server: str
    one: Memory
    all: Memory

    @property
    def more_mb(self) -> float:
        return (self.all.uss - self.one.uss) / MB


def run(options: Options) -> Section:
    """Measure both servers with one model, then with all."""
    models = options.folder / "models"
    write_models(models, MODELS)
    first = request_for(0)
    with hotset(models, options.folder / "hotset", first) as ours:
        found = [_growth(options, OURS, ours)]
    with bare_cache(models, None, first) as bare:
        found.append(_growth(options, BARE, bare))
    rows = tuple(
        (
            it.server,
            *(f"{each / MB:.1f}" for each in (it.one.uss, it.all.uss)),
            f"{it.more_mb:+.1f}",
            *(f"{each / MB:.1f}" for each in (it.one.rss, it.all.rss)),
        )
        for it in found
    )
    more = found[0].more_mb
    return Section(
        title="Memory per model",
        about=(
            f"The memory of all processes of a server that answered {WARM_REQUESTS} requests for one small model "
            f"(a LinearRegression of ten features), and after all {MODELS} were asked. hotset keeps files and an entry for "
            "each in the gateway, the model in the child."
        ),
        grids=(
            Grid(
                f"1 and {MODELS} models in memory, MB",
                ("server", "USS, 1", f"USS, {MODELS}", "more", "RSS, 1", f"RSS, {MODELS}"),
                rows,
            ),
        ),
        plots=(
            Bars(
                "USS of all processes, MB",
                "MB",
                ("1 model", f"{MODELS} models"),
                {it.server: [it.one.uss / MB, it.all.uss / MB] for it in found},
            ),
        ),
        goals=(
            Goal(
                f"memory of {MODELS} small models, beyond that of one",
                f"≤ +{LIMIT_MB:g} MB",
                f"{more:+.1f} MB",
                more <= LIMIT_MB,
            ),
        ),
        raw=[asdict(it) for it in found],
    )


def _growth(options: Options, name: str, server: Server) -> Growth:
    options.tell(f"memory, {name}, one model")
    for _ in range(WARM_REQUESTS):
        server.ask(request_for(0))
    one = _settled(options, server)
    options.tell(f"memory, {name}, {MODELS} models")
    for number in range(MODELS):
        server.ask(request_for(number))
    return Growth(name, one, _settled(options, server))


def _settled(options: Options, server: Server) -> Memory:
    seen = [server.memory()]
    end_s = time.monotonic() + (SETTLE_QUICK_S if options.quick else SETTLE_S)
    while time.monotonic() < end_s:
        time.sleep(POLL_S)
        seen.append(server.memory())
    return min(seen, key=lambda it: it.uss)
