"""The command ``hotset check``: what would make models load faster, measured on their own files. It asks no server.

``cli`` adds it to its own. The table and the commands go to stdout, for people; ``--json`` prints all that was tried.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hotset.cli_tables import plain
from hotset.units import format_bytes

if TYPE_CHECKING:
    from hotset.checkup import Finding

PIPE_WIDTH: Final = 200


def check(
    *,
    location: Annotated[
        str,
        typer.Argument(
            metavar="LOCATION", help="A file, a directory, or a store such as s3://bucket/models."
        ),
    ],
    most: Annotated[int, typer.Option("--most", min=1, help="Only so many, the largest.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that was tried, for programs.")] = False,
) -> None:
    """Load models as a server does, and say what would make that faster. Only for files that you trust."""
    # Late: the commands that only ask a server should not wait for what opens stores and loads models.
    from hotset.checkup import examined_versions

    async def examined(scratch: Path) -> list[Finding]:
        return [finding async for finding in examined_versions(location, scratch, most=most)]

    with TemporaryDirectory(prefix="hotset-check-") as scratch:
        findings = asyncio.run(examined(Path(scratch)))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(_table(findings))
    for line in _advice(findings):
        typer.echo(line)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("file", "size", "loads in", "better as", "loads in", "faster", "size"):
        right = column not in {"file", "better as"}
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for finding in findings:
        table.add_row(*map(Text, _row(finding)))
    return table


def _row(finding: Finding) -> tuple[str, ...]:
    path, size = plain(finding.path), format_bytes(finding.bytes)
    if finding.reason:
        return path, size, "-", plain(finding.reason), "-", "-", "-"
    best = finding.best
    if best is None:
        return path, size, _time(finding.seconds), "it is", "-", "-", "-"
    factor = f"{finding.seconds / best.seconds:.1f}x"
    return (
        path,
        size,
        _time(finding.seconds),
        best.title,
        _time(best.seconds),
        factor,
        format_bytes(best.bytes),
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _advice(findings: Sequence[Finding]) -> list[str]:
    lines = [
        f"  {finding.best.command}" for finding in findings if finding.best is not None and not finding.reason
    ]
    if lines:
        lines = [
            "",
            "To write the better files; publish each as a new version, without the old file:",
            *lines,
        ]
    crowded = [finding for finding in findings if finding.has_many_files]
    if crowded:
        lines += ["", "Each file of a version is a request to the store; fewer files are fetched faster:"]
        lines += [f"  {plain(finding.path)}: {finding.files} files" for finding in crowded]
    return lines
