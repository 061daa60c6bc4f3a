"""The gRPC port of a real server, asked by clients as they are, each in a process of its own.

The checks are in ``tests/grpc_clients``, one file for each client.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server_process import ServerProcess, running_server

CLIENTS = Path(__file__).parents[1] / "grpc_clients"
LIMIT_S = 120

PREDICTOR = '''
"""Answers what it was asked, at once or when it is let; the model's file says how."""
import json
import pathlib
import time


class Predictor:
    def load_model(self, disk_path):
        return json.loads((pathlib.Path(disk_path) / "value.json").read_text())

    def predict(self, model, payload):
        if model["kind"] == "broken":
            raise ValueError("no good")
        if model["kind"] == "waiting":
            directory = pathlib.Path(model["directory"])
            (directory / "predicting").touch()
            end_s = time.monotonic() + 60
            while not (directory / "release").exists() and time.monotonic() < end_s:
                time.sleep(0.005)
        return payload
'''

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("grpc")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_models(root: Path, signals: Path) -> None:
    for path in ("echo/1", "echo/2", "spare/1", "broken/1", "waiting/1"):
        directory = root / path
        directory.mkdir(parents=True)
        content = {"kind": directory.parent.name, "directory": str(signals)}
        (directory / "value.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    place = tmp_path_factory.mktemp("grpc")
    signals = place / "signals"
    signals.mkdir()
    write_models(place / "models", signals)
    (place / "predictor.py").write_text(PREDICTOR)
    port = free_port()
    settings = {"grpc_port": port, "settle_time": 0, "max_body_size": "16MiB", "threads_per_process": 2}
    with running_server(
        place / "disk", model_dir=place / "models", predictor=place / "predictor.py", **settings
    ) as server:
        yield server, f"127.0.0.1:{port}"


def run_client(script: str, address: str, directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, CLIENTS / f"{script}.py", address, directory],
        env=os.environ | {"GRPC_VERBOSITY": "ERROR"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "script", ["triton_sync", "triton_aio", "triton_explicit", "platform_services", "kserve_fields"]
)
def test_a_client_as_it_is(served: tuple[ServerProcess, str], script: str) -> None:
    server, address = served
    signals = server.disk_path.parent / "signals"
    for signal in signals.iterdir():
        signal.unlink()

    run_client(script, address, signals)

    assert server.process.poll() is None
    assert not [line for line in server.lines() if "unexpectedly" in str(line.get("message"))]
    server.wait_until(
        lambda: not any(tier["leases"] for tier in server.status()["server"]["tiers"]),
        limit_s=30,
        what="every lease is given back",
    )
