"""Only what is signed is loaded: the look at a version's files before its first load in this process.

``residency.arrival`` calls it, where the settings name keys. It looks at the content of the files on disk and at nothing that
the store says of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from hotset.errors import ErrorKind, LoadFailedError
from hotset.keys import Fingerprint, ModelKey
from hotset.signing.keys import CheckingKey, signed_payload
from hotset.signing.manifest import (
    MOST_BYTES,
    SIGNATURE_FILE,
    ManifestError,
    differences,
    digests_below,
    read_manifest,
)

MOST_REMEMBERED: Final = 100_000


class Verifier:
    """Owned by the event loop; any number of ``verify`` at once.

    What was good is good until this process ends or ``forget`` is called: the files were fetched anew, and what the store says
    of them, of which a fingerprint is made, is not believed.
    """

    def __init__(self, keys: Sequence[CheckingKey], *, binds_names: bool = True) -> None:
        """Without ``binds_names`` it is not compared which version was signed: a static list gives its own names."""
        self._keys: Final = tuple(keys)
        self._binds_names: Final = binds_names
        self._good: dict[Fingerprint, set[ModelKey]] = {}

    async def verify(
        self, key: ModelKey, fingerprint: Fingerprint, directory: Path, paths: Iterable[str]
    ) -> None:
        """Return if the files are those that were signed for this version.

        Raises:
            LoadFailedError: kind ``unsigned`` where nobody whose key is known has signed, ``tampered`` where the files, or
                the version, are others than those that were signed.
        """
        if self.is_good(key, fingerprint):
            return
        await asyncio.to_thread(partial(self._check, key, directory, tuple(paths)))
        if len(self._good) >= MOST_REMEMBERED:
            self._good.clear()
        self._good.setdefault(fingerprint, set()).add(key)

    def is_good(self, key: ModelKey, fingerprint: Fingerprint) -> bool:
        """Whether these files were found to be those that were signed for this version."""
        return key in self._good.get(fingerprint, ())

    def forget(self, fingerprint: Fingerprint) -> None:
        """Look again: these files are others than those that were looked at, whatever they are called."""
        self._good.pop(fingerprint, None)

    def _check(self, key: ModelKey, directory: Path, paths: Sequence[str]) -> None:
        if SIGNATURE_FILE not in paths:
            raise _unsigned(key, f"it has no {SIGNATURE_FILE}")
        try:
            payload = signed_payload(_read(directory / SIGNATURE_FILE), self._keys)
            if payload is None:
                raise _unsigned(key, f"none of the {len(self._keys)} keys in signing_keys has signed it")
            manifest = read_manifest(payload)
            found = digests_below(directory, paths)
        except ManifestError as error:
            raise _unsigned(key, str(error)) from error
        except OSError as error:
            raise LoadFailedError(
                f"the files of {key} cannot be read to check their signature: {error}"
            ) from error
        signed = ModelKey(manifest.name, manifest.version)
        if self._binds_names and signed != key:
            raise _tampered(key, f"it was signed as {signed}")
        told = differences(manifest, found)
        if told:
            raise _tampered(key, told)


def _read(file: Path) -> bytes:
    with file.open("rb") as content:
        data = content.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ManifestError(f"{SIGNATURE_FILE} has more than {MOST_BYTES} bytes")
    return data


def _unsigned(key: ModelKey, why: str) -> LoadFailedError:
    return LoadFailedError(
        f"expected a signed version, and {key} is not: {why}; sign it with `hotset sign` or `hotset publish --sign-key`",
        kind=ErrorKind.UNSIGNED,
    )


def _tampered(key: ModelKey, found: str) -> LoadFailedError:
    return LoadFailedError(f"{key} is not what was signed: {found}", kind=ErrorKind.TAMPERED)
