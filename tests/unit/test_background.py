"""Tasks beside the requests: one that fails is told and leaves the others alone, and the end waits for all."""

from __future__ import annotations

import asyncio

import pytest

from hotset.background import Background


async def test_one_that_fails_is_in_the_log_by_its_name_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    background, gate = Background(), asyncio.Event()

    async def fail() -> None:
        raise ValueError("the store is not what it was")

    async def go_on() -> None:
        await gate.wait()

    failed = background.spawn(fail(), "sync loop")
    other = background.spawn(go_on(), "copies")
    await asyncio.wait({failed})
    assert [record.message for record in caplog.records] == ["sync loop ended with an error"]
    gate.set()
    await other


async def test_the_end_cancels_all_and_waits_for_what_they_do_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    background, ended, begun = Background(), [], asyncio.Event()

    async def run() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("swept")

    background.spawn(run(), "memory guard")
    await begun.wait()
    await background.end()
    assert ended == ["swept"]
    assert not caplog.records
    await background.end()
