"""The disk tier's directory: every operation on its files, synchronous, called in threads by ``DiskTier`` alone.

::

    <root>/lock                          locked by the one process that owns the directory; holds its pid
    <root>/recency                       fingerprints and ages, written now and then
    <root>/objects/<fingerprint>/record  the version's record
    <root>/objects/<fingerprint>/files/  the version's files: what a runtime is given
    <root>/staging/…                     what is being fetched and what is being deleted

There is no manifest file. A record is written inside the staged directory, so publishing is one rename: O(1), and
whole at any ``kill -9``. One manifest for all would have to be rewritten for each change or kept as a log, and could
then contradict the files; files and record that come and go together cannot. A directory leaves ``objects`` by a
rename as well, before it is deleted file by file. While an earlier copy of a fingerprint is still being deleted, a
new one is published as ``<fingerprint>.1``: nobody waits for a deletion.

With ``fsync`` a power cut is survived too, although nobody waits for the medium: a version is published with a record that
holds until the machine starts again, and is loaded; later ``write_through`` brings it to the medium and gives it a record
that holds for good. What a power cut finds in between is not adopted. Where the system does not name its starts, the
medium has a version before it is published. Without ``fsync`` a file of the right size may hold zeros after a power cut.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hotset.keys import Fingerprint
from hotset.tiers.medium import BOOT_ID, boot_id, replace_file, sync_directory, sync_tree, write_new_file
from hotset.tiers.ownership import Ownership
from hotset.tiers.record import NOT_A_FILE, Differences, DiskRecord, Stat, compare, decode, encode, stamped

RECORD: Final = "record"
FILES: Final = "files"

_NOT_NOW: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Why a record is not written for now, and may be later."""


@dataclass(frozen=True, slots=True)
class Found:
    """A whole version that lay on disk at start. ``age_s`` is None if it was the last choice of all.

    ``is_durable`` is whether a power cut would leave it whole.
    """

    record: DiskRecord
    path: Path
    age_s: float | None
    is_durable: bool


@dataclass(frozen=True, slots=True)
class Published:
    """A version that has its final name. Unless it ``is_durable``, ``write_through`` is still to come."""

    record: DiskRecord
    is_durable: bool


@dataclass(frozen=True, slots=True)
class _Whole:
    """What is known of a whole version before its turn is."""

    written_s: float
    path: Path
    record: DiskRecord
    is_durable: bool


@dataclass(frozen=True, slots=True)
class Recovery:
    """What lay on disk at start: whole versions, the oldest first, and how much else was removed."""

    found: tuple[Found, ...]
    removed: int


class DiskDirectory:
    """Thread-safe for different versions; the caller sees to it that each path has one user at a time.

    ``ownership.take`` first, then ``recover``, then anything; ``ownership.give_back`` last.
    """

    def __init__(self, root: Path, *, fsync: bool = True, boot_file: Path = BOOT_ID) -> None:
        """``boot_file`` names this start of the machine."""
        self.root: Final = root
        self._boot = boot_id(boot_file)
        self.objects: Final = root / "objects"
        self.staging: Final = root / "staging"
        self._fsync = fsync
        self.ownership: Final = Ownership(root, holding=(self.objects, self.staging))

    # Staging and publishing

    def publish(self, stage: Path, target: Path, record: DiskRecord) -> Published:
        """Give a staged directory its final name, if it holds exactly the files of ``record``.

        Raises:
            ValueError: files are missing, too many, or of a wrong size.
        """
        found = dict(_walk(stage / FILES))
        differences = compare(record.files, found)
        if differences != Differences():
            raise ValueError(f"the files of {record.key} are not those expected: {differences}")
        record = stamped(record, found)
        if self._fsync and self._boot is not None:
            write_new_file(f"{stage}/{RECORD}", encode(record, boot=self._boot))
            self._rename(stage, target)
            return Published(record, is_durable=False)
        if self._fsync:
            sync_tree(stage)
        self.write_record(stage, record)
        self._rename(stage, target)
        if self._fsync:
            sync_directory(self.objects)
        return Published(record, is_durable=True)

    def _rename(self, stage: Path, target: Path) -> None:
        # Where another process has made it anew, all directories are there, and a rename alone would succeed.
        if not self.ownership.is_ours():
            self.ownership.make_anew()
        try:
            stage.rename(target)
        except FileNotFoundError:
            self.ownership.make_anew()
            stage.rename(target)

    def write_through(self, path: Path, record: DiskRecord) -> OSError | None:
        """Bring a published version to the medium, its record last: whole after any power cut from now on.

        Return why not yet, where only the record found no room: the files are as good as before.

        Raises:
            OSError: it cannot be written, or another process has the directory by now; what is there is not ours then.
        """
        if self.ownership.is_anothers():
            raise OSError(errno.ESTALE, f"another process has the directory by now: {self.root}")
        sync_tree(path / FILES)
        try:
            replace_file(path / RECORD, encode(record), durable=True)
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise
            return error
        sync_directory(self.objects)
        return None

    def write_record(self, path: Path, record: DiskRecord) -> None:
        """Write what was learned of a version since it was published, and is on the medium."""
        if path.is_relative_to(self.objects) and self.ownership.is_anothers():
            return
        replace_file(path / RECORD, encode(record), durable=self._fsync)

    def write_recency(self, ages: Iterable[tuple[Fingerprint, float | None]]) -> None:
        """Note which version was used how many seconds ago, the oldest first."""
        if self.ownership.is_anothers():
            return
        replace_file(self.root / "recency", msgspec.json.encode(list(ages)), durable=self._fsync)

    # Deleting

    def remove(self, path: Path, trash: Path) -> None:
        """Delete a directory (or a file); one in ``objects`` is first renamed to ``trash``, so none is ever torn.

        What lies in ``objects`` under our name is not ours if another process has the directory by now.
        """
        if not path.is_relative_to(self.staging):
            if self.ownership.is_anothers():
                return
            try:
                path.rename(trash)
            except FileNotFoundError:
                if os.path.lexists(path):
                    raise  # `staging` is away; if the path were, it would be done already
            path = trash
        _delete(path)

    def remove_files(self, path: Path, extra: Iterable[str]) -> None:
        """Delete single files of a published version."""
        if self.ownership.is_anothers():
            return
        for name in extra:
            _delete(path / FILES / name)

    # Looking

    def inspect(self, path: Path, record: DiskRecord) -> Differences:
        """Compare a published version with its record."""
        return compare(record.files, dict(_walk(path / FILES)), by_time=True)

    def names(self) -> frozenset[Path]:
        """Return all that is in ``objects`` and ``staging``; nothing where another process has them by now."""
        if self.ownership.is_anothers():
            return frozenset()
        return frozenset(path for parent in (self.objects, self.staging) for path in parent.iterdir())

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def recover(self) -> Recovery:
        """Sweep away all that is not a whole version, and return those that are, the oldest first.

        What goes is moved to ``staging`` before anything is deleted, so this too may be killed anywhere.
        """
        whole: dict[Fingerprint, _Whole] = {}
        broken: list[Path] = []
        for path in sorted(self.objects.iterdir()):
            read = self._read(path)
            if read is None or read.record.fingerprint in whole:
                broken.append(path)
            else:
                whole[read.record.fingerprint] = read
        for path in broken:
            path.rename(self._unused_name(path.name))
        removed = 0
        for path in self.staging.iterdir():
            _delete(path)
            removed += 1
        return Recovery(tuple(_by_recency(whole, self._read_recency())), removed)

    def _unused_name(self, name: str) -> Path:
        path, number = self.staging / name, 0
        while path.exists() or path.is_symlink():
            number += 1
            path = self.staging / f"{name}.{number}"
        return path

    def _read(self, path: Path) -> _Whole | None:
        """Return what is known of a version, or None if it is not whole."""
        try:
            if not stat.S_ISDIR(path.lstat().st_mode):
                return None
            written = decode((path / RECORD).read_bytes())
            if written.boot not in (None, self._boot):
                return None  # the machine was started again before all of it was on the medium
            record = written.record
            written_s = (path / RECORD).stat().st_mtime
            found = dict(_walk(path / FILES))
            differences = compare(record.files, found)
            if record.fingerprint != path.name.partition(".")[0] or not differences.is_whole:
                return None
            self.remove_files(path, differences.extra)
            (path / f"{RECORD}.new").unlink(missing_ok=True)
            # Not the times of the last run: a directory that was copied has others, and is as good.
            record = stamped(record, found)
        except (OSError, ValueError):
            return None  # unreadable or contradicting itself: it is fetched again when it is asked for
        return _Whole(written_s, path, record, is_durable=written.boot is None)

    def _read_recency(self) -> Mapping[Fingerprint, float | None]:
        try:
            data = (self.root / "recency").read_bytes()
            return dict(msgspec.json.decode(data, type=list[tuple[Fingerprint, float | None]]))
        except (OSError, msgspec.MsgspecError, ValueError):
            return {}  # only an order: without it the records' own times decide


def _by_recency(
    whole: Mapping[Fingerprint, _Whole], ages: Mapping[Fingerprint, float | None]
) -> Iterator[Found]:
    """Those with a known age in the order in which they were saved; then those fetched since, by time."""
    for fingerprint, age_s in ages.items():
        if fingerprint in whole:
            it = whole[fingerprint]
            yield Found(it.record, it.path, age_s, it.is_durable)
    rest = [found for fingerprint, found in whole.items() if fingerprint not in ages]
    for it in sorted(rest, key=lambda found: (found.written_s, found.path)):
        yield Found(it.record, it.path, 0.0, it.is_durable)


def _walk(root: Path) -> Iterator[tuple[str, Stat]]:
    """Yield path and state of all below ``root`` that is no directory. What goes away meanwhile is left out."""
    pending = [("", root)]
    while pending:
        prefix, directory = pending.pop()
        try:
            entries = list(os.scandir(directory))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append((f"{prefix}{entry.name}/", Path(entry.path)))
            elif entry.is_file(follow_symlinks=False):
                try:
                    found = entry.stat(follow_symlinks=False)
                    yield f"{prefix}{entry.name}", Stat(found.st_size, found.st_mtime_ns)
                except FileNotFoundError:
                    continue
            else:
                yield f"{prefix}{entry.name}", Stat(NOT_A_FILE, 0)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
