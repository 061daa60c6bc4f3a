"""Durations and sizes as people write them: ``10s``, ``1m30s``, ``8GiB``, ``500MB``.

Settings are read through it and logs, tables and docs are written through it. It knows no setting's name.
Durations become ``float`` seconds, sizes ``int`` bytes.
"""

from __future__ import annotations

import math
import re
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+\Z", re.ASCII)

_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_FACTORS: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    **{letter + end: 1000**power for power, letter in enumerate("kmgtp", 1) for end in ("", "b")},
    **{letter + end: 1024**power for power, letter in enumerate("kmgtp", 1) for end in ("i", "ib")},
}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)\Z", re.ASCII)


def parse_duration(text: str) -> float:
    """Return the seconds in ``10s``, ``1m30s``, ``500ms``, ``2h``, ``1d`` or a bare number of seconds.

    Raises:
        ValueError: it is none of these; the message repeats it.
    """
    compact = text.replace(" ", "").lower()
    if _DURATION.match(compact):
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(compact))
    try:
        seconds = float(compact)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds) and seconds >= 0:
        return seconds
    raise ValueError(f"not a duration: {text!r}")


def format_duration(seconds: float) -> str:
    """Return a duration for people: ``0s``, ``500ms``, ``10s``, ``1m30s``, ``2h``."""
    if seconds < 1:
        return f"{round(seconds * 1000, 3):g}ms" if seconds else "0s"
    rest, parts = seconds, []
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, _SECONDS[unit])
        if count:
            parts.append(f"{count:.0f}{unit}")
    if round(rest, 3):
        parts.append(f"{round(rest, 3):g}s")
    return "".join(parts)


def parse_bytes(text: str) -> int:
    """Return the bytes in ``8GiB``, ``500MB``, ``1.5Gi``, ``64k`` or a bare number of bytes.

    Raises:
        ValueError: it is none of these; the message repeats it.
    """
    match = _SIZE.match(text.strip())
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"not a size: {text!r}")
    return round(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def format_bytes(count: float) -> str:
    """Return a size for people, to one decimal: ``512B``, ``1.2MiB``, ``64MiB``."""
    size, power = float(count), 0
    while abs(size) >= 1023.95 and power < len(_BINARY) - 1:
        size, power = size / 1024, power + 1
    return f"{round(size, 1):g}{_BINARY[power]}"
