"""The brake: what presses it, for how long, and that one refusal speaks for all that were under way."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hotset.store import StoreBusyError
from hotset.store.brake import FIRST_S, MOST_ASKED_S, MOST_S, Brake
from hotset.store.courtesy import Courtesy
from hotset.store.headers import is_encrypted_by_key, retry_after_s
from hotset.testing import ManualClock


class Braking:
    """A brake on the manual clock, which a sleep moves; ``slept`` has the sleeps."""

    def __init__(self, *, asked: str = "", dice: float = 0.0) -> None:
        self.clock = ManualClock(100.0)
        self.slept: list[float] = []
        self.asked_for: list[str] = []
        self._said = {"retry-after": asked}
        self.brake = Brake(clock=self.clock, sleep=self._sleep, random=lambda: dice)
        self.courtesy = Courtesy(self.brake, url="s3://b", headers=self._headers)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    async def _headers(self, path: str) -> dict[str, str]:
        self.asked_for.append(path)
        return self._said

    async def ask(self, *, refused: bool = False) -> None:
        async with self.courtesy.kept("m/1/a"):
            if refused:
                raise StoreBusyError("slow down")

    async def refused_s(self) -> float | None:
        """Ask in vain; return what the answer says of when to come again."""
        with pytest.raises(StoreBusyError) as refused:
            await self.ask(refused=True)
        return refused.value.retry_after_s


async def test_nobody_waits_for_a_store_that_is_well() -> None:
    braking = Braking()
    await braking.ask()
    assert (braking.slept, braking.brake.left_s) == ([], 0.0)


async def test_each_refusal_in_a_row_is_a_longer_pause_up_to_a_limit() -> None:
    braking = Braking()
    pauses = []
    for _ in range(8):
        pauses.append(await braking.refused_s())
        braking.clock.advance(braking.brake.left_s)
    assert pauses == [FIRST_S, 2.0, 4.0, 8.0, 16.0, MOST_S, MOST_S, MOST_S]
    await braking.ask()
    assert await braking.refused_s() == FIRST_S


async def test_a_short_pause_is_waited_for_and_not_by_all_to_the_same_moment() -> None:
    braking = Braking(dice=0.5)
    await braking.refused_s()
    await braking.ask()
    assert braking.slept == [FIRST_S * 1.125]


async def test_in_a_long_pause_the_store_is_not_asked() -> None:
    braking = Braking(asked="60")
    assert await braking.refused_s() == 60.0
    braking.clock.advance(45.0)
    with pytest.raises(StoreBusyError, match="asked for a pause, and is asked again in 15 s") as paused:
        await braking.ask()
    assert paused.value.retry_after_s == 15.0
    braking.clock.advance(15.0)
    await braking.ask()
    assert braking.slept == []


async def test_of_many_requests_that_are_refused_together_one_counts_and_one_asks_for_how_long() -> None:
    braking = Braking(asked="3")
    began = [await braking.brake.passed() for _ in range(5)]
    braking.clock.advance(1.0)
    assert [braking.brake.press(at) for at in began] == [True, False, False, False, False]
    assert braking.brake.left_s == FIRST_S
    braking.brake.release(began[0])  # one of them went well all the same
    assert braking.brake.left_s == FIRST_S
    assert braking.asked_for == []


async def test_a_store_cannot_ask_to_be_left_alone_for_ever() -> None:
    braking = Braking(asked="999999")
    assert await braking.refused_s() == MOST_ASKED_S
    assert braking.asked_for == ["m/1/a"]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("", 0.0),
        ("2", 2.0),
        (" 120 ", 120.0),
        ("-1", 0.0),
        ("soon", 0.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_how_long_a_store_asks_to_be_left_alone(said: str, seconds: float) -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert retry_after_s({"retry-after": said}, now=noon) == seconds


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"x-amz-server-side-encryption": "AES256"}, False),
        ({"x-amz-server-side-encryption": "aws:kms"}, True),
        ({"x-amz-server-side-encryption": "aws:kms:dsse"}, True),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, True),
    ],
)
def test_an_object_that_is_encrypted_by_a_key_has_an_etag_that_is_no_digest(
    headers: dict[str, str], expected: bool
) -> None:
    assert is_encrypted_by_key(headers) is expected
