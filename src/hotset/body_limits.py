"""How deep JSON may nest, how many elements a tensor may have, how much a body unpacks to: the settings' limits, of this process.

``configure`` is called once, by each child when it starts and by the gateway, which reads JSON for the admin verbs; the
codecs look at ``LIMITS``. All are checked before anything is made of what is too much.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hotset.errors import InvalidInputError

LEAST_ELEMENTS: Final = 1 << 16
"""No limit is lower: a body that is small enough for the short way has fewer, and is not asked."""

_BRACKETS: Final = b"[]{}"
_OTHERS: Final = bytes(code for code in range(256) if code not in _BRACKETS)
_ALIKE: Final = bytes.maketrans(b"{}", b"[]")
_QUOTE: Final = b'"'
_TEXT: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""One text; the last one may lack its end, so that no byte is looked at twice."""


@dataclass(slots=True)
class BodyLimits:
    """Owned by the process: set before the first body, and read by all threads."""

    json_depth: int = 200
    elements: int = 64 << 20
    unpacked_bytes: int = 64 << 20


LIMITS: Final = BodyLimits()


def configure(*, json_depth: int, elements: int, unpacked_bytes: int) -> None:
    """Set the limits of this process."""
    LIMITS.json_depth, LIMITS.elements, LIMITS.unpacked_bytes = json_depth, elements, unpacked_bytes


def check_depth(body: bytes | memoryview, what: str) -> None:
    """Refuse JSON that nests deeper than is allowed, before it is read.

    Raises:
        InvalidInputError
    """
    most = LIMITS.json_depth
    if len(body) > most and _is_deeper(bytes(body), most):
        raise InvalidInputError(f"{what} is nested too deeply: more than {most} levels (max_json_depth)")


def check_unpacked(size: int, where: str) -> None:
    """Refuse what would be larger, once it is unpacked, than a body may be that comes as it is.

    Raises:
        InvalidInputError
    """
    if size > LIMITS.unpacked_bytes:
        raise InvalidInputError(
            f"{where}: expected at most {LIMITS.unpacked_bytes} bytes when unpacked (max_body_size), found: {size}"
        )


def check_elements(count: int, where: str) -> None:
    """Refuse a tensor of more elements than are allowed.

    Raises:
        InvalidInputError
    """
    if count > LIMITS.elements:
        raise InvalidInputError(
            f"{where}: expected at most {LIMITS.elements} elements in a tensor (max_tensor_elements), found: {count}"
        )


def _is_deeper(body: bytes, most: int) -> bool:
    """Whether brackets nest more than ``most`` deep, without a step of Python for each byte.

    Text goes first, as it may hold brackets. Then each round takes the innermost pairs away, so what is left after
    ``most`` rounds is deeper. What is no JSON is told by whoever reads it.
    """
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    if _QUOTE in body:
        body = _TEXT.sub(b"", body)
    left = body.translate(_ALIKE, _OTHERS)
    for _ in range(most):
        if not left:
            return False
        shorter = left.replace(b"[]", b"")
        if len(shorter) == len(left):
            return len(left) > most  # they do not fit each other: no JSON, or cut short
        left = shorter
    return bool(left)
