"""Of what goes well, no more than a hundred lines a second of each kind; failures are all told."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from hotset import logs
from hotset.errors import ErrorKind
from hotset.events import Event, Loaded, LoadFailed
from hotset.keys import ModelKey
from hotset.logs import EventLines
from hotset.testing import ManualClock

KEY = ModelKey("paris", 1)


def loaded() -> Event:
    return Loaded(KEY, worker=1, runtime="sklearn", bytes=1, seconds=0.001)


def told(caplog: pytest.LogCaptureFixture) -> Counter[str]:
    return Counter(record.event for record in caplog.records)  # type: ignore[attr-defined]


@pytest.fixture
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hotset.events")


@pytest.mark.usefixtures("_heard")
def test_more_than_a_hundred_in_a_second_are_counted_and_told_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    lines = EventLines(clock.monotonic)
    for _ in range(EventLines.MOST + 903):
        lines.log(loaded())
    assert told(caplog) == {"loaded": EventLines.MOST}
    clock.advance(1.0)
    lines.log(loaded())
    assert told(caplog) == {"loaded": EventLines.MOST + 2}
    more, one = caplog.records[-2:]
    assert more.fields == {"more": 903, "seconds": 1.0}  # type: ignore[attr-defined]
    assert one.fields["model"] == "paris"  # type: ignore[attr-defined]
    clock.advance(1.0)
    lines.log(loaded())
    assert told(caplog) == {"loaded": EventLines.MOST + 3}, "nothing is told twice"


@pytest.mark.usefixtures("_heard")
def test_every_failure_is_told(caplog: pytest.LogCaptureFixture) -> None:
    lines = EventLines(ManualClock().monotonic)
    for _ in range(EventLines.MOST * 2):
        lines.log(LoadFailed(KEY, ErrorKind.LOAD_FAILED, "broken", 1.0, 0.1))
    assert told(caplog) == {"load_failed": EventLines.MOST * 2}


def test_a_line_of_how_many_more_reads_well() -> None:
    record = logging.LogRecord("hotset.events", logging.INFO, "", 0, "loaded", None, None)
    record.event, record.fields = "loaded", {"more": 903, "seconds": 1.0}
    assert logs.ConsoleFormatter().format(record).endswith("INFO    loaded  more=903 seconds=1.000")
