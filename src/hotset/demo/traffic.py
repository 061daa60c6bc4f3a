"""What the demo asks for: cities by Zipf's law, rides by chance, now and then an older version by its number. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hotset.demo.fares import FareStore, Ride

ZIPF_EXPONENT: Final = 1.2
"""The city at place n is asked for 1 / n ** 1.2 as often as the first: near what shops, cities and words show."""
BY_NUMBER: Final = 0.1
"""Of the requests for a city that has several versions, so many name one of them."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; ``version`` None means ``latest``."""

    city: str
    version: int | None
    ride: Ride

    @property
    def path(self) -> str:
        version = "" if self.version is None else f"/versions/{self.version}"
        return f"/models/{self.city}{version}/predict"

    @property
    def body(self) -> bytes:
        return f'{{"instances": [{list(self.ride)}]}}'.encode()


def zipf_shares(count: int) -> NDArray[np.float64]:
    """Return the share of the requests that each place gets."""
    weights: NDArray[np.float64] = 1.0 / np.arange(1.0, count + 1.0) ** ZIPF_EXPONENT
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def plan(fares: FareStore, *, requests: int, seed: int = 1) -> Sequence[Ask]:
    """Return the requests of a whole run, the same at each."""
    random = np.random.default_rng(seed)
    places = random.choice(len(fares.cities), size=requests, p=zipf_shares(len(fares.cities)))
    return [ask_for(fares, fares.cities[place], random) for place in places]


def ask_for(fares: FareStore, city: str, random: np.random.Generator) -> Ask:
    """Return a request for one city."""
    latest = fares.latest(city)
    by_number = latest > 1 and random.random() < BY_NUMBER
    version = int(random.integers(1, latest + 1)) if by_number else None
    km = round(float(random.gamma(2.0, 3.0)), 1)
    minutes = round(km * float(random.uniform(1.5, 4.0)), 1)
    return Ask(city, version, Ride(km, minutes, int(random.integers(0, 2)), 0.0))
