"""Rows of the fault table: a store that is away while a replica starts again, and keys to a store that are changed.

The ten minutes themselves pass on the manual clock, in ``test_store_outage.py``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fault_city import FAR, KEPT, UNAVAILABLE, City
from fault_stream import Stream
from server_process import running_server
from servers import ACCESS_KEY, SECRET_KEY, rclone_s3

OTHER_KEY = "HOTSETOTHERACCESSKEY"
OTHER_SECRET = "another-secret-key-0123456789abcdefghij"


@pytest.mark.slow
async def test_a_replica_starts_again_while_the_store_is_away(city: City, fault_row) -> None:
    with city.warm_server() as server:
        city.store.away()
        async with Stream(server, KEPT) as stream:
            stream.fault_begins()
            await stream.server_says(lambda: server.metric("hotset_sync_degraded"), what="degraded")
            await stream.recovered()
            await stream.goes_on()
        fault_row("the store goes away", stream)
        assert server.terminate() == 0
    with running_server(city.disk, **{**city.settings, "request_timeout": "1s"}) as server:
        async with Stream(server, [*KEPT, *FAR], connections=10) as stream:
            stream.fault_begins()
            await stream.recovered(KEPT)
            await stream.goes_on(10, models=KEPT)
            assert server.fetches == 0
            stream.fault_begins()
            city.store.back()
            await stream.recovered()
            await stream.goes_on()
        fault_row(
            "a replica starts while the store is away", stream, touched=FAR, kinds={*UNAVAILABLE, "deadline"}
        )


# Keys


def write_key(path: Path, key: str, secret: str) -> None:
    """As whoever rotates them does: another file takes the place of the first."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    fresh.replace(path)


class KeyService(ThreadingHTTPServer):
    """Gives out keys as the service beside a container does. ``key`` may be exchanged; it ends so soon that it is renewed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _KeyHandler)
        self.key = (ACCESS_KEY, SECRET_KEY)
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/role"


class _KeyHandler(BaseHTTPRequestHandler):
    server: KeyService

    def do_GET(self) -> None:
        self.server.asked += 1
        ends = datetime.now(UTC) + timedelta(seconds=301)
        document = {
            "AccessKeyId": self.server.key[0],
            "SecretAccessKey": self.server.key[1],
            "Token": "token",
            "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def key_service() -> Iterator[KeyService]:
    service = KeyService()
    thread = threading.Thread(target=service.serve_forever, name="keys")
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    secret = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    return {name: value for name, value in environment.items() if name not in secret}


@pytest.mark.slow
@pytest.mark.parametrize("source", ["file", "role"])
async def test_the_keys_to_the_store_are_changed(source: str, city: City, tmp_path: Path, fault_row) -> None:
    """A server that checks signatures takes the new key alone from then on; the replica is not told."""
    keys = tmp_path / "credentials"
    write_key(keys, ACCESS_KEY, SECRET_KEY)
    with key_service() as service, rclone_s3(city.directory, key=(OTHER_KEY, OTHER_SECRET)) as other:
        environment = without_keys(city.environment)
        if source == "file":
            environment["AWS_SHARED_CREDENTIALS_FILE"] = str(keys)
        else:
            environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = service.url
            token = tmp_path / "token"
            token.write_text("token")
            environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(token)
        with city.warm_server(environment=environment) as server:
            async with Stream(server, [*KEPT], connections=10) as stream:
                await stream.goes_on()
                stream.fault_begins()
                city.store.target = other.endpoint.removeprefix("http://")
                await stream.server_says(lambda: server.metric("hotset_sync_degraded"), what="refused")
                service.key = (OTHER_KEY, OTHER_SECRET)
                write_key(keys, OTHER_KEY, OTHER_SECRET)
                stream.fault_begins()
                await stream.server_says(
                    lambda: not server.metric("hotset_sync_degraded"), what="listed with the new key"
                )
                assert (await stream.beside(server.predict, FAR[0])).status == 200
                await stream.recovered()
            fault_row(f"keys are changed: {source}", stream)
            assert not any(SECRET_KEY in str(line) or OTHER_SECRET in str(line) for line in server.lines())
