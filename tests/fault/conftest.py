"""The fixtures of the fault rows: a test that ends with ``fault_row`` has a line in the table below ``make test-faults``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, Protocol

import pytest

from fault_city import City, served_city
from fault_models import FaultModels
from fault_stream import Row, Stream, check, row_of, table

PROPERTY = "fault_row"


class FaultRow(Protocol):
    def __call__(
        self, fault: str, stream: Stream, *, touched: Collection[str] = (), kinds: Collection[str] = ()
    ) -> None: ...


@pytest.fixture
def fault_row(record_property: Callable[[str, object], None]) -> FaultRow:
    """Judge a stream that has ended: 0 wrong, 0 failed but of ``touched`` models with ``kinds``; and note its row."""

    def judge(
        fault: str, stream: Stream, *, touched: Collection[str] = (), kinds: Collection[str] = ()
    ) -> None:
        record_property(PROPERTY, astuple(row_of(fault, stream, touched=touched)))
        check(stream, touched=touched, kinds=kinds)

    return judge


@pytest.fixture
def fault_models(tmp_path: Path) -> FaultModels:
    return FaultModels(tmp_path / "models")


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    with served_city(tmp_path) as made:
        yield made


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, also of tests that ran in other processes."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    rows = [Row(*value) for report in reports for name, value in report.user_properties if name == PROPERTY]
    if rows:
        terminalreporter.section("faults")
        for line in table(sorted(rows, key=lambda row: row.fault)):
            terminalreporter.write_line(line)
        for report in terminalreporter.getreports("skipped"):
            terminalreporter.write_line(f"not run: {report.nodeid}: {_reason(report.longrepr)}")


def _reason(skipped: Any) -> str:
    """Return why a test was skipped: of a file, a line and a text, the text."""
    return str(skipped[2] if isinstance(skipped, tuple) else skipped)
