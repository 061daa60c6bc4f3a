"""A model directory that does not fit, shown to people: the tree that was expected and the tree that was found.

Pure. The server logs it when a listing holds no model, ``hotset config check`` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from hotset.catalog.entries import Layout, Reject

MOST_SHOWN: Final = 20
_PARTS: Final = ("acme", "team-a", "eu", "prod")


def explain_misfit(layout: Layout, rejects: Sequence[Reject]) -> str:
    """Return both trees as text, each rejected entry with its reason."""
    shown = [f"{reject.path}   ← {reject.reason}" for reject in rejects[:MOST_SHOWN]]
    if len(rejects) > MOST_SHOWN:
        shown.append(f"… and {len(rejects) - MOST_SHOWN} more")
    return "\n".join(
        ["expected:", *_indented(expected_tree(layout)), "found:", *_indented(shown or ["nothing"])]
    )


def expected_tree(layout: Layout) -> list[str]:
    """Return an example of what the layout takes, as lines."""
    if layout.static:
        return [f"{name}/…" for name in sorted(layout.names)[:MOST_SHOWN]]
    folders = [*_PARTS[: layout.name_depth - 1], "paris"]
    lines = [f"{'    ' * depth}{folder}/" for depth, folder in enumerate(folders)]
    inner = "    " * len(folders)
    return [
        *lines,
        f"{inner}1/",
        f"{inner}    model.joblib   (or .pkl, .onnx, or what your predictor loads)",
        f"{inner}2/",
        f"{inner}    model.joblib",
    ]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
