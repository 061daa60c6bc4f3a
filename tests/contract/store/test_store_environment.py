"""Credentials and endpoint from the environment, against a server that checks signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotset.errors import StoreError
from hotset.store import open_store
from servers import S3Server
from store_places import listed

BUCKET = "environment"


@pytest.fixture(scope="module")
def bucket(rclone: S3Server) -> str:
    url = rclone.make_bucket(BUCKET)
    assert rclone.directory is not None
    folder = Path(rclone.directory, BUCKET, "paris", "1")
    folder.mkdir(parents=True)
    (folder / "model").write_bytes(b"paris")
    return url


@pytest.fixture
def variables(rclone: S3Server, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("AWS_ENDPOINT", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in rclone.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


async def test_the_usual_variables_are_enough(bucket: str, variables: pytest.MonkeyPatch) -> None:
    assert set(await listed(open_store(bucket))) == {"paris/1/model"}


async def test_without_a_region(bucket: str, variables: pytest.MonkeyPatch) -> None:
    variables.delenv("AWS_REGION")
    assert await open_store(bucket).read("paris/1/model") == b"paris"


async def test_the_other_spelling_of_the_endpoint(
    bucket: str, variables: pytest.MonkeyPatch, rclone: S3Server
) -> None:
    variables.delenv("AWS_ENDPOINT_URL")
    variables.setenv("AWS_ENDPOINT", rclone.endpoint)
    assert set(await listed(open_store(bucket, options={}))) == {"paris/1/model"}


async def test_options_go_before_variables(
    bucket: str, variables: pytest.MonkeyPatch, rclone: S3Server
) -> None:
    variables.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert set(await listed(open_store(bucket, options=rclone.options))) == {"paris/1/model"}


async def test_a_wrong_secret_is_said_plainly(bucket: str, variables: pytest.MonkeyPatch) -> None:
    variables.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StoreError, match="HTTP 403 SignatureDoesNotMatch; check the credentials") as refused:
        await listed(open_store(bucket))
    assert "wrong-secret" not in str(refused.value)


async def test_anonymous_access_does_not_sign(bucket: str, variables: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="refused to list: HTTP 40"):
        await listed(open_store(bucket, anonymous=True))
