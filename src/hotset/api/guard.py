"""Who may use the admin verbs: in this version, programs on the same machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final, TypeAlias

from hotset.api.reply import Scope
from hotset.errors import ErrorKind, HotsetError

Guard: TypeAlias = Callable[[Scope], None]
"""Called before an admin verb; raises a ``HotsetError`` to refuse it."""

_FORWARDED: Final = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip"}
)
_FORWARDED_PREFIXES: Final = (b"x-forwarded-", b"x-envoy-")
"""What proxies say of themselves. One that adds nothing at all cannot be told from a program."""

_BROWSERS: Final = frozenset({b"origin", b"sec-fetch-site"})
"""A page from anywhere can have a browser on this machine send a request; it cannot keep these headers away."""


def local_only(scope: Scope) -> None:
    """Let a program on this machine through; nobody who came through a proxy on it, and no web page.

    Raises:
        HotsetError: kind ``forbidden``.
    """
    client = scope.get("client")
    names = {name for name, _ in scope["headers"]}
    if names & _BROWSERS:
        raise HotsetError(
            "expected this request from a program, found one that a web page has sent; "
            "run it on the server's own machine, for example with 'hotset load'",
            kind=ErrorKind.FORBIDDEN,
        )
    if client and _is_loopback(client[0]) and not any(map(_is_of_proxy, names)):
        return
    found = client[0] if client else "an unknown address"
    raise HotsetError(
        f"expected this request from the server's own machine (127.0.0.1), without a proxy; it came from {found}. "
        "Run it there, for example with 'hotset load'",
        kind=ErrorKind.FORBIDDEN,
    )


def _is_of_proxy(name: bytes) -> bool:
    return name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
