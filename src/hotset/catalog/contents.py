"""What belongs to a version: its objects by relative path, or the reason why they cannot be stored as they are.

The listing calls it to fingerprint a version and the fetch to store it, so that both mean the same. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hotset.keys import Fingerprint, fingerprint

if TYPE_CHECKING:  # what a listing holds; the catalog itself needs no store
    from hotset.store import ObjectMeta

SUCCESS: Final = "_SUCCESS"
PUBLISHING: Final = "_PUBLISHING"
"""An object in a version that says: somebody is at it. Such a version waits, however long nothing changes."""
MAX_PART_BYTES: Final = 255

_UNSAFE = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)|[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class UnfaithfulVersionError(ValueError):
    """A version's objects cannot be written below a directory as they are; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class VersionContents:
    """A version's objects by their path relative to its prefix, without folder markers and the two markers of ours."""

    objects: Mapping[str, ObjectMeta]
    success: ObjectMeta | None
    is_being_published: bool = False

    @property
    def fingerprint(self) -> Fingerprint:
        return fingerprint((path, meta.size, meta.etag) for path, meta in self.objects.items())

    @property
    def modified_s(self) -> float:
        return max(meta.modified_s for meta in self.objects.values())

    @property
    def bytes(self) -> int:
        return sum(meta.size for meta in self.objects.values())


def version_contents(objects: Iterable[ObjectMeta], prefix: str) -> VersionContents:
    """Return what counts of the objects below ``prefix``.

    An object that a page boundary showed twice counts once, the newest of the two.

    Raises:
        UnfaithfulVersionError: a path is unsafe, a file is also a directory, or there are no files.
    """
    start = len(prefix)
    found: dict[str, ObjectMeta] = {}
    unsafe: list[str] = []
    for meta in objects:
        if is_folder_marker(meta):
            continue
        path = meta.path[start:]
        if _UNSAFE.search(path) or (len(path) > MAX_PART_BYTES // 4 and _too_long(path)):
            unsafe.append(path)
            continue
        other = found.get(path)
        if other is None or _recency(meta) > _recency(other):
            found[path] = meta
    if unsafe:
        raise UnfaithfulVersionError(_problem(min(unsafe)))
    _drop_folders(found)
    success = found.pop(SUCCESS, None)
    publishing = found.pop(PUBLISHING, None)
    if not found:
        raise UnfaithfulVersionError("it holds no files yet; expected the model's files")
    return VersionContents(found, success, publishing is not None)


def _drop_folders(found: dict[str, ObjectMeta]) -> None:
    """Remove what some stores show for a folder: an empty object at its path, without the slash."""
    parents: set[str] = set()
    for path in found:
        end = path.rfind("/")
        while end > 0 and path[:end] not in parents:
            parents.add(path[:end])
            end = path.rfind("/", 0, end)
    both = parents & found.keys()
    collisions = [path for path in both if found[path].size]
    if collisions:
        raise UnfaithfulVersionError(f"an object is both a file and a directory: {min(collisions)!r}")
    for path in both:
        del found[path]


def is_folder_marker(meta: ObjectMeta) -> bool:
    """Say whether an object only stands for a folder, as consoles and Hadoop write them."""
    return not meta.size and meta.path.endswith(("/", "_$folder$"))


def _recency(meta: ObjectMeta) -> tuple[float, int, str]:
    return meta.modified_s, meta.size, meta.etag


def _too_long(path: str) -> bool:
    return any(len(part.encode("utf-8", "surrogatepass")) > MAX_PART_BYTES for part in path.split("/"))


def _problem(path: str) -> str:
    if _CONTROL.search(path):
        return f"a control character in the path: {path!r}"
    if "\\" in path:
        return f"a backslash in the path: {path!r}"
    if _too_long(path):
        return f"a part longer than {MAX_PART_BYTES} bytes in the path: {path[:80]!r}…"
    return f"an empty part, '.' or '..' in the path: {path!r}"
