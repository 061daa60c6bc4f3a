"""One run of the benchmarks written down: raw figures as JSON, a report in Markdown, and one in HTML with plots.

Called by ``run.py``. Pure but for ``keep``, which writes the three files side by side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from charts import svg
from section import Goal, Grid, Section

GOALS: Final = ("work", "goal", "this run", "")
NOT_SHOWN: Final = (
    "Not shown: another machine than the one under load; a network; models that compute, but for the section on "
    "processes. One row of a linear model is the hardest case for a server, as nearly all of its time is overhead. "
    "Compare figures of one run only: ratios hold where absolute figures do not."
)

STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: 13px; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child, td.text { text-align: left; }
figure { margin: 1rem 0; overflow-x: auto; }
.held { color: #1a7f37; } .missed { color: #cf222e; font-weight: 600; }
dt { font-weight: 600; } dd { margin: 0 0 .3rem; }
"""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run: what it depended on, its sections by name, and those that failed with why."""

    about: Mapping[str, str]
    sections: Mapping[str, Section]
    failed: Mapping[str, str]

    @property
    def goals(self) -> list[Goal]:
        return [goal for section in self.sections.values() for goal in section.goals]


def verdict(goal: Goal) -> str:
    """Return whether a goal holds, in a word."""
    return {True: "holds", False: "missed", None: "not decided"}[goal.holds]


def goals_grid(goals: Iterable[Goal]) -> Grid:
    """Return the table of goals."""
    rows = tuple((goal.work, goal.wanted, goal.found, verdict(goal)) for goal in goals)
    return Grid("What must be shown", GOALS, rows)


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    parts = ["# Benchmarks of hotset", _lines(f"* {name}: {value}" for name, value in report.about.items())]
    if report.goals:
        parts += ["## What must be shown", markdown_table(goals_grid(report.goals))]
    for section in report.sections.values():
        parts += [f"## {section.title}", section.about]
        for grid in section.grids:
            parts += [f"### {grid.title}", markdown_table(grid), *([grid.note] if grid.note else [])]
    parts += [f"## {name}: failed\n\n```text\n{reason}\n```" for name, reason in report.failed.items()]
    parts.append(NOT_SHOWN)
    return "\n\n".join(parts) + "\n"


def markdown_table(grid: Grid) -> str:
    """Return a table as Markdown."""
    rule = ["---:" if is_figures(grid, number) else "---" for number in range(len(grid.columns))]
    return _lines(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in (grid.columns, rule, *grid.rows)
    )


def is_figures(grid: Grid, column: int) -> bool:
    """Whether a column is to be aligned as numbers."""
    return column > 0 and all(is_figure(row[column]) for row in grid.rows)


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def html(report: Report) -> str:
    """Return the report as one HTML page that needs nothing else."""
    about = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.about.items()
    )
    parts = [f"<h1>Benchmarks of hotset</h1><dl>{about}</dl>"]
    if report.goals:
        parts.append(f"<h2>What must be shown</h2>{_html_table(goals_grid(report.goals))}")
    for section in report.sections.values():
        parts.append(f"<h2>{escape(section.title)}</h2><p>{escape(section.about)}</p>")
        parts += [f"<figure>{svg(plot)}</figure>" for plot in section.plots]
        parts += [
            f"<h3>{escape(grid.title)}</h3>{_html_table(grid)}<p>{escape(grid.note)}</p>"
            for grid in section.grids
        ]
    parts += [
        f"<h2>{escape(name)}: failed</h2><pre>{escape(reason)}</pre>"
        for name, reason in report.failed.items()
    ]
    body = "\n".join([*parts, f"<p>{escape(NOT_SHOWN)}</p>"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Benchmarks of hotset</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _html_table(grid: Grid) -> str:
    head = "".join(f"<th>{escape(it)}</th>" for it in grid.columns)
    rows = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in grid.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _html_cell(cell: str) -> str:
    kind = {"holds": "held", "missed": "missed"}.get(cell) or ("" if is_figure(cell) else "text")
    return f'<td class="{kind}">{escape(cell)}</td>' if kind else f"<td>{escape(cell)}</td>"


def is_figure(cell: str) -> bool:
    """Whether a cell of a table is to be aligned as a number."""
    return not cell or cell.lstrip("≤≥<>+-−")[:1].isdigit()


def keep(report: Report, folder: Path, stamp: str) -> Sequence[Path]:
    """Write raw figures and both reports; return where."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = {name: section.raw for name, section in report.sections.items()}
    goals = [
        {"work": it.work, "wanted": it.wanted, "found": it.found, "holds": it.holds} for it in report.goals
    ]
    whole = {"about": dict(report.about), "goals": goals, "failed": dict(report.failed), "sections": raw}
    texts = {
        f"{stamp}.json": json.dumps(whole, indent=1, default=str),
        f"{stamp}.md": markdown(report),
        f"{stamp}.html": html(report),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]
