"""What the gRPC port takes at most: RPCs, connections, and messages that unpack to gigabytes. Real clients and a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import psutil
import pytest

from grpc_serving import PREDICTOR, free_port, write_models
from hotset.messages.pool import message_class
from server_process import ServerProcess, running_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("grpc")]

INFER = "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
MOST_RPCS, MOST_CONNECTIONS = 4, 3
LIMIT_S = 60
BODY = 1 << 20

Request = message_class("ModelInferRequest")


@pytest.fixture(name="place", scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("grpc")
    (place / "signals").mkdir()
    write_models(place / "models", place / "signals")
    (place / "predictor.py").write_text(PREDICTOR)
    return place


@pytest.fixture(name="served", scope="module")
def _served(place: Path) -> Iterator[tuple[ServerProcess, str]]:
    settings = {
        "model_dir": place / "models",
        "predictor": place / "predictor.py",
        "settle_time": 0,
        "grpc_port": free_port(),
        "grpc_max_rpcs": MOST_RPCS,
        "grpc_max_connections": MOST_CONNECTIONS,
        "max_body_size": BODY,
    }
    with running_server(place / "disk", **settings) as server:
        yield server, f"127.0.0.1:{settings['grpc_port']}"


def channel(address: str) -> grpc.Channel:
    """Return a channel that has a connection of its own."""
    own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    return grpc.insecure_channel(address, options=own)


def asked(model: str, size: int = 3) -> bytes:
    request = Request(model_name=model)
    request.inputs.add(name="x", datatype="UINT8", shape=[size])
    request.raw_input_contents.append(bytes(size))
    return request.SerializeToString()


def test_past_the_most_rpcs_they_are_refused_and_those_inside_are_answered(
    served: tuple[ServerProcess, str], place: Path
) -> None:
    server, address = served
    with channel(address) as open_channel:
        infer = open_channel.unary_unary(INFER)
        inside = [infer.future(asked("waiting"), timeout=LIMIT_S) for _ in range(MOST_RPCS)]
        server.wait_until(
            lambda: server.status()["requests"]["inside"] == MOST_RPCS, limit_s=LIMIT_S, what="all are inside"
        )
        with pytest.raises(grpc.RpcError) as refused:
            open_channel.unary_unary(LIVE)(b"", timeout=LIMIT_S)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        (place / "signals" / "release").touch()
        assert all(call.result() for call in inside)
        assert open_channel.unary_unary(LIVE)(b"", timeout=LIMIT_S)


def test_past_the_most_connections_they_are_closed_and_the_others_live(
    served: tuple[ServerProcess, str],
) -> None:
    server, address = served
    gateway = psutil.Process(server.pid)
    port = int(address.rpartition(":")[2])

    def connections() -> int:
        found = gateway.net_connections("tcp")
        return sum(it.laddr.port == port and it.status == psutil.CONN_ESTABLISHED for it in found)

    server.wait_until(lambda: connections() == 0, limit_s=LIMIT_S, what="earlier ones are gone")
    with ExitStack() as stack:
        channels = [stack.enter_context(channel(address)) for _ in range(MOST_CONNECTIONS)]
        assert all(it.unary_unary(LIVE)(b"", timeout=LIMIT_S) for it in channels)
        with channel(address) as beyond, pytest.raises(grpc.RpcError) as refused:
            beyond.unary_unary(LIVE)(b"", timeout=LIMIT_S)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert all(it.unary_unary(LIVE)(b"", timeout=LIMIT_S) for it in channels)
    server.wait_until(lambda: connections() == 0, limit_s=LIMIT_S, what="they are gone")
    with channel(address) as again:
        assert again.unary_unary(LIVE)(b"", timeout=LIMIT_S)


def test_a_message_that_unpacks_to_more_than_a_body_may_have_is_refused(
    served: tuple[ServerProcess, str], figure: object
) -> None:
    server, address = served
    gateway = psutil.Process(server.pid)
    with channel(address) as open_channel:
        infer = open_channel.unary_unary(INFER)
        before = gateway.memory_info().rss
        with pytest.raises(grpc.RpcError) as refused:
            infer(asked("echo", 40 * BODY), compression=grpc.Compression.Gzip, timeout=LIMIT_S)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert gateway.memory_info().rss - before < 16 * BODY
        assert infer(asked("echo", BODY // 2), compression=grpc.Compression.Gzip, timeout=LIMIT_S)
