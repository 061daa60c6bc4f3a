"""How the gRPC port of a real server comes and goes: with the rest of it, or with a message that says why not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import Queue

import grpc
import pytest

from grpc_serving import PREDICTOR, free_port, write_models
from hotset.messages.pool import message_class
from server_process import ServerProcess, end, running_server, start_server

SERVICE = "/inference.GRPCInferenceService/"
LIMIT_S = 60

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("grpc")]

Request = message_class("ModelInferRequest")
Response = message_class("ModelInferResponse")
StreamResponse = message_class("ModelStreamInferResponse")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "signals").mkdir()
    write_models(tmp_path / "models", tmp_path / "signals")
    (tmp_path / "predictor.py").write_text(PREDICTOR)
    return tmp_path


def options(place: Path, **more: object) -> dict[str, object]:
    return {
        "model_dir": place / "models",
        "predictor": place / "predictor.py",
        "settle_time": 0,
        "grpc_port": free_port(),
    } | more


def asked(model: str, *, own_id: str = "") -> bytes:
    request = Request(model_name=model, id=own_id)
    request.inputs.add(name="x", datatype="UINT8", shape=[3])
    request.raw_input_contents.append(b"abc")
    return request.SerializeToString()


def requests(queue: Queue[bytes | None]) -> Iterator[bytes]:
    while (body := queue.get(timeout=LIMIT_S)) is not None:
        yield body


def wait_until_predicting(server: ServerProcess, place: Path) -> None:
    server.wait_until((place / "signals" / "predicting").exists, limit_s=LIMIT_S, what="the model predicts")


def test_what_is_inside_is_answered_and_idle_streams_end(place: Path) -> None:
    settings = options(place, drain_timeout=LIMIT_S)
    with (
        running_server(place / "disk", **settings) as server,
        grpc.insecure_channel(f"127.0.0.1:{settings['grpc_port']}") as channel,
    ):
        inside: Future = channel.unary_unary(SERVICE + "ModelInfer").future(asked("waiting"))
        wait_until_predicting(server, place)
        watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=LIMIT_S)
        sent: Queue[bytes | None] = Queue()
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")(requests(sent), timeout=LIMIT_S)
        assert next(watching) == b"\x08\x01"
        sent.put(asked("echo", own_id="7"))
        assert StreamResponse.FromString(next(stream)).infer_response.id == "7"

        stopping = threading.Thread(target=server.terminate)
        stopping.start()

        assert list(watching) == [b"\x08\x02"]
        with pytest.raises(grpc.RpcError, match="the server is shutting down") as ended:
            next(stream)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not inside.done()
        (place / "signals" / "release").touch()
        assert Response.FromString(inside.result(LIMIT_S)).raw_output_contents == [b"abc"]
        stopping.join(LIMIT_S)
        sent.put(None)
        assert server.process.poll() == 0


def test_what_takes_too_long_is_told_so(place: Path) -> None:
    settings = options(place, drain_timeout=0)
    with (
        running_server(place / "disk", **settings) as server,
        grpc.insecure_channel(f"127.0.0.1:{settings['grpc_port']}") as channel,
    ):
        inside: Future = channel.unary_unary(SERVICE + "ModelInfer").future(asked("waiting"))
        wait_until_predicting(server, place)

        assert server.terminate() == 0

        with pytest.raises(grpc.RpcError, match="the server is shutting down and waits no longer") as ended:
            inside.result(LIMIT_S)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_port_that_is_taken(place: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = start_server(place / "disk", **options(place, grpc_port=port))
        try:
            assert server.process.wait(LIMIT_S) == 1
        finally:
            end(server)
        assert f"cannot listen on 127.0.0.1:{port} for gRPC" in server.tail()
