"""Ed25519 keys: made, read, written as a line, and used. The only module that imports ``cryptography``.

A key for signing is a file in PEM, without a password; a key for checking is a line, ``ed25519:<base64>``, or such a file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hotset.errors import ConfigError, InvalidInputError
from hotset.signing.manifest import ManifestError, opened, sealed, signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX: Final = "ed25519:"
_RAW_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class CheckingKey:
    """A public key; ``id`` is how signatures name it, and proves nothing."""

    id: str
    key: Ed25519PublicKey

    @property
    def line(self) -> str:
        """The key as the setting ``signing_keys`` takes it."""
        return PREFIX + base64.b64encode(self.key.public_bytes_raw()).decode("ascii")


class SigningKey:
    """A private key. Nothing shows it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key: Final = key
        self.public: Final = _checking(key.public_key())

    def sign(self, payload: bytes) -> bytes:
        """Return a signature's file for a payload."""
        return sealed(payload, [(self.public.id, self._key.sign(signed_bytes(payload)))])


def check_installed(wanted_by: str) -> None:
    """Return if signatures can be made and checked here.

    Raises:
        ConfigError: what that needs is not installed.
    """
    if find_spec("cryptography") is None:
        raise ConfigError(
            f"{wanted_by}: the package cryptography is not installed; install it with: pip install 'hotset[signing]'"
        )


def new_key(file: Path) -> SigningKey:
    """Make a key and write it to a file that nobody else may read; return it.

    Raises:
        InvalidInputError: there is such a file already, or it cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInputError(f"cannot write the new key {file}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as output:
        output.write(pem)
    return SigningKey(key)


def read_signing_key(file: Path) -> SigningKey:
    """Return the key of a file.

    Raises:
        InvalidInputError: it cannot be read, or is no private Ed25519 key without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise InvalidInputError(f"cannot read the key {file}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(f"{file}: {_EXPECTED_PRIVATE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInputError(f"{file}: {_EXPECTED_PRIVATE}")
    return SigningKey(key)


_EXPECTED_PRIVATE: Final = "expected a private Ed25519 key in PEM without a password, found something else; `hotset keygen` makes one"


def read_checking_keys(words: Iterable[str]) -> tuple[CheckingKey, ...]:
    """Return the keys of the setting ``signing_keys``.

    Raises:
        ConfigError: one is neither a line nor a file with a public Ed25519 key.
    """
    check_installed("signing_keys")
    return tuple(_read_checking_key(word) for word in words)


def _read_checking_key(word: str) -> CheckingKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    expected = f"expected a public Ed25519 key: {PREFIX}<base64>, or a file in PEM; `hotset keygen` makes one"
    try:
        if word.startswith(PREFIX):
            raw = base64.b64decode(word.removeprefix(PREFIX), validate=True)
            return _checking(Ed25519PublicKey.from_public_bytes(raw))
        key = load_pem_public_key(Path(word).read_bytes())
    except OSError as error:
        raise ConfigError(f"signing_keys: cannot read {word}: {error.strerror}; {expected}") from error
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise ConfigError(f"signing_keys: {expected}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"signing_keys: {word}: {expected}")
    return _checking(key)


def _checking(key: Ed25519PublicKey) -> CheckingKey:
    return CheckingKey(hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16], key)


def signed_payload(data: bytes, keys: Iterable[CheckingKey]) -> bytes | None:
    """Return the payload of a signature's file if one of the keys has signed it, else None.

    Raises:
        ManifestError: it is malformed.
    """
    from cryptography.exceptions import InvalidSignature

    payload, signatures = opened(data)
    message = signed_bytes(payload)
    for checking in keys:
        for _, signature in signatures:
            try:
                checking.key.verify(signature, message)
            except InvalidSignature:
                continue
            return payload
    return None


__all__ = [
    "PREFIX",
    "CheckingKey",
    "ManifestError",
    "SigningKey",
    "check_installed",
    "new_key",
    "read_checking_keys",
    "read_signing_key",
    "signed_payload",
]
