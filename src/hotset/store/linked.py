"""A local directory whose files somebody else put there for us: they are taken over by links, not by copies.

For the directories that a platform brings. What is copied is only what cannot be linked, such as files on another
file system.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from hotset.store.base import ObjectChangedError, ObjectMeta
from hotset.store.local import LocalStore
from hotset.store.local_writing import meta_of
from hotset.store.target import in_thread, make_directory


class LinkedStore(LocalStore):
    """As ``LocalStore``. The files must not be written to, as the links lead to the same ones; they may be deleted."""

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        linked: list[Path] = []  # a cancelled caller must still know that there is a file
        try:
            await in_thread(partial(self._link, object_, target, linked))
            if linked:
                return
        except BaseException:
            if linked:
                await in_thread(partial(target.unlink, missing_ok=True))
            raise
        await super().download(object_, target)

    def _link(self, object_: ObjectMeta, target: Path, linked: list[Path]) -> None:
        """Link the file if that can be done; whatever is wrong with the file itself, a copy finds out."""
        source = self._real(object_.path)
        if not self._contains(source):
            return
        make_directory(target.parent)
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            return
        linked.append(target)
        found = meta_of(object_.path, target.lstat())
        if (found.size, found.etag) != (object_.size, object_.etag):
            raise ObjectChangedError(f"{object_.path!r} in {self.url} has changed since it was listed")
