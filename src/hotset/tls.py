"""A certificate with its key: the context of the HTTPS ports, and the same as text for gRPC.

``server.py`` makes one where the settings name one, and has it renewed when the files change; connections made from then
on see the new one.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from hotset.errors import ConfigError


class Certificate:
    """Owned by the event loop, but for ``pem``, which any thread may read. ``renew`` at any time."""

    def __init__(self, cert: str, key: str) -> None:
        """Read both files.

        Raises:
            ConfigError: one cannot be read, or the two do not fit.
        """
        self.paths: Final = (Path(cert), Path(key))
        self.context: Final = _context()
        self.pem: tuple[bytes, bytes]
        """The key and the chain."""
        self.renew()

    def renew(self) -> None:
        """Read the files again. What does not fit leaves the old certificate in force.

        Raises:
            ConfigError: one cannot be read, or the two do not fit.
        """
        chain, key = self.paths
        try:
            # On a context of its own first: one that is in use would keep half of what does not fit.
            _load(_context(), chain, key)
            self.pem = (key.read_bytes(), chain.read_bytes())
            _load(self.context, chain, key)
        except ssl.SSLError as error:
            raise ConfigError(
                f"tls_cert, tls_key: expected a certificate chain and its key without a password, both in PEM; "
                f"{chain} and {key} are not, or do not belong together ({error.reason or 'malformed'})"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"tls_cert, tls_key: cannot read {chain} and {key}: {error.strerror}"
            ) from error


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, chain: Path, key: Path) -> None:
    context.load_cert_chain(chain, key, password=_no_password)


def _no_password() -> str:
    """Without this a key with a password would be asked for on the terminal."""
    return ""
