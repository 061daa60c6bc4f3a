"""Logs: one line an event, for people or as JSON, and every other logger through the same formatter.

``configure`` is called once by each process at start (the server and its children); ``EventLines`` subscribes to the
event bus. Nothing of a request is ever logged here: no body, no query, no header, and uvicorn's access log, whose
lines hold the query, is off.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, Final, Literal, TextIO, TypeAlias

import msgspec

from hotset.events import (
    Copied,
    CopyDropped,
    CopyFailed,
    Event,
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
    WorkerDied,
    WorkerStarted,
)
from hotset.keys import ModelKey
from hotset.units import format_bytes

LogFormat: TypeAlias = Literal["console", "json"]

_EVENTS: Final = logging.getLogger("hotset.events")
_LEVELS: Final[Mapping[type[Event], int]] = {
    Fetched: logging.INFO,
    FetchFailed: logging.WARNING,
    Loaded: logging.INFO,
    LoadFailed: logging.WARNING,
    Evicted: logging.INFO,
    Copied: logging.INFO,
    CopyFailed: logging.WARNING,
    CopyDropped: logging.INFO,
    LatestMoved: logging.INFO,
    LabelMoved: logging.INFO,
    LabelsRefused: logging.WARNING,
    Synced: logging.INFO,
    SyncFailed: logging.WARNING,
    WorkerStarted: logging.INFO,
    WorkerDied: logging.ERROR,
    MemoryPressure: logging.WARNING,
    Quarantined: logging.ERROR,
    Recovered: logging.INFO,
}
_NAMES: Final = {type_: re.sub(r"(?<!^)(?=[A-Z])", "_", type_.__name__).lower() for type_ in _LEVELS}
_FIELDS: Final = {type_: tuple(field.name for field in fields(type_)) for type_ in _LEVELS}

_SILENT: Final = ("uvicorn.access",)
_QUIET: Final = ("httpx", "httpcore", "botocore", "asyncio")
_PLAIN_VALUE: Final = re.compile(r"[^\s\"=]+\Z")


def log_event(event: Event) -> None:
    """Log one event. Thread-safe."""
    level = level_of(event)
    if _EVENTS.isEnabledFor(level):
        _log(level, _NAMES[type(event)], fields_of(event))


def _log(level: int, name: str, values: dict[str, Any]) -> None:
    # Not by `_EVENTS.log`, which looks for the line of code that called it: events are published in one place.
    record = logging.LogRecord(_EVENTS.name, level, "", 0, name, None, None)
    record.event, record.fields = name, values
    _EVENTS.handle(record)


class EventLines:
    """Logs events, but of what goes well no more than ``MOST`` of each kind in a second; then how many more there were.

    Where a memory is small for its traffic there are thousands of loads a second: their lines would cost more than they, and
    fill the disk. A subscriber for the event bus, in one thread.
    """

    MOST: Final = 100

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._second = 0
        self._counts: dict[type[Event], int] = {}

    def log(self, event: Event) -> None:
        """Log one event, unless there were too many like it."""
        second = int(self._now())
        if second != self._second:
            self._tell()
            self._second = second
        kind = type(event)
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count <= self.MOST or _LEVELS[kind] > logging.INFO:
            log_event(event)

    def _tell(self) -> None:
        counts, self._counts = self._counts, {}
        for kind, count in counts.items():
            level = _LEVELS[kind]
            if count > self.MOST and level <= logging.INFO and _EVENTS.isEnabledFor(level):
                _log(level, _NAMES[kind], {"more": count - self.MOST, "seconds": 1.0})


def level_of(event: Event) -> int:
    """Return the level of an event; a pass of the sync that changed nothing is only for debugging."""
    if isinstance(event, Synced) and not (event.added or event.removed or event.changed):
        return logging.DEBUG
    return _LEVELS[type(event)]


def fields_of(event: Event) -> dict[str, Any]:
    """Return an event's fields, flat, model and version first."""
    values: dict[str, Any] = {}
    for name in _FIELDS[type(event)]:
        value = getattr(event, name)
        if isinstance(value, ModelKey):
            values["model"], values["version"] = value
        elif value is not None:
            values["model" if name == "name" else name] = (
                round(value, 6) if isinstance(value, float) else value
            )
    return values


class ConsoleFormatter(logging.Formatter):
    """``12:00:01 INFO  loaded paris@3  runtime=sklearn bytes=1.2MiB seconds=0.031``. Thread-safe."""

    def format(self, record: logging.LogRecord) -> str:
        clock = _clock(int(record.created))
        event = getattr(record, "event", None)
        if event is None:
            text = f"{record.name}: {record.getMessage()}"
        else:
            text = _event_text(event, getattr(record, "fields", {}))
        trace = _traceback(self, record)
        line = f"{clock} {record.levelname:<7} {text}" + (f"\n{trace}" if trace else "")
        # A name or a reason may hold what UTF-8 cannot: it must not cost the line.
        return line.encode("utf-8", "backslashreplace").decode("utf-8")


@lru_cache(maxsize=1)
def _clock(second: int) -> str:
    """Of hundreds of lines a second, all but one have the time of the one before."""
    return time.strftime("%H:%M:%S", time.localtime(second))


def _event_text(event: str, values: Mapping[str, Any]) -> str:
    rest = dict(values)
    subject = str(rest.pop("model", ""))
    if subject and "version" in rest:
        subject = f"{subject}@{rest.pop('version')}"
    pairs = " ".join(f"{name}={_value_text(name, value)}" for name, value in rest.items())
    return "  ".join(part for part in (f"{event} {subject}".rstrip(), pairs) if part)


def _value_text(name: str, value: Any) -> str:
    if name == "bytes":
        return format_bytes(value)
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN_VALUE.match(text) else json.dumps(text, ensure_ascii=False)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; an exception's traceback is the field ``exception``. Thread-safe."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
        }
        event = getattr(record, "event", None)
        if event is None:
            line |= {"logger": record.name, "message": record.getMessage()}
        else:
            line |= {"event": event, **getattr(record, "fields", {})}
        trace = _traceback(self, record)
        if trace:
            line["exception"] = trace
        try:
            return msgspec.json.encode(line, enc_hook=str).decode("utf-8")
        except UnicodeEncodeError:
            return json.dumps(line, default=str)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, told from the handlers that others put on the root logger."""


def configure(level: str, log_format: LogFormat, stream: TextIO) -> None:
    """Send every logger of this process to ``stream``, in ``log_format``. A second call replaces the first.

    Warnings of libraries are logged too, so that JSON lines stay JSON.
    """
    root = logging.getLogger()
    for handler in [*root.handlers]:
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    ours = _Handler(stream)
    ours.setFormatter(JsonFormatter() if log_format == "json" else ConsoleFormatter())
    root.addHandler(ours)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in _SILENT:
        logging.getLogger(name).disabled = True
