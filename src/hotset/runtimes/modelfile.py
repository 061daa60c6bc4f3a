"""Which of a version's files is the model. Pure; called by the runtimes that load one file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from hotset.errors import LoadFailedError


def candidates(files: Sequence[str], suffixes: Collection[str]) -> list[str]:
    """Return the files that end in one of ``suffixes`` (with the dot, lower case), hidden ones left out."""
    paths = (PurePosixPath(file) for file in files)
    return sorted(str(path) for path in paths if path.suffix.lower() in suffixes and path.name[0] != ".")


def choose(files: Sequence[str], suffixes: Collection[str]) -> str:
    """Return the one model file; of several, the one named ``model``.

    Raises:
        LoadFailedError: there is none, or several and not exactly one of them is named ``model``.
    """
    found = candidates(files, suffixes)
    if len(found) == 1:
        return found[0]
    preferred = [file for file in found if PurePosixPath(file).stem == "model"]
    if len(preferred) == 1:
        return preferred[0]
    expected = " or ".join(f"model{suffix}" for suffix in suffixes)
    if found:
        raise LoadFailedError(f"several model files, and not one named {expected}: {listing(found)}")
    raise LoadFailedError(f"no model file; expected {expected}, found: {listing(files)}")


def listing(files: Sequence[str], *, limit: int = 10) -> str:
    """Return the first ``limit`` names for a message, and how many more there are."""
    if not files:
        return "no files"
    shown = ", ".join(files[:limit])
    return shown if len(files) <= limit else f"{shown} and {len(files) - limit} more"
