"""Files that are read again when they change."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from hotset.errors import ConfigError
from hotset.renewal import Renewal, Renewals


async def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    file, read = tmp_path / "file", []
    file.write_text("1")
    renewals = Renewals([Renewal("words", (file,), lambda: read.append(file.read_text()))])
    await renewals.look()
    assert read == []
    file.write_text("22")
    await renewals.look()
    await renewals.look()
    assert read == ["22"]


async def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    one, other, link, read = tmp_path / "1", tmp_path / "2", tmp_path / "link", []
    one.write_text("1")
    other.write_text("2")
    link.symlink_to(one)
    renewals = Renewals([Renewal("words", (link,), lambda: read.append(link.read_text()))])
    new = tmp_path / "new"
    new.symlink_to(other)
    new.rename(link)
    await renewals.look()
    assert read == ["2"]


async def test_what_cannot_be_read_is_told_once_and_tried_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, read = tmp_path / "file", []
    file.write_text("1")

    def renew() -> None:
        if not file.exists():
            raise ConfigError("it is gone")
        read.append(file.read_text())

    renewals = Renewals([Renewal("words", (file,), renew)])
    file.unlink()
    with caplog.at_level(logging.WARNING):
        await renewals.look()
        await renewals.look()
    assert [record.getMessage() for record in caplog.records] == ["the old words stay in force: it is gone"]
    file.write_text("back")
    await renewals.look()
    assert read == ["back"]


async def test_it_looks_until_it_is_ended(tmp_path: Path) -> None:
    file, seen = tmp_path / "file", asyncio.Event()
    renewals = Renewals([Renewal("words", (file,), seen.set)], every_s=0.001)
    running = asyncio.create_task(renewals.run())
    file.write_text("now")
    async with asyncio.timeout(20):
        await seen.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_with_nothing_to_look_at_it_ends_at_once() -> None:
    await Renewals([]).run()
