"""What a signature covers, in its file and out of it again."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.signing.manifest import (
    PAYLOAD_TYPE,
    SIGNATURE_FILE,
    FileDigest,
    Manifest,
    ManifestError,
    differences,
    digests_below,
    manifest_of,
    opened,
    read_manifest,
    sealed,
    signed_bytes,
)

FILES = {"b": FileDigest("b", 2, "22"), "a/c": FileDigest("a/c", 1, "11")}


def test_a_manifest_names_the_version_and_its_files_in_order() -> None:
    manifest = read_manifest(manifest_of("acme/rome", 3, FILES))
    assert manifest == Manifest(1, "acme/rome", 3, (FILES["a/c"], FILES["b"]))


@given(st.binary(max_size=60), st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=20)), max_size=3))
def test_what_is_sealed_is_opened_again(payload: bytes, signatures: list[tuple[str, bytes]]) -> None:
    assert opened(sealed(payload, signatures)) == (payload, tuple(signatures))


def test_what_is_signed_is_what_the_standard_says() -> None:
    assert signed_bytes(b"hello") == f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} 5 hello".encode()


def _envelope(**changed: Any) -> bytes:
    whole = {"payload": "", "payloadType": PAYLOAD_TYPE, "signatures": [{"keyid": "x", "sig": "AA=="}]}
    return json.dumps(whole | changed).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        _envelope(payload="not base64!"),
        _envelope(payload=1),
        _envelope(payloadType="application/json"),
        _envelope(signatures=[{"keyid": "x", "sig": "é"}]),
        _envelope(signatures=None),
    ],
)
def test_a_malformed_file_is_told(data: bytes) -> None:
    with pytest.raises(ManifestError):
        opened(data)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"format":2,"name":"a","version":1,"files":[]}',
        b'{"format":1,"name":"a","version":1,"files":[],"more":1}',
        b'{"format":1,"name":"a","version":1,"files":[{"path":"a","size":1,"sha256":"x"},{"path":"a","size":2,"sha256":"y"}]}',
    ],
)
def test_a_malformed_list_of_files_is_told(payload: bytes) -> None:
    with pytest.raises(ManifestError):
        read_manifest(payload)


def test_differences_say_what_was_signed_and_what_was_found() -> None:
    manifest = read_manifest(manifest_of("paris", 1, FILES))
    assert not differences(manifest, FILES)
    found = {"b": FileDigest("b", 2, "33"), "x": FileDigest("x", 1, "11")}
    assert differences(manifest, found) == (
        "b was signed with sha256 22, found: 33; a/c is missing; x is there and was not signed"
    )
    longer = {**FILES, "b": FileDigest("b", 9, "33")}
    assert differences(manifest, longer) == "b was signed with 2 bytes, found: 9"
    many = {f"x{number}": FileDigest(f"x{number}", 1, "1") for number in range(20)}
    assert differences(manifest, {**FILES, **many}).endswith(", and 15 more")


def test_digests_are_of_contents_and_leave_the_signature_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"weights")
    (tmp_path / SIGNATURE_FILE).write_bytes(b"signature")
    found = digests_below(tmp_path, ["a/b", SIGNATURE_FILE])
    assert found == {"a/b": FileDigest("a/b", 7, hashlib.sha256(b"weights").hexdigest())}
    assert base64.b64encode(b"signature").decode() not in str(found)
