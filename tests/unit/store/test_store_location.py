"""Locations: what is accepted, what is refused and in which words, and that no credential is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotset.errors import ConfigError
from hotset.store import open_store


def test_local_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my models").mkdir()
    monkeypatch.chdir(tmp_path)
    expected = str((tmp_path / "my models").resolve())
    for url in [
        "my models",
        "./my models",
        "./my models/",
        expected,
        f"file://{tmp_path}/my%20models",
        f"file://localhost{tmp_path}/my%20models/",
    ]:
        assert open_store(url).url == expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://city-models", "s3://city-models"),
        ("s3://city-models/", "s3://city-models"),
        ("S3://city-models/prod/", "s3://city-models/prod"),
        ("gs://city-models/prod", "gs://city-models/prod"),
        ("az://city-models/a b/ü", "az://city-models/a b/ü"),
        ("memory://", "memory://"),
    ],
)
def test_remote_forms(url: str, shown: str) -> None:
    options = {"account_name": "acme"} if url.startswith("az") else {}
    assert open_store(url, options=options, anonymous=not url.startswith(("memory", "gs"))).url == shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x", "expected a local path.*s3://bucket/prefix.*'ftp'"),
        ("https://bucket.s3.amazonaws.com/x", "'https'"),
        ("s3:/bucket/x", "expected a local path"),
        ("s3:bucket", "expected a local path"),
        ("", "expected a local path"),
        ("s3://", "expected s3://bucket/prefix"),
        ("s3:///models", "expected s3://bucket/prefix"),
        ("gs://bucket/a//b", "a part of the prefix is empty"),
        ("s3://bucket/a/../b", "a part of the prefix"),
        ("s3://bucket/a\nb", "not printable"),
        ("file://relative/x", "file:///srv/models"),
        ("./nowhere", r"does not exist: \./nowhere"),
    ],
)
def test_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_store(url)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"")
    with pytest.raises(ConfigError, match="found a file"):
        open_store(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://KEY:hunter2@bucket/x", "no credentials"),
        ("s3:/KEY:hunter2@bucket/x", "found s3: without '//'"),
        ("https://acme.blob.core.windows.net/models?sig=hunter2", "found the scheme 'https'"),
        ("az://models/prod?sv=2024-11-04&sig=hunter2", "found a query"),
        ("s3://bucket/x?X-Amz-Signature=hunter2", "found a query"),
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        open_store(url)
    assert "hunter2" not in str(refused.value)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="no_such_option"):
        open_store("s3://bucket", options={"no_such_option": "1"})


def test_azure_without_an_account_is_refused() -> None:
    with pytest.raises(ConfigError, match="az://container cannot be set up"):
        open_store("az://container")
