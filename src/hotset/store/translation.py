"""What obstore raises and returns, in our words. Pure; the one table for its errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from arro3.core import DataType
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from hotset.errors import StoreError
from hotset.store.base import ObjectMeta, StoreBusyError
from hotset.store.page import ObjectPage

if TYPE_CHECKING:  # obstore has these only for type checkers
    from arro3.core import RecordBatch
    from obstore import ObjectMeta as RawMeta

OBSTORE_ERRORS: Final = (BaseError, OSError, ValueError)
"""All that obstore raises. The builtin ones are why only obstore's own calls may stand under ``translated``."""

_SYNTHESISED: Final = "modified-"
_INT64: Final = DataType.int64()
_MICROSECONDS: Final = 1e6
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_QUERY = re.compile(r"\?\S+")
_DEBUG = "\n\nDebug source"
_CREDENTIALS_FILE = re.compile(r"CredentialsFileError: (.+)")

_REASONS: Final = (
    ("Connection refused", "the connection was refused"),
    ("ConnectionRefused", "the connection was refused"),
    ("dns error", "its host name is not known"),
    ("instance metadata", "no credentials were found; set them, or ask for anonymous access"),
    ("169.254.169.254", "no credentials were found; set them, or ask for anonymous access"),
    ("TimedOut", "no answer in time"),
    ("timed out", "no answer in time"),
    ("non-partial response", "a part was asked for and not answered as one"),
    ("IncompleteBody", "the answer was cut short"),
    ("IncompleteMessage", "the answer was cut short"),
    ("UnexpectedEof", "the answer was cut short"),
    ("end of file before message length", "the answer was cut short"),
    ("ConnectionReset", "the connection was reset"),
)
_BUSY: Final = frozenset({"429", "503"})
_HINTS: Final = {
    "401": "; check the credentials",
    "403": "; check the credentials and what they are allowed to do",
}


@contextlib.contextmanager
def translated(url: str, doing: str) -> Iterator[None]:
    """Turn any error of obstore inside into a ``StoreError`` with a plain message. Only for obstore's own calls."""
    try:
        yield
    except OBSTORE_ERRORS as error:
        raise store_error(error, url=url, doing=doing) from error


def store_error(error: Exception, *, url: str, doing: str) -> StoreError:
    """Return our error for one of obstore's; ``doing`` says in a few words what was asked of the store."""
    unsigned = _CREDENTIALS_FILE.search(str(error))
    if unsigned is not None:
        return StoreError(f"{url} was not asked {doing}: {unsigned[1]}")
    status = status_of(error)
    if status is not None:
        code = _CODE.search(str(error))
        named = f" {code[1]}" if code else ""
        kind = StoreBusyError if status in _BUSY else StoreError
        return kind(f"{url} refused {doing}: HTTP {status}{named}{_HINTS.get(status, '')}")
    return StoreError(f"{url} failed {doing}: {_reason(error)}")


def status_of(error: Exception) -> str | None:
    """Return the HTTP status that the store answered with, if it is known."""
    match = _STATUS.search(str(error))
    if match is not None:
        return match[1]
    if isinstance(error, UnauthenticatedError):
        return "401"
    return "403" if isinstance(error, PermissionDeniedError) else None


def is_range_refusal(error: Exception) -> bool:
    """Tell whether a store answered a ranged GET with 200, as rclone's does, so that obstore refused its answer."""
    return "non-partial response" in str(error)


def is_beyond_end(error: Exception) -> bool:
    """Tell whether a range begins behind the object's end: it has become shorter since it was listed."""
    return status_of(error) == "416" or "Wanted range starting at" in str(error)


def meta_from(raw: RawMeta) -> ObjectMeta:
    """Return obstore's record as ours; an etag loses its quotes and weakness, a missing one is made of the time."""
    modified_s = raw["last_modified"].timestamp()
    etag = normalised_etag(raw["e_tag"]) or f"{_SYNTHESISED}{int(modified_s)}"
    return ObjectMeta(path=raw["path"], size=raw["size"], etag=etag, modified_s=modified_s)


def page_from(batch: RecordBatch) -> ObjectPage:
    """Return a page of obstore's records as ours; each attribute is what ``meta_from`` makes of it."""
    paths = [*batch.column("path").to_pylist()]
    times = batch.column("last_modified").cast(_INT64).to_numpy() / _MICROSECONDS
    etags = [(etag or "").removeprefix("W/").strip('"') for etag in batch.column("e_tag").to_pylist()]
    if "" in etags:
        pairs = zip(etags, times, strict=True)
        etags = [etag or f"{_SYNTHESISED}{int(modified_s)}" for etag, modified_s in pairs]
    return ObjectPage(paths, batch.column("size").to_numpy().tolist(), etags, times.tolist())


def normalised_etag(etag: str | None) -> str:
    return (etag or "").removeprefix("W/").strip('"')


def if_match(etag: str) -> str | None:
    """Return the header that asks for this etag, or None if it is one that we made."""
    return None if etag.startswith(_SYNTHESISED) else f'"{etag}"'


def _reason(error: Exception) -> str:
    text = str(error)
    for sign, reason in _REASONS:
        if sign in text:
            return reason
    # A query may carry a signature or a token.
    return _QUERY.sub("", text.split(_DEBUG, 1)[0]).replace("\n", " ")[:300]
