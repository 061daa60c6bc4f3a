"""Keys from a shared credentials file: followed when it changes, kept while it is half written, and never in a message."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hotset.errors import StoreError
from hotset.store import open_store
from hotset.store.credentials import LOOK_AGAIN, OBSTORE_RENEWS_BEFORE, CredentialsFile, CredentialsFileError
from hotset.store.remote import RemoteStore

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FIRST = "[default]\naws_access_key_id = first\naws_secret_access_key = hunter2\n"
SECOND = (
    "[default]\naws_access_key_id = second\naws_secret_access_key = s\naws_session_token = t\n\n"
    "[other]\naws_access_key_id=third\naws_secret_access_key=s%(no)s\n"
)


def keys_of(path: Path, profile: str = "default") -> CredentialsFile:
    return CredentialsFile(path, profile=profile, now=lambda: NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text(FIRST)
    return path


def test_a_key_lasts_until_the_file_is_looked_at_again(path: Path) -> None:
    assert keys_of(path)() == {
        "access_key_id": "first",
        "secret_access_key": "hunter2",
        "token": None,
        "expires_at": NOON + OBSTORE_RENEWS_BEFORE + LOOK_AGAIN,
    }


def test_a_changed_file_is_read_again(path: Path) -> None:
    keys = keys_of(path)
    assert keys()["access_key_id"] == "first"
    path.write_text(SECOND)
    assert (keys()["access_key_id"], keys()["token"]) == ("second", "t")
    assert keys_of(path, "other")()["secret_access_key"] == "s%(no)s"


def test_another_file_in_the_place_of_a_link_is_read(path: Path, tmp_path: Path) -> None:
    """As a secret that is mounted into a container changes."""
    link, other = tmp_path / "link", tmp_path / "other"
    link.symlink_to(path)
    keys = keys_of(link)
    assert keys()["access_key_id"] == "first"
    other.write_text(SECOND)
    fresh = tmp_path / "fresh"
    fresh.symlink_to(other)
    fresh.rename(link)
    assert keys()["access_key_id"] == "second"


@pytest.mark.parametrize("text", ["", "[default]\n", "[default", FIRST[:40], "[other]\na=b\n", "\udcff"])
def test_what_cannot_be_used_is_as_if_it_were_not_written_yet(path: Path, text: str) -> None:
    keys = keys_of(path)
    keys()
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert keys()["access_key_id"] == "first"
    path.unlink()
    assert keys()["access_key_id"] == "first"
    path.write_text(SECOND)
    assert keys()["access_key_id"] == "second"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[other]\n", "there is no such profile"),
        ("[default]\naws_secret_access_key = hunter2\n", "expected aws_access_key_id and"),
        ("hunter2", "not of the form"),
        ("[default]\nhunter2 = 1\nhunter2 = 2\n", "not of the form"),
    ],
)
def test_without_any_key_it_says_why_and_never_what_was_there(path: Path, text: str, reason: str) -> None:
    path.write_text(text)
    with pytest.raises(CredentialsFileError, match=reason) as failed:
        keys_of(path)()
    assert "hunter2" not in str(failed.value)
    assert failed.value.__cause__ is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsFileError, match=r"credentials file .*nowhere: No such file"):
        keys_of(tmp_path / "nowhere")()


@pytest.mark.parametrize(
    ("environment", "options", "anonymous", "is_read"),
    [
        ({}, {}, False, True),
        ({"AWS_ACCESS_KEY_ID": "outright", "AWS_SECRET_ACCESS_KEY": "s"}, {}, False, False),
        ({}, {"access_key_id": "outright", "secret_access_key": "s"}, False, False),
        ({}, {"AWS_ACCESS_KEY_ID": "outright", "AWS_SECRET_ACCESS_KEY": "s"}, False, False),
        ({}, {}, True, False),
        ({"AWS_SHARED_CREDENTIALS_FILE": ""}, {}, False, False),
    ],
)
def test_what_is_said_outright_goes_before_the_file(
    environment: dict[str, str],
    options: dict[str, str],
    anonymous: bool,
    is_read: bool,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_SHARED_CREDENTIALS_FILE": str(path), **environment}.items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://bucket", options=options, anonymous=anonymous)
    assert isinstance(store, RemoteStore)
    assert (store._store.credential_provider is not None) is is_read  # type: ignore[union-attr]


async def test_a_store_says_what_is_wrong_with_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE"):
        monkeypatch.delenv(name, raising=False)
    path.write_text("hunter2")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    with pytest.raises(
        StoreError, match=r"^s3://bucket was not asked to read 'x': no key of profile 'default' in"
    ) as failed:
        await open_store("s3://bucket").read("x")
    assert "hunter2" not in str(failed.value)
