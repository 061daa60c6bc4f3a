"""Whether a request says which host it is for, as HTTP asks of it (RFC 9112, 3.2). Called by ``connection``.

Nothing here answers by host. But a proxy before us may, and one that reads another host out of a request than the next
server does is how requests are smuggled: what can be read in two ways is not answered at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_HOST: Final = re.compile(rb"[0-9A-Za-z!$%&'()*+,\-.:;=\[\]_~]*")
"""Every character that a host with a port can have; empty where a target has no host."""

_SHOWN: Final = 80


def host_fault(hosts: Sequence[bytes], *, version: str) -> str | None:
    """Return what is wrong with the values of a request's Host headers, or None. ``version`` is that of HTTP: ``1.1``."""
    if not hosts:
        return (
            None if version == "1.0" else f"expected a Host header in a request of HTTP/{version}, found none"
        )
    if len(hosts) > 1:
        return f"expected one Host header, found {len(hosts)}"
    if _HOST.fullmatch(hosts[0]) is None:
        return f"expected a host and a port in the Host header, found: {hosts[0][:_SHOWN].decode('latin-1')}"
    return None
