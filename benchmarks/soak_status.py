"""What the soak reads in a server's own pages: whether its books hold, and whether clients' words grow in them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

NOBODY: Final = "nobody-"
"""How names begin that only clients ever say."""

MOST_SERIES: Final = 3000
"""Of a metrics page: some hundred, whoever asks for whatever, and as often."""


def over_capacity(tiers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each tier that holds more than it may."""
    for tier in tiers:
        for part in ("models", "bytes"):
            most = tier[f"capacity_{part}"]
            if most is not None and tier[part] > most:
                yield f"the {tier['tier']} tier holds {tier[part]} {part}, and may {most}"


def still_in_use(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each lease and request that is there while nobody asks."""
    inside = status["requests"]["inside"]
    if inside:
        yield f"{inside} requests are inside, and nobody asks"
    for tier in status["server"]["tiers"]:
        if tier["leases"]:
            yield f"{tier['leases']} leases are on models of the {tier['tier']} tier, and nobody asks"


def kept_of_clients(page: str) -> Iterator[str]:
    """Yield a sentence for what a metrics page keeps of clients' words, and for a page that has grown out of bounds."""
    series = [line for line in page.splitlines() if line and not line.startswith("#")]
    told = next((line for line in series if NOBODY in line), None)
    if told is not None:
        yield f"a client's word is in the metrics: {told}"
    if len(series) > MOST_SERIES:
        yield f"the metrics have {len(series)} series, expected less than {MOST_SERIES}"
