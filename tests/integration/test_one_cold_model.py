"""200 requests at once for a model that is neither in memory nor on disk: one fetch, one load, 200 right answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from load_client import Connection
from model_files import SLOW_PREDICTOR, write_predictor, write_value
from server_process import HttpAnswer, ServerProcess, running_server
from servers import ACCESS_KEY, SECRET_KEY, moto_s3, rclone_s3

CLIENTS = 200
NAMES = ("oslo", "rome")


def model_of(name: str) -> dict[str, object]:
    return {"value": {"I am": name}, "load_sleep_s": 0.3}


@pytest.fixture(params=["rclone", "moto"])
def source(request, tmp_path: Path) -> Iterator[dict[str, object]]:
    """Two models in a bucket of each of the S3 servers."""
    if request.param == "rclone":
        (tmp_path / "s3").mkdir()
        with rclone_s3(tmp_path / "s3") as server:
            url = server.make_bucket("cities")
            for name in NAMES:
                write_value(tmp_path / "s3" / "cities", name, 1, model_of(name))
            yield {"model_dir": url, "environment": server.environment}
        return
    with moto_s3() as server:
        url = server.make_bucket("cities")
        s3 = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        for name in NAMES:
            body = json.dumps(model_of(name)).encode()
            s3.put_object(Bucket="cities", Key=f"{name}/v1/value.json", Body=body)
        s3.close()
        yield {"model_dir": url, "environment": server.environment}


async def ask_at_once(server: ServerProcess, name: str) -> list[HttpAnswer]:
    """Open all connections first, so that the requests come together."""
    opened = 0
    go = asyncio.Event()

    async def one() -> HttpAnswer:
        nonlocal opened
        async with Connection(server.host, server.port) as connection:
            opened += 1
            if opened == CLIENTS:
                go.set()
            await go.wait()
            return await connection.predict(name)

    return await asyncio.gather(*(one() for _ in range(CLIENTS)))


async def test_it_is_fetched_once_and_loaded_once_for_all_who_wait(
    source: dict[str, object], tmp_path: Path, figure
) -> None:
    with running_server(
        tmp_path / "disk", settle_time=0, predictor=write_predictor(tmp_path, SLOW_PREDICTOR), **source
    ) as server:
        for count, name in enumerate(NAMES, start=1):
            answers = await ask_at_once(server, name)
            assert [(answer.status, answer.json) for answer in answers] == [(200, {"I am": name})] * CLIENTS
            assert (server.fetches, server.loads) == (count, count)
            assert [event["model"] for event in server.events("fetched")] == list(NAMES[:count])
            assert [event["model"] for event in server.events("loaded")] == list(NAMES[:count])
        figure("requests", CLIENTS * len(NAMES))
        figure("fetches", server.fetches)
        figure("loads", server.loads)
        assert server.metric("hotset_requests_total", outcome="ok") == CLIENTS * len(NAMES)
