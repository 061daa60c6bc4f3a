"""Where a version is to go, as people write it: a model directory, a name and perhaps a number, in one location. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hotset.errors import InvalidInputError
from hotset.keys import parse_name, parse_version

_URL = re.compile(r"(?P<start>[A-Za-z][A-Za-z0-9+.-]*://[^/]*/?|/*)(?P<rest>.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """A version of a model below ``model_dir``; ``folder`` is as it was written (``3`` or ``v3``), None: the next."""

    model_dir: str
    name: str
    folder: str | None

    @property
    def version(self) -> int | None:
        return parse_version(self.folder) if self.folder is not None else None


def parse_target(location: str, *, name_depth: int = 1) -> Target:
    """Return what ``s3://bucket/models/paris/3`` or ``s3://bucket/models/paris`` means.

    A last part that is a version number is the version; what is before it is the name.

    Raises:
        InvalidInputError: there is no name in it, or one that no model may have.
    """
    match = _URL.match(location)
    assert match is not None
    start, parts = match["start"], [part for part in match["rest"].split("/") if part]
    folder = parts.pop() if parts and parse_version(parts[-1]) is not None else None
    if len(parts) < name_depth:
        shape = "/".join(["<name>"] * name_depth)
        raise InvalidInputError(
            f"expected where the version goes, such as s3://bucket/models/{shape}/3, or without the number"
            f" for the next one; found: {location!r}"
        )
    name = parse_name("/".join(parts[-name_depth:]), depth=name_depth)
    root = start + "/".join(parts[:-name_depth])
    return Target(root or ".", name, folder)
