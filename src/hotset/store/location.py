"""From a URL to a store. The border where a location is parsed once; credentials come from the environment.

obstore itself reads ``AWS_*``, ``GOOGLE_*`` and ``AZURE_*``; ``options`` go before them. A shared credentials file, which it
does not know, is read here.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from hotset.errors import ConfigError
from hotset.store.base import WritableStore
from hotset.store.credentials import CredentialsFile
from hotset.store.local import LocalStore
from hotset.store.remote import RemoteStore

if TYPE_CHECKING:  # obstore has these only for type checkers
    from obstore.store import ClientConfig, RetryConfig

_ACCEPTED: Final = (
    "a local path, file:///path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or memory://"
)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HALF_URL = re.compile(r"(s3|gs|az|file|memory|https?):", re.IGNORECASE)
_QUERY = re.compile(r"\?.*=", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """How much is asked of a store at once, and how long it is waited for.

    ``read_timeout_s`` is for silence: a large object may take up to ``request_timeout_s`` as long as bytes come.
    """

    max_parallel: int = 16
    part_bytes: int = 16 << 20
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0
    request_timeout_s: float = 3600.0
    max_retries: int = 4
    retry_timeout_s: float = 30.0


_DEFAULT_LIMITS: Final = StoreLimits()
_NO_OPTIONS: Final[Mapping[str, str]] = MappingProxyType({})


def open_store(
    url: str,
    *,
    options: Mapping[str, str] = _NO_OPTIONS,
    anonymous: bool = False,
    limits: StoreLimits = _DEFAULT_LIMITS,
    may_be_away: bool = False,
) -> WritableStore:
    """Return the store at ``url``; nothing is asked of a remote one yet.

    ``options`` are obstore's own for the kind of store (``endpoint``, ``access_key_id``, …, for S3 also spelled as the
    ``AWS_*`` variables). With ``anonymous`` requests are not signed. A directory that ``may_be_away`` need not be there now.

    Raises:
        ConfigError: a malformed URL, a scheme or option that is not known, a directory that is not there.
    """
    match = _URL.match(url)
    if match is None:
        return _open_path(url, limits, may_be_away)
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        return _open_file_url(url, rest, limits, may_be_away)
    if scheme == "memory":
        return _remote(MemoryStore(), url, "", limits)
    if scheme not in {"s3", "gs", "az"}:
        raise ConfigError(f"expected {_ACCEPTED}; found the scheme {scheme!r}")
    bucket, prefix = _split(scheme, rest)
    return _open_bucket(scheme, bucket, prefix, {**options, **_signing(anonymous)}, limits)


def _open_file_url(url: str, rest: str, limits: StoreLimits, may_be_away: bool) -> WritableStore:
    path = rest.removeprefix("localhost")
    if not path.startswith("/"):
        raise ConfigError(f"expected a file URL like file:///srv/models, found: {url!r}")
    return _open_path(unquote(path), limits, may_be_away)


def _open_path(text: str, limits: StoreLimits, may_be_away: bool) -> WritableStore:
    half = _HALF_URL.match(text)
    if half is not None:  # no more of it is repeated: there may be a secret in it
        raise ConfigError(f"expected {_ACCEPTED}; found {half[1]}: without '//' behind it")
    if not text or "\0" in text:
        raise ConfigError(f"expected {_ACCEPTED}; found: {text!r}")
    path = Path(text).expanduser()
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:  # not there, or a mount whose server does not answer
        if not may_be_away:
            is_missing = error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
            what = "does not exist" if is_missing else f"cannot be read ({error.strerror})"
            raise ConfigError(f"the directory {what}: {text}") from error
    else:
        if not is_directory:
            raise ConfigError(f"expected a directory, found a file: {text}")
    return LocalStore(path, max_parallel=limits.max_parallel)


def _split(scheme: str, rest: str) -> tuple[str, str]:
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        # What stands there is not repeated: it may be somebody's key and secret.
        raise ConfigError(
            f"expected {scheme}://bucket/prefix with a bucket of letters, digits, '.', '-' and '_', and no credentials"
        )
    if _QUERY.search(prefix):
        raise ConfigError(
            f"expected {scheme}://{bucket}/prefix, found a query behind it, which may hold a signature; "
            "credentials come from the environment"
        )
    parts = prefix.strip("/").split("/") if prefix.strip("/") else []
    if any(part in {"", ".", ".."} or not part.isprintable() for part in parts):
        raise ConfigError(f"a part of the prefix is empty, '.', '..' or not printable: {prefix!r}")
    return bucket, "/".join(parts)


def _signing(anonymous: bool) -> dict[str, str]:
    return {"skip_signature": "true"} if anonymous else {}


def _open_bucket(
    scheme: str, bucket: str, prefix: str, options: Mapping[str, str], limits: StoreLimits
) -> WritableStore:
    # The keys of obstore's typed dictionaries are the user's here; obstore itself refuses unknown ones.
    settings: dict[str, Any] = {
        "prefix": prefix or None,
        "client_options": _client(limits),
        "retry_config": _retries(limits),
    }
    try:
        store: S3Store | GCSStore | AzureStore
        if scheme == "s3":
            file = _credentials_file(options, os.environ)
            store = S3Store(bucket, config=_any(options), credential_provider=file, **settings)
        elif scheme == "gs":
            store = GCSStore(bucket, config=_any(options), **settings)
        else:
            store = AzureStore(bucket, config=_any(options), **settings)
    except (BaseError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ConfigError(f"the store {scheme}://{bucket} cannot be set up: {reason}") from error
    return _remote(store, f"{scheme}://{bucket}/{prefix}".rstrip("/"), prefix, limits)


def _credentials_file(options: Mapping[str, str], environment: Mapping[str, str]) -> CredentialsFile | None:
    """Return what reads the file that the environment names, unless a key, or that none is used, is said outright."""
    given = {name.lower().removeprefix("aws_") for name in options}
    given |= {name.lower().removeprefix("aws_") for name in environment if name.startswith("AWS_")}
    path = environment.get("AWS_SHARED_CREDENTIALS_FILE", "")
    if not path or given & {"access_key_id", "skip_signature"}:
        return None
    return CredentialsFile(Path(path).expanduser(), profile=environment.get("AWS_PROFILE") or "default")


def _any(options: Mapping[str, str]) -> Any:
    return dict(options)


def _client(limits: StoreLimits) -> ClientConfig:
    return {
        "allow_http": True,  # only an endpoint that says http:// gets it; the default ones are https
        "connect_timeout": timedelta(seconds=limits.connect_timeout_s),
        "read_timeout": timedelta(seconds=limits.read_timeout_s),
        "timeout": timedelta(seconds=limits.request_timeout_s),
    }


def _retries(limits: StoreLimits) -> RetryConfig:
    return {
        "max_retries": limits.max_retries,
        "retry_timeout": timedelta(seconds=limits.retry_timeout_s),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }


def _remote(
    store: S3Store | GCSStore | AzureStore | MemoryStore, url: str, root: str, limits: StoreLimits
) -> WritableStore:
    return RemoteStore(
        store, url=url, root=root, max_parallel=limits.max_parallel, part_bytes=limits.part_bytes
    )
