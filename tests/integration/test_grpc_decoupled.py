"""Models that answer in parts, asked by Triton's clients as they are over gRPC, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client_process import run_client
from decoupled_models import write_models
from grpc_serving import free_port
from server_process import ServerProcess, running_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("grpc")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    place = tmp_path_factory.mktemp("decoupled")
    write_models(place / "models")
    port = free_port()
    with running_server(place / "disk", model_dir=place / "models", grpc_port=port, settle_time=0) as server:
        yield server, f"127.0.0.1:{port}"


@pytest.mark.parametrize("script", ["triton_decoupled", "triton_decoupled_aio"])
def test_a_client_as_it_is(served: tuple[ServerProcess, str], script: str, tmp_path: Path) -> None:
    server, address = served
    run_client(f"grpc_clients/{script}", address, tmp_path)
    assert server.process.poll() is None
    assert not [line for line in server.lines() if "unexpectedly" in str(line.get("message"))]
    assert not [line for line in server.lines() if str(line.get("logger")).startswith("grpc")]
    server.wait_until(
        lambda: not any(tier["leases"] for tier in server.status()["server"]["tiers"]),
        limit_s=30,
        what="every lease is given back",
    )
    assert server.request("POST", "/models/endless/unload").status == 200


def test_rest_says_so_and_refuses_what_it_cannot_carry(served: tuple[ServerProcess, str]) -> None:
    server, _ = served
    for model, decoupled in (("repeat", True), ("whole", False)):
        config = server.request("GET", f"/v2/models/{model}/config").json
        assert config["model_transaction_policy"] == {"decoupled": decoupled}
    tensor = {"name": "count", "shape": [1], "datatype": "INT32", "data": [2]}
    answer = server.request("POST", "/v2/models/repeat/infer", {"inputs": [tensor]})
    assert answer.status == 501
    assert "POST /models/<model>/predict, or ModelStreamInfer over gRPC" in answer.json["error"]
