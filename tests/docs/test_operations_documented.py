"""docs/operations.md has every metric, event, cause and kind of error, as the code has them."""

from __future__ import annotations

import logging
import re
import typing

import pytest

from doc_pages import text_of
from hotset import events
from hotset.api.errors import HttpKind
from hotset.errors import ErrorKind
from hotset.events import Cause, Event, Evicted, Fetched, LatestMoved, Loaded, TierName
from hotset.instruments import markdown
from hotset.keys import ModelKey
from hotset.logs import ConsoleFormatter, fields_of, level_of

PAGE = text_of("docs/operations.md")
EVENTS = typing.get_args(Event)
EVENT_TABLE, CAUSE_TABLE = PAGE.partition("| event |")[2].split("| cause |")


def rows_of(table: str) -> dict[str, list[str]]:
    """Return the cells of each row by the word in its first one, up to the end of the table."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row for row in rows}


def made(type_: type) -> Event:
    """An event with something in each field."""
    values = {
        "key": ModelKey("paris", 3),
        "tier": TierName.DISK,
        "cause": Cause.CAPACITY,
        "kind": ErrorKind.LOADING,
    }
    names = type_.__dataclass_fields__  # type: ignore[attr-defined]
    return type_(**{name: values.get(name, 1) for name in names})  # type: ignore[no-any-return]


def word_of(type_: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type_.__name__).lower()


def test_the_metrics_are_what_the_table_of_instruments_says() -> None:
    assert markdown() in PAGE, "copy the output of hotset.instruments.markdown() there"


def test_every_event_there_is_was_found() -> None:
    records = {item for item in vars(events).values() if hasattr(item, "__dataclass_fields__")}
    assert set(EVENTS) == records


@pytest.mark.parametrize("type_", EVENTS, ids=word_of)
def test_an_event_is_documented_with_its_fields_and_level(type_: type) -> None:
    _, level, fields, _ = rows_of(EVENT_TABLE)[word_of(type_)]
    assert re.findall(r"`(\w+)`", fields) == list(fields_of(made(type_)))
    assert logging.getLevelName(level_of(made(type_))).lower() in level


@pytest.mark.parametrize("cause", Cause)
def test_a_cause_is_documented(cause: Cause) -> None:
    assert cause in rows_of(CAUSE_TABLE.partition("## Metrics")[0])


@pytest.mark.parametrize("kind", [*ErrorKind, *HttpKind])
def test_a_kind_of_error_is_in_the_table_of_failures(kind: str) -> None:
    failures = PAGE.partition("## Failures")[2].partition("## Logs")[0]
    assert f"`{kind}`" in failures


def test_the_lines_of_the_log_look_like_this() -> None:
    paris, oslo, mib = ModelKey("paris", 3), ModelKey("oslo", 1), 1 << 20
    shown = [
        Fetched(paris, int(1.2 * mib), 4, 0.112),
        Loaded(paris, 1, "sklearn", int(2.1 * mib), 0.031),
        Evicted(TierName.MEMORY, oslo, Cause.CAPACITY, 2 * mib, 0.001),
        LatestMoved("paris", 4, 3),
    ]
    for event in shown:
        record = logging.LogRecord("hotset.events", level_of(event), "", 0, "", None, None)
        record.event, record.fields = word_of(type(event)), fields_of(event)
        line = ConsoleFormatter().format(record).partition(" ")[2]
        assert f" {line}\n" in PAGE
