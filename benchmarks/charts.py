"""Plots as inline SVG: bars and lines, with a legend, an axis and nothing else. Called by ``report.py``. Pure.

A report is one file that opens anywhere, so there is no library of scripts, no font and no image to fetch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from section import Bars, Lines

WIDTH: Final = 760
HEIGHT: Final = 300
LEFT: Final = 64
RIGHT: Final = 12
TOP: Final = 34
BOTTOM: Final = 44
LEGEND_PX: Final = 20
COLOURS: Final = ("#1f6feb", "#bf8700", "#1a7f37", "#a40e26", "#6639ba", "#57606a", "#0a7ea4", "#953800")
TICKS: Final = 5
HEADROOM: Final = 1.06


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to pixels between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (self._scaled(it) for it in (self.low, self.high, max(value, self.low)))
        return self.start + (at - low) / ((high - low) or 1.0) * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Return round values between the ends."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [step * 10.0**power for power in powers for step in (1, 2, 5)]
        else:
            step = round_step((self.high - self.low) / TICKS)
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            values = [number * step for number in range(first, last + 1)]
        return [it for it in values if self.low <= it <= self.high]


def round_step(value: float) -> float:
    """Return the next of 1, 2, 5, 10, … at or above ``value``."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def svg(plot: Bars | Lines) -> str:
    """Return a plot as an SVG element."""
    return _bars(plot) if isinstance(plot, Bars) else _lines(plot)


def _bars(plot: Bars) -> str:
    values = [it for series in plot.series.values() for it in series if it is not None]
    y = Axis(0.0, (max([*values, plot.line or 0.0]) or 1.0) * HEADROOM, HEIGHT - BOTTOM, TOP)
    group_px = (WIDTH - LEFT - RIGHT) / len(plot.groups)
    bar_px = group_px * 0.8 / len(plot.series)
    parts = [_y_axis(y)]
    for number, (name, series) in enumerate(plot.series.items()):
        for group, value in enumerate(series):
            if value is None:
                continue
            left = LEFT + group * group_px + group_px * 0.1 + number * bar_px
            label = f"{name}, {plot.groups[group]}: {figure(value)} {plot.unit}"
            parts.append(
                f'<rect x="{left:.1f}" y="{y(value):.1f}" width="{bar_px * 0.94:.1f}" '
                f'height="{y.start - y(value):.1f}" fill="{_colour(number)}"><title>{escape(label)}</title></rect>'
            )
            if bar_px > 26:
                parts.append(_text(left + bar_px / 2, y(value) - 4, figure(value), "middle", size=10))
    for group, group_name in enumerate(plot.groups):
        parts.append(_text(LEFT + (group + 0.5) * group_px, HEIGHT - BOTTOM + 16, group_name, "middle"))
    if plot.line is not None:
        parts.append(_line([(LEFT, y(plot.line)), (WIDTH - RIGHT, y(plot.line))], "#57606a", dashed=True))
    return _frame(f"{plot.title} ({plot.unit})", plot.series, parts)


def _lines(plot: Lines) -> str:
    points = [it for series in plot.series.values() for it in series]
    x_values, y_values = [it[0] for it in points] or [0.0], [it[1] for it in points] or [0.0]
    x = Axis(min(0.0, *x_values), max(*x_values, 1e-9) * 1.02, LEFT, WIDTH - RIGHT)
    positive = [it for it in y_values if it > 0] or [1.0]
    low = min(positive) * 0.8 if plot.log else 0.0
    y = Axis(low, max(*y_values, low * 10, 1e-9) * HEADROOM, HEIGHT - BOTTOM, TOP, log=plot.log)
    parts = [_y_axis(y)]
    parts += [_text(x(value), HEIGHT - BOTTOM + 16, figure(value), "middle") for value in x.ticks()]
    parts.append(_text((LEFT + WIDTH) / 2, HEIGHT - 8, plot.x, "middle"))
    parts.append(_text(LEFT - 6, TOP - 8, plot.y, "end", size=10))
    for number, (name, series) in enumerate(plot.series.items()):
        places = [(x(at), y(value)) for at, value in series]
        parts.append(_line(places, _colour(number)))
        parts += _dots(places, series, name, _colour(number))
    return _frame(plot.title, plot.series, parts)


def _dots(
    places: Iterable[tuple[float, float]], series: Iterable[tuple[float, float]], name: str, colour: str
) -> list[str]:
    return [
        f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3" fill="{colour}">'
        f"<title>{escape(name)}: {figure(at)}, {figure(value)}</title></circle>"
        for (left, top), (at, value) in zip(places, series, strict=True)
    ]


def _y_axis(axis: Axis) -> str:
    parts = []
    for value in axis.ticks():
        parts.append(_line([(LEFT, axis(value)), (WIDTH - RIGHT, axis(value))], "#d0d7de"))
        parts.append(_text(LEFT - 6, axis(value) + 4, figure(value), "end"))
    return "".join(parts)


def _frame(title: str, series: Mapping[str, object], parts: Sequence[str]) -> str:
    height = HEIGHT + LEGEND_PX * len(series)
    legend = []
    for number, name in enumerate(series):
        top = HEIGHT + LEGEND_PX * number
        legend.append(f'<rect x="{LEFT}" y="{top}" width="12" height="12" fill="{_colour(number)}"/>')
        legend.append(_text(LEFT + 18, top + 10, name, "start"))
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'font-family="system-ui, sans-serif">{_text(LEFT, 16, title, "start", size=14)}'
        f"{''.join(parts)}{''.join(legend)}</svg>"
    )


def _line(points: Iterable[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>'


def _text(left: float, top: float, text: str, anchor: str, *, size: int = 12) -> str:
    return (
        f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}" font-size="{size}" fill="currentColor">'
        f"{escape(text)}</text>"
    )


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def figure(value: float) -> str:
    """Return a value with as many digits as tell something."""
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    if abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}"
