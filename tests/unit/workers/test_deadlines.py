from __future__ import annotations

import asyncio

import pytest

from hotset.errors import ErrorKind, UnavailableError
from hotset.workers.deadlines import Deadlines


async def test_a_call_past_its_deadline_fails_and_the_others_go_on():
    now = [0.0]
    deadlines = Deadlines(now=lambda: now[0])
    loop = asyncio.get_running_loop()
    late, early, answered = (loop.create_future() for _ in range(3))
    deadlines.add(1, 5.0, early)
    deadlines.add(2, 50.0, late)
    deadlines.add(3, 5.0, answered)
    answered.set_result("in time")
    now[0] = 5.0
    with pytest.raises(UnavailableError) as error:
        await early
    assert error.value.kind is ErrorKind.DEADLINE
    assert not late.done()
    assert await answered == "in time"
    deadlines.drop(2)
    deadlines.drop(2)
    assert len(deadlines) == 0
    deadlines.close()


async def test_after_close_nothing_is_failed():
    deadlines = Deadlines(now=lambda: 100.0)
    answer = asyncio.get_running_loop().create_future()
    deadlines.add(1, 5.0, answer)
    deadlines.close()
    assert len(deadlines) == 0
    assert not answer.done()
