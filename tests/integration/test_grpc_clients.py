"""The gRPC port of a real server, asked by clients as they are, each in a process of its own.

The checks are in ``tests/grpc_clients``, one file for each client.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from client_process import KSERVE_PYTHON, run_client
from grpc_serving import PREDICTOR, free_port, write_models
from server_process import ServerProcess, running_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("grpc")]


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


@pytest.mark.parametrize(
    "script", ["triton_sync", "triton_aio", "triton_explicit", "platform_services", "kserve_fields"]
)
def test_a_client_as_it_is(served: tuple[ServerProcess, str], script: str) -> None:
    server, address = served
    signals = server.disk_path.parent / "signals"
    for signal in signals.iterdir():
        signal.unlink()

    run_client(f"grpc_clients/{script}", address, signals)

    assert server.process.poll() is None
    assert not [line for line in server.lines() if "unexpectedly" in str(line.get("message"))]
    server.wait_until(
        lambda: not any(tier["leases"] for tier in server.status()["server"]["tiers"]),
        limit_s=30,
        what="every lease is given back",
    )


@pytest.mark.skipif(KSERVE_PYTHON not in os.environ, reason="`make test-kserve` has what it needs")
def test_kserves_client(served: tuple[ServerProcess, str]) -> None:
    server, address = served
    run_client(
        "grpc_clients/kserve_client", address, server.disk_path.parent, python=os.environ[KSERVE_PYTHON]
    )
