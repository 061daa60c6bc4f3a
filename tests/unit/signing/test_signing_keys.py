"""Ed25519 keys: written, read, and which signatures they take."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from hotset.errors import ConfigError, InvalidInputError
from hotset.signing.keys import new_key, read_checking_keys, read_signing_key, signed_payload
from hotset.signing.manifest import ManifestError, opened, sealed


def test_a_key_is_in_a_file_that_nobody_else_may_read(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    made = new_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_signing_key(file).public.line == made.public.line
    with pytest.raises(InvalidInputError, match="File exists"):
        new_key(file)
    with pytest.raises(InvalidInputError, match="No such file"):
        new_key(tmp_path / "missing" / "key.pem")


def test_a_public_key_is_a_line_or_a_file(tmp_path: Path) -> None:
    made = new_key(tmp_path / "key.pem")
    pem = made.public.key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "public.pem").write_bytes(pem)
    of_line, of_file = read_checking_keys([made.public.line, str(tmp_path / "public.pem")])
    assert of_line.line == of_file.line
    assert of_line.id == of_file.id


@pytest.mark.parametrize("content", [b"", b"canary", None])
def test_a_file_that_is_no_key_is_told_without_what_is_in_it(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    for read, error in (
        (read_signing_key, InvalidInputError),
        (lambda it: read_checking_keys([str(it)]), ConfigError),
    ):
        with pytest.raises(error) as caught:
            read(file)
        assert "canary" not in str(caught.value)


def test_another_kind_of_key_is_none(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    encoding = serialization.Encoding.PEM
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(
        other.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        other.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(InvalidInputError, match="expected a private Ed25519 key"):
        read_signing_key(private)
    with pytest.raises(ConfigError, match="expected a public Ed25519 key"):
        read_checking_keys([str(public)])


def test_a_key_with_a_password_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    key = ed25519.Ed25519PrivateKey.generate()
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InvalidInputError, match="without a password"):
        read_signing_key(file)


@pytest.mark.parametrize("word", ["ed25519:", "ed25519:AAAA", "ed25519:not base64"])
def test_a_malformed_line_is_told(word: str) -> None:
    with pytest.raises(ConfigError, match="expected a public Ed25519 key"):
        read_checking_keys([word])


def test_a_signature_is_taken_from_a_known_key_and_for_what_was_signed_alone(tmp_path: Path) -> None:
    ours, others = new_key(tmp_path / "ours"), new_key(tmp_path / "others")
    data = ours.sign(b"payload")
    assert signed_payload(data, [others.public, ours.public]) == b"payload"
    assert signed_payload(data, [others.public]) is None
    assert signed_payload(data, []) is None
    _, signatures = opened(data)
    assert signed_payload(sealed(b"another", signatures), [ours.public]) is None
    assert signed_payload(sealed(b"payload", []), [ours.public]) is None
    # A key's id proves nothing, and a second signature does no harm.
    renamed = [("x", value) for _, value in signatures]
    assert signed_payload(sealed(b"payload", [("x", b"short"), *renamed]), [ours.public]) == b"payload"
    with pytest.raises(ManifestError):
        signed_payload(b"{}", [ours.public])
