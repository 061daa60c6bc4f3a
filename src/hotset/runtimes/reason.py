"""One sentence from a stranger's exception: its type and its text, never its traceback.

Called by every runtime where a framework or the user's code raised. The result goes to clients, so it is bounded.
"""

from __future__ import annotations

from typing import Final

from hotset.errors import ErrorKind, LoadFailedError
from hotset.runtimes.exhaustion import is_out_of_memory_in_code

MAX_REASON_CHARS: Final = 2000


def reason_of(error: BaseException) -> str:
    """Return ``ValueError: the text``, on one line where the text has one, cut at ``MAX_REASON_CHARS``."""
    name = type(error).__name__
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001 - the user's own __str__ may raise anything, and its type still says enough
        text = ""
    reason = f"{name}: {text}" if text else name
    return reason if len(reason) <= MAX_REASON_CHARS else f"{reason[:MAX_REASON_CHARS]}…"


def load_failure(what: str, error: BaseException) -> LoadFailedError:
    """Return the error for a load that a framework or the user's code broke off; ``what`` says where."""
    kind = ErrorKind.OUT_OF_MEMORY if is_out_of_memory_in_code(error) else None
    return LoadFailedError(f"{what} {reason_of(error)}", kind=kind)


def not_installed(framework: str, extra: str) -> LoadFailedError:
    """Return the error for a load whose framework cannot be imported; raise it from the ``ImportError``."""
    return LoadFailedError(f"{framework} is not installed; install it with: pip install 'hotset[{extra}]'")
