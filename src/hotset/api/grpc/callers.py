"""Who calls over gRPC, as a ``Gate`` wants to see it: its address, and its metadata as headers."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from hotset.api.auth import Access, Gate
from hotset.api.headers import AUTHORIZATION
from hotset.api.ports import Headers
from hotset.tokens import Grant


def admit(gate: Gate, context: Any, access: Access) -> Grant:
    """Return what the caller may do.

    Raises:
        HotsetError: kind ``unauthenticated`` or ``forbidden``.
    """
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in metadata_of(context)]
    return gate.admit({"type": "grpc", "client": client_of(context.peer()), "headers": headers}, access)


def client_of(peer: str) -> tuple[str, int] | None:
    """Return host and port of a peer as gRPC names it: ``ipv4:127.0.0.1:5000``, ``ipv6:%5B::1%5D:5000``."""
    family, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    if family not in {"ipv4", "ipv6"} or not port.isdigit():
        return None
    return host.strip("[]"), int(port)


def metadata_of(context: Any) -> Headers:
    """Return the metadata of a request as text; binary values have a code for each byte."""
    return tuple(
        (key.lower(), value if isinstance(value, str) else value.decode("latin-1"))
        for key, value in context.invocation_metadata() or ()
    )


def metadata_for_models(context: Any) -> Headers:
    """Return the metadata without the client's token: a model's code has no business with it."""
    return tuple(header for header in metadata_of(context) if header[0] != AUTHORIZATION.decode())
