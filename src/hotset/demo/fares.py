"""The demo's models: what a taxi ride costs in each city, learned from rides that are made up.

A tariff is linear (so much to get in, so much for a kilometre and a minute, more at night and in the rain), so a
``LinearRegression`` finds it, and what a model must answer can be told from its coefficients without asking it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import joblib
import numpy as np
from sklearn.linear_model import LinearRegression

from hotset.demo.cities import city_names

FORMAT: Final = 1
SEED: Final = 20_251_122
RIDES: Final = 120
"""Rides that each model is trained on."""
SUCCESS: Final = "_SUCCESS"
"""Written last: it tells the server that a version is whole, so that it need not wait for it to settle."""

_CHEAPEST: Final = np.array([2.0, 0.6, 0.1, 1.0, 0.05])
_DEAREST: Final = np.array([6.0, 3.2, 0.7, 6.0, 0.6])


class Ride(NamedTuple):
    """What a model is asked, in the order of its inputs. ``night`` is 0 or 1."""

    km: float
    minutes: float
    night: int
    rain_mm: float


@dataclass(frozen=True, slots=True)
class Fare:
    """What one version of a model has learned: the price of getting in, and of each part of a ride."""

    base: float
    parts: tuple[float, ...]

    def price(self, ride: Ride) -> float:
        return self.base + sum(rate * part for rate, part in zip(self.parts, ride, strict=True))


class FareStore:
    """The models' directory, and what each version of each model must answer. Owned by one demo at a time.

    Legal order: ``open_fares`` makes it; ``publish`` any time.
    """

    def __init__(self, directory: Path, fares: Mapping[str, Sequence[Fare]]) -> None:
        self.models_path = directory / "models"
        self._fares = {city: list(versions) for city, versions in fares.items()}

    @property
    def cities(self) -> tuple[str, ...]:
        """The models, the busiest first."""
        return tuple(self._fares)

    def latest(self, city: str) -> int:
        return len(self._fares[city])

    def price(self, city: str, version: int, ride: Ride) -> float | None:
        """Return what this version must answer, or None if there is no such version."""
        versions = self._fares[city]
        return versions[version - 1].price(ride) if 1 <= version <= len(versions) else None

    def publish(self, city: str) -> int:
        """Train another version of a model on new rides and put it beside the others; return its number.

        It is known here before it is in the directory, so that its first answer can be checked.
        """
        version = self.latest(city) + 1
        model, fare = _train(np.random.default_rng())
        self._fares[city].append(fare)
        _write(self.models_path / city / str(version), model)
        return version


def open_fares(directory: Path, *, models: int, on_model: Callable[[int], None]) -> FareStore:
    """Return the store in ``directory``, trained now unless it is there already.

    ``on_model`` hears how many models are there. What an earlier run published on top is removed.
    """
    record = directory / "fares.json"
    fares = _read(record)
    if list(fares) != list(city_names(models)) or not (directory / "models").is_dir():
        fares = _train_all(directory, models, on_model)
        record.write_text(_as_json(fares), encoding="utf-8")
    on_model(models)
    _remove_others(directory / "models", fares)
    return FareStore(directory, fares)


def _train_all(directory: Path, models: int, on_model: Callable[[int], None]) -> dict[str, list[Fare]]:
    """Write every model anew; the directory has its name only once it is whole."""
    target, staged = directory / "models", directory / "models.new"
    for old in (staged, target):
        shutil.rmtree(old, ignore_errors=True)
    random = np.random.default_rng(SEED)
    fares: dict[str, list[Fare]] = {}
    for number, city in enumerate(city_names(models)):
        fares[city] = []
        for version in range(1, _versions(number) + 1):
            model, fare = _train(random)
            fares[city].append(fare)
            _write(staged / city / str(version), model)
        on_model(number + 1)
    staged.rename(target)
    return fares


def _versions(number: int) -> int:
    """Every fifth city has a second version, every twentieth a third."""
    return 1 + (number % 5 == 0) + (number % 20 == 0)


def _train(random: np.random.Generator) -> tuple[LinearRegression, Fare]:
    tariff = random.uniform(_CHEAPEST, _DEAREST)
    km = random.gamma(2.0, 3.0, RIDES)
    minutes = km * random.uniform(1.5, 4.0, RIDES)
    rides = np.column_stack([km, minutes, random.integers(0, 2, RIDES), random.exponential(1.0, RIDES)])
    paid = tariff[0] + rides @ tariff[1:] + random.normal(0.0, 0.4, RIDES)
    model = LinearRegression().fit(rides, paid)
    return model, Fare(float(model.intercept_), tuple(float(rate) for rate in model.coef_))


def _write(path: Path, model: LinearRegression) -> None:
    path.mkdir(parents=True)
    joblib.dump(model, path / "fare.joblib")
    (path / SUCCESS).touch()


def _as_json(fares: Mapping[str, Sequence[Fare]]) -> str:
    cities = {city: [[fare.base, *fare.parts] for fare in versions] for city, versions in fares.items()}
    return json.dumps({"format": FORMAT, "seed": SEED, "cities": cities})


def _read(record: Path) -> dict[str, list[Fare]]:
    """Return what an earlier run wrote, or nothing if it is not there or not ours."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        if (found["format"], found["seed"]) != (FORMAT, SEED):
            return {}
        return {
            city: [Fare(base, tuple(parts)) for base, *parts in versions]
            for city, versions in found["cities"].items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remove_others(models: Path, fares: Mapping[str, Sequence[Fare]]) -> None:
    for city, versions in fares.items():
        for path in (models / city).iterdir():
            if path.name not in {str(number) for number in range(1, len(versions) + 1)}:
                shutil.rmtree(path)
