"""Who may wait for room with models in hand: one, in the order of arrival; and nobody begins while it waits."""

from __future__ import annotations

import asyncio

import pytest

from hotset.errors import ErrorKind, OverloadedError
from hotset.residency.seniority import Seniority


async def test_those_who_wait_come_in_the_order_of_their_numbers() -> None:
    seniority = Seniority()
    await seniority.take(9, limit_s=5)
    order: list[int] = []

    async def wait(number: int) -> None:
        await seniority.take(number, limit_s=5)
        order.append(number)
        seniority.give_up()

    waiting = [asyncio.create_task(wait(number)) for number in (7, 3, 5)]
    await asyncio.sleep(0)
    assert not order
    seniority.give_up()
    await asyncio.gather(*waiting)
    assert order == [3, 5, 7]
    await seniority.take(1, limit_s=0)


async def test_who_waits_too_long_is_told_so_and_holds_nobody_up() -> None:
    seniority = Seniority()
    await seniority.take(1, limit_s=5)
    with pytest.raises(OverloadedError) as error:
        await seniority.take(2, limit_s=0)
    assert error.value.kind is ErrorKind.NO_ROOM
    seniority.give_up()
    await seniority.take(3, limit_s=0)


async def test_who_goes_away_as_its_turn_comes_lets_the_next_one_have_it() -> None:
    seniority = Seniority()
    await seniority.take(1, limit_s=5)
    going, staying = (asyncio.create_task(seniority.take(number, limit_s=5)) for number in (2, 3))
    await asyncio.sleep(0)
    seniority.give_up()
    going.cancel()
    await staying
    assert going.cancelled()


async def test_nobody_passes_while_the_senior_waits_for_room() -> None:
    seniority = Seniority()
    await seniority.let_pass(limit_s=0)
    seniority.begin_wait()
    assert seniority.is_short
    with pytest.raises(OverloadedError, match="still waits"):
        await seniority.let_pass(limit_s=0)
    passing = asyncio.create_task(seniority.let_pass(limit_s=5))
    await asyncio.sleep(0)
    assert not passing.done()
    seniority.end_wait()
    await passing
