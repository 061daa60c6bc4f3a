"""The demo's pure parts: names, tariffs, the plan, and the judging of answers."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import pytest

from hotset.demo.cities import CITIES, city_names
from hotset.demo.connection import Answer
from hotset.demo.fares import Fare, FareStore, Ride, open_fares
from hotset.demo.tally import Tally, Tier, judge, percentile
from hotset.demo.traffic import Ask, plan, zipf_shares
from hotset.keys import parse_name

RIDE = Ride(4.0, 12.0, 1, 0.0)
FARES = {
    "tokyo": [Fare(2.0, (1.0, 0.5, 3.0, 0.1)), Fare(3.0, (1.0, 0.5, 3.0, 0.1))],
    "oslo": [Fare(1.0, (2.0, 0, 0, 0))],
}


def store() -> FareStore:
    return FareStore(Path("unused"), FARES)


def answer(price: float, version: int = 2, timing: str | None = None) -> Answer:
    headers = {"x-model-version": str(version)} | ({"server-timing": timing} if timing else {})
    return Answer(200, headers, json.dumps({"predictions": [price]}).encode(), 0.001)


def test_there_are_a_thousand_names_that_models_may_have() -> None:
    assert len(set(CITIES)) == len(CITIES) >= 1000
    assert all(parse_name(city, depth=1) == city for city in CITIES)


def test_past_the_cities_come_their_quarters_all_different() -> None:
    assert len(set(city_names(10_000))) == 10_000


def test_a_fare_is_what_the_model_answers(tmp_path: Path) -> None:
    fares = open_fares(tmp_path, models=3, on_model=lambda _: None)
    for city in fares.cities:
        model = joblib.load(fares.models_path / city / str(fares.latest(city)) / "fare.joblib")
        assert model.predict([RIDE])[0] == pytest.approx(
            fares.price(city, fares.latest(city), RIDE), rel=1e-12
        )


def test_some_cities_have_several_versions_and_every_version_answers_otherwise(tmp_path: Path) -> None:
    fares = open_fares(tmp_path, models=6, on_model=lambda _: None)
    latest = [fares.latest(city) for city in fares.cities]
    assert latest == [3, 1, 1, 1, 1, 2]
    prices = {
        fares.price(city, version, RIDE)
        for city in fares.cities
        for version in range(1, fares.latest(city) + 1)
    }
    assert len(prices) == sum(latest)


def test_a_torn_record_is_no_record(tmp_path: Path) -> None:
    open_fares(tmp_path, models=2, on_model=lambda _: None)
    record = tmp_path / "fares.json"
    record.write_text(record.read_text()[:40])
    assert open_fares(tmp_path, models=2, on_model=lambda _: None).cities == ("tokyo", "paris")


def test_another_number_of_models_makes_them_anew(tmp_path: Path) -> None:
    open_fares(tmp_path, models=4, on_model=lambda _: None)
    open_fares(tmp_path, models=2, on_model=lambda _: None)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["paris", "tokyo"]


def test_shares_fall_by_zipfs_law() -> None:
    shares = zipf_shares(1000)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] / shares[9] == pytest.approx(10**1.2)


def test_the_plan_is_the_same_each_time_and_names_versions_that_there_are() -> None:
    asks = plan(store(), requests=500)
    assert asks == plan(store(), requests=500)
    assert {ask.version for ask in asks if ask.city == "tokyo"} == {None, 1, 2}
    assert {ask.version for ask in asks if ask.city == "oslo"} == {None}


def test_a_right_answer_is_right() -> None:
    verdict = judge(Ask("tokyo", None, RIDE), answer(16.0), store())
    assert (verdict.wrong, verdict.tier, verdict.version) == ("", Tier.MEMORY, 2)


@pytest.mark.parametrize(
    ("ask", "given"),
    [
        (Ask("tokyo", None, RIDE), answer(16.1)),
        (Ask("tokyo", None, RIDE), answer(16.0, version=1)),
        (Ask("tokyo", None, RIDE), answer(16.0, version=3)),
        (Ask("tokyo", 1, RIDE), answer(16.0, version=2)),
    ],
)
def test_a_wrong_answer_is_noticed(ask: Ask, given: Answer) -> None:
    assert judge(ask, given, store()).wrong


@pytest.mark.parametrize(
    ("timing", "tier"),
    [
        (None, Tier.MEMORY),
        ("fetch;dur=0.0, load;dur=3.1", Tier.DISK),
        ("fetch;dur=10.0, load;dur=3.1", Tier.STORE),
    ],
)
def test_the_tier_is_told_by_what_the_server_had_to_do(timing: str | None, tier: Tier) -> None:
    assert judge(Ask("tokyo", None, RIDE), answer(16.0, timing=timing), store()).tier is tier


def test_a_tally_adds_up() -> None:
    tally = Tally()
    for number in range(10):
        tally.note(judge(Ask("tokyo", None, RIDE), answer(16.0 + (number == 9)), store()))
    for _ in range(20):
        tally.note_failure("the server is away")
    assert (tally.done, tally.answered, tally.failures, tally.wrong) == (30, 10, 20, 1)
    assert tally.share(Tier.MEMORY) == 1.0
    assert len(tally.reasons) == 5


@pytest.mark.parametrize(("share", "expected"), [(0.1, 1.0), (0.5, 5.0), (0.99, 10.0), (1.0, 10.0)])
def test_percentiles(share: float, expected: float) -> None:
    assert percentile([float(number) for number in range(10, 0, -1)], share) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([], 0.5) is None
