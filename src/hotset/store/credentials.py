"""Keys that are changed while a server runs: read from a shared credentials file, again whenever that has changed.

``location`` makes one where the environment names such a file; obstore calls it, in threads of its own, before it signs.
Keys in environment variables cannot change, and those of roles obstore renews by itself. A key is never in a message.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # obstore has this only for type checkers
    from obstore.store import S3Credential

LOOK_AGAIN: Final = timedelta(seconds=1)
"""So long a key is used before the file is looked at again."""

OBSTORE_RENEWS_BEFORE: Final = timedelta(seconds=300)
"""obstore asks for another key so long before the one that it has ends."""


class CredentialsFileError(ValueError):
    """There is no usable key in the file, and there was none before."""


@dataclass(frozen=True, slots=True)
class _Key:
    access_key_id: str
    secret_access_key: str
    token: str | None


@dataclass(frozen=True, slots=True)
class _State:
    """What tells one state of a file from the next, also where a link to another one takes its place."""

    device: int
    inode: int
    size: int
    modified_ns: int


class CredentialsFile:
    """Thread-safe: it is called by any thread, and each reads all that it needs before it keeps it."""

    def __init__(
        self, path: Path, *, profile: str = "default", now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._path = path
        self._profile = profile
        self._now = now
        self._read: tuple[_State, _Key] | None = None

    def __call__(self) -> S3Credential:
        """Return the key that the file has now; one that cannot be used is as if it had not been written yet.

        Raises:
            CredentialsFileError: there never was a usable one.
        """
        key = self._key()
        return {
            "access_key_id": key.access_key_id,
            "secret_access_key": key.secret_access_key,
            "token": key.token,
            "expires_at": self._now() + OBSTORE_RENEWS_BEFORE + LOOK_AGAIN,
        }

    def _key(self) -> _Key:
        known = self._read
        try:
            state = _state_of(self._path)
            if known is not None and known[0] == state:
                return known[1]
            key = _parsed(self._path.read_text("utf-8"), self._profile)
        except (OSError, ValueError, configparser.Error) as error:
            if known is not None:
                return known[1]
            raise CredentialsFileError(
                f"no key of profile {self._profile!r} in the credentials file {self._path}: {_reason(error)}"
            ) from None  # what could not be parsed may be a secret
        self._read = (state, key)
        return key


def _state_of(path: Path) -> _State:
    found = path.stat()
    return _State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _parsed(text: str, profile: str) -> _Key:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    if not parser.has_section(profile):
        raise ValueError("there is no such profile")
    section = parser[profile]
    key_id, secret = section.get("aws_access_key_id", ""), section.get("aws_secret_access_key", "")
    if not key_id or not secret:
        raise ValueError("expected aws_access_key_id and aws_secret_access_key")
    return _Key(key_id, secret, section.get("aws_session_token") or None)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, configparser.Error):
        return "it is not of the form that is expected"
    return "it is not text" if isinstance(error, UnicodeDecodeError) else str(error)
