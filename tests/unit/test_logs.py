"""Logs: a line for each event, in both formats, and nothing of a request."""

from __future__ import annotations

import io
import json
import logging
import re
import typing
import warnings
from collections.abc import Iterator

import pytest

from hotset import logs
from hotset.errors import ErrorKind
from hotset.events import (
    Cause,
    Copied,
    CopyDropped,
    CopyFailed,
    Event,
    EventBus,
    Evicted,
    Fetched,
    FetchFailed,
    LabelMoved,
    LabelsRefused,
    LatestMoved,
    Loaded,
    LoadFailed,
    MemoryPressure,
    Quarantined,
    Recovered,
    Synced,
    SyncFailed,
    TierName,
    WorkerDied,
    WorkerStarted,
)
from hotset.keys import ModelKey

PARIS = ModelKey("paris", 3)
EVENTS: tuple[Event, ...] = (
    Fetched(PARIS, bytes=1_258_291, objects=2, seconds=0.25),
    FetchFailed(PARIS, kind=ErrorKind.STORE_UNAVAILABLE, reason="the store did not answer", seconds=1.0),
    Loaded(PARIS, worker=0, runtime="sklearn", bytes=1_258_291, seconds=0.0312345678),
    LoadFailed(PARIS, kind=ErrorKind.LOAD_FAILED, reason='bad "file"', retry_in_s=5.0, seconds=0.1),
    Evicted(TierName.MEMORY, PARIS, Cause.CAPACITY, bytes=100, seconds=0.5),
    Copied(PARIS, worker=2, bytes=1_258_291, seconds=0.1),
    CopyFailed(PARIS, worker=2, kind=ErrorKind.LOAD_FAILED, reason="no", retry_in_s=60.0, seconds=0.1),
    CopyDropped(PARIS, worker=2, cause=Cause.IDLE, bytes=1_258_291, seconds=0.1),
    LatestMoved("paris", version=4, previous=3),
    LabelMoved("paris", "stable", version=4, previous=3),
    LabelsRefused("paris", reason="line 1: this is no YAML"),
    Synced(models=10, versions=12, rejects=0, unsettled=0, added=1, removed=0, changed=0, seconds=0.5),
    SyncFailed(reason="away", consecutive=2, retry_in_s=20.0),
    WorkerStarted(worker=0, pid=12, seconds=0.4),
    WorkerDied(worker=0, pid=12, reason="killed by SIGKILL", lost_models=7),
    MemoryPressure("high", taken_bytes=900, limit_bytes=1000, stall=0.25, evicting_bytes=100),
    Quarantined(PARIS, reason="killed by SIGSEGV", retry_in_s=30.0),
    Recovered(adopted=5, removed=1, bytes=1024),
)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream to configure logging with; everything that ``configure`` changes is put back."""
    root = logging.getLogger()
    names = ["uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "httpcore", "botocore", "asyncio"]
    before = {name: dict(logging.getLogger(name).__dict__) for name in names}
    handlers, level = [*root.handlers], root.level
    yield io.StringIO()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in names:
        kept = before[name]
        logger = logging.getLogger(name)
        logger.setLevel(kept["level"])
        logger.propagate, logger.disabled = kept["propagate"], kept["disabled"]


def _json_lines(stream: io.StringIO) -> list[dict[str, typing.Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_event_there_is_has_a_level_and_a_line(stream: io.StringIO) -> None:
    assert {type(event) for event in EVENTS} == set(typing.get_args(Event))
    logs.configure("debug", "json", stream)
    bus = EventBus()
    bus.subscribe(logs.log_event)
    for event in EVENTS:
        bus.publish(event)
    lines = _json_lines(stream)
    assert [line["event"] for line in lines] == [
        "fetched",
        "fetch_failed",
        "loaded",
        "load_failed",
        "evicted",
        "copied",
        "copy_failed",
        "copy_dropped",
        "latest_moved",
        "label_moved",
        "labels_refused",
        "synced",
        "sync_failed",
        "worker_started",
        "worker_died",
        "memory_pressure",
        "quarantined",
        "recovered",
    ]


def test_a_json_line_has_model_version_tier_cause_seconds_and_bytes(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logs.log_event(EVENTS[2])
    logs.log_event(EVENTS[4])
    loaded, evicted = _json_lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", loaded.pop("time"))
    assert loaded == {
        "level": "info",
        "event": "loaded",
        "model": "paris",
        "version": 3,
        "worker": 0,
        "runtime": "sklearn",
        "bytes": 1_258_291,
        "seconds": 0.031235,
    }
    assert (evicted["tier"], evicted["cause"], evicted["bytes"]) == ("memory", "capacity", 100)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (EVENTS[2], "INFO    loaded paris@3  worker=0 runtime=sklearn bytes=1.2MiB seconds=0.031"),
        (EVENTS[3], r'WARNING load_failed paris@3  kind=load_failed reason="bad \"file\"" retry_in_s=5.000'),
        (EVENTS[8], "INFO    latest_moved paris@4  previous=3"),
        (EVENTS[9], "INFO    label_moved paris@4  label=stable previous=3"),
        (EVENTS[10], 'WARNING labels_refused paris  reason="line 1: this is no YAML"'),
        (EVENTS[14], 'ERROR   worker_died  worker=0 pid=12 reason="killed by SIGKILL" lost_models=7'),
    ],
)
def test_a_console_line_is_for_people(stream: io.StringIO, event: Event, line: str) -> None:
    logs.configure("info", "console", stream)
    logs.log_event(event)
    clock, rest = stream.getvalue().split(" ", 1)
    assert re.fullmatch(r"\d\d:\d\d:\d\d", clock)
    assert rest.startswith(line)


def test_a_reason_cannot_start_a_line_of_its_own(stream: io.StringIO) -> None:
    logs.configure("info", "console", stream)
    logs.log_event(SyncFailed(reason="away\n12:00:00 INFO  loaded rome@1", consecutive=1, retry_in_s=1.0))
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("format_", ["console", "json"])
def test_what_utf8_cannot_hold_does_not_cost_the_line(stream: io.StringIO, format_: logs.LogFormat) -> None:
    logs.configure("info", format_, stream)
    logs.log_event(SyncFailed(reason="bad \udcff byte", consecutive=1, retry_in_s=1.0))
    assert "sync_failed" in stream.getvalue()
    stream.getvalue().encode("utf-8")


def test_a_pass_that_changed_nothing_is_only_for_debugging(stream: io.StringIO) -> None:
    quiet = Synced(models=1, versions=1, rejects=0, unsettled=0, added=0, removed=0, changed=0, seconds=0.1)
    logs.configure("info", "json", stream)
    logs.log_event(quiet)
    assert not stream.getvalue()
    logs.configure("debug", "json", stream)
    logs.log_event(quiet)
    assert _json_lines(stream)[0]["level"] == "debug"


def test_events_below_the_level_are_not_logged(stream: io.StringIO) -> None:
    logs.configure("error", "json", stream)
    for event in EVENTS:
        logs.log_event(event)
    assert [line["event"] for line in _json_lines(stream)] == ["worker_died", "quarantined"]


def test_other_loggers_use_the_same_lines(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("theirs").debug("not this")
    (line,) = _json_lines(stream)
    assert (line["logger"], line["message"]) == ("uvicorn.error", "Started server process [7]")


def test_an_exception_is_a_field_in_json_and_a_traceback_on_the_console(stream: io.StringIO) -> None:
    for format_ in ("json", "console"):
        logs.configure("info", format_, stream)
        try:
            raise KeyError("row")
        except KeyError:
            logging.getLogger("hotset.worker").exception("predict failed")
    first, *rest = stream.getvalue().splitlines()
    assert "Traceback" in json.loads(first)["exception"]
    assert rest[0].endswith("ERROR   hotset.worker: predict failed")
    assert rest[-1] == "KeyError: 'row'"


def test_warnings_of_libraries_become_lines_too(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("an old model", UserWarning, stacklevel=1)
    assert "an old model" in _json_lines(stream)[0]["message"]


def test_the_access_log_is_off_because_its_lines_hold_the_query(stream: io.StringIO) -> None:
    logs.configure("debug", "json", stream)
    logging.getLogger("uvicorn.access").info('%s - "%s %s"', "127.0.0.1", "GET", "/models?secret=1")
    logging.getLogger("httpx").info("HTTP Request: GET http://x/models?secret=1")
    assert not stream.getvalue()


def test_configuring_twice_writes_each_line_once(stream: io.StringIO) -> None:
    logs.configure("info", "json", io.StringIO())
    logs.configure("info", "json", stream)
    logs.log_event(EVENTS[2])
    assert len(_json_lines(stream)) == 1
