"""tritonclient.grpc, the blocking client, unmodified. The server has the models of ``test_grpc_clients.py``."""

from __future__ import annotations

from pathlib import Path
from queue import Queue

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
from checks import run_all
from tensors import TENSORS, same
from triton_inputs import LIMIT_S, given, wait_for
from tritonclient.utils import InferenceServerException


def check_health(address: str, _directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("echo")
        assert client.is_model_ready("echo", "1")
        assert not client.is_model_ready("atlantis")
        assert not client.is_model_ready("echo", "99")


def check_metadata(address: str, _directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        server = client.get_server_metadata(as_json=True)
        assert server["name"] == "hotset"
        assert "model_repository" in server["extensions"]
        model = client.get_model_metadata("echo", as_json=True)
        assert (model["name"], model["versions"], model["platform"]) == ("echo", ["1", "2"], "python")


def check_configuration_and_statistics(address: str, _directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        config = client.get_model_config("echo", as_json=True)["config"]
        assert (config["name"], config["backend"]) == ("echo", "python")
        before = successes(client)
        client.infer("echo", [given("x", np.ones(1), "FP64")])
        assert successes(client) == before + 1
        asked = client.get_inference_statistics(as_json=True)["model_stats"]
        assert {row["name"] for row in asked} <= {"echo", "broken", "waiting", "spare"}


def successes(client: triton.InferenceServerClient) -> int:
    latest = client.get_inference_statistics("echo").model_stats[-1]
    assert latest.version == "2"
    return latest.inference_stats.success.count


def check_repository(address: str, _directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        client.load_model("spare")
        assert states(client)["spare", "1"] == "READY"
        client.unload_model("spare")
        assert states(client)["spare", "1"] == "UNAVAILABLE"
        assert failure(lambda: client.load_model("atlantis")) == (
            "StatusCode.NOT_FOUND",
            "Request for unknown model: 'atlantis' is not found",
        )
        code, _ = failure(lambda: client.load_model("spare", config='{"backend": "x"}'))
        assert code == "StatusCode.UNIMPLEMENTED"


def check_every_datatype(address: str, _directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        for datatype, tensor in TENSORS.items():
            answer = client.infer("echo", [given("x", tensor, datatype)], request_id=f"id of {datatype}")
            response = answer.get_response()
            assert (response.model_name, response.model_version) == ("echo", "2")
            assert response.id == f"id of {datatype}"
            assert answer.get_output("x").datatype == datatype
            assert same(answer.as_numpy("x"), tensor), datatype


def check_bf16(address: str, _directory: Path) -> None:
    """NumPy has no such type, so the model gets it as FP32."""
    values = np.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16)
    with triton.InferenceServerClient(address) as client:
        answer = client.infer("echo", [given("x", values, "BF16")])
        assert same(answer.as_numpy("x"), values.astype(np.float32))


def check_several_tensors_versions_and_outputs(address: str, _directory: Path) -> None:
    one, other = np.arange(6.0).reshape(2, 3), np.array(["a", "b"], dtype=np.object_)
    inputs = [given("one", one, "FP64"), given("other", other, "BYTES")]
    with triton.InferenceServerClient(address) as client:
        both = client.infer("echo", inputs, model_version="1")
        assert both.get_response().model_version == "1"
        assert same(both.as_numpy("one"), one)
        assert both.as_numpy("other").tolist() == [b"a", b"b"]
        only = client.infer("echo", inputs, outputs=[triton.InferRequestedOutput("one")])
        assert [output.name for output in only.get_response().outputs] == ["one"]


def check_large_tensors_and_compression(address: str, _directory: Path) -> None:
    tensor = np.arange(1_000_000, dtype=np.float64)
    with triton.InferenceServerClient(address) as client:
        for algorithm in (None, "gzip", "deflate"):
            answer = client.infer("echo", [given("x", tensor, "FP64")], compression_algorithm=algorithm)
            assert same(answer.as_numpy("x"), tensor)


def check_nothing_in_a_tensor(address: str, _directory: Path) -> None:
    tensor = np.zeros((0, 3), dtype=np.float32)
    with triton.InferenceServerClient(address) as client:
        answer = client.infer("echo", [given("x", tensor, "FP32")])
        assert same(answer.as_numpy("x"), tensor)


def check_errors(address: str, _directory: Path) -> None:
    tensor = given("x", np.ones((1, 1)), "FP64")
    wrong = given("x", np.ones((1, 1)), "FP64")
    wrong.set_shape([2, 2])
    unknown = triton.InferRequestedOutput("y")
    with triton.InferenceServerClient(address) as client:
        cases = {
            "StatusCode.NOT_FOUND": ("'atlantis' is not found", lambda: client.infer("atlantis", [tensor])),
            "StatusCode.INTERNAL": ("ValueError: no good", lambda: client.infer("broken", [tensor])),
            "StatusCode.UNIMPLEMENTED": ("shared memory", client.get_system_shared_memory_status),
        }
        for code, (text, call) in cases.items():
            found, message = failure(call)
            assert found == code, (found, message)
            assert text in message, message
        for text, call in (
            ("version 9 is not found", lambda: client.infer("echo", [tensor], model_version="9")),
            ("has 32 bytes, found: 8", lambda: client.infer("echo", [wrong])),
            ("no output 'y'", lambda: client.infer("echo", [tensor], outputs=[unknown])),
            ("in the model name", lambda: client.infer("../secret", [tensor])),
        ):
            found, message = failure(call)
            assert found in {"StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND"}, (found, message)
            assert text in message, message


def check_stream(address: str, _directory: Path) -> None:
    """Answers come in the order of the requests, each with its id, and what is wrong with one is its own."""
    answers: Queue[tuple[triton.InferResult | None, InferenceServerException | None]] = Queue()
    with triton.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(200):
            model = "atlantis" if number % 50 == 7 else "echo"
            tensor = given("x", np.array([float(number)]), "FP64")
            client.async_stream_infer(
                model, [tensor], request_id=str(number), enable_empty_final_response=True
            )
        for number in range(200):
            result, error = answers.get(timeout=LIMIT_S)
            if number % 50 == 7:
                assert result is None
                assert "'atlantis' is not found" in error.message()
                continue
            assert error is None, error
            response = result.get_response()
            assert response.id == str(number)
            assert response.parameters["triton_final_response"].bool_param
            assert result.as_numpy("x").tolist() == [number]
        client.stop_stream()


def check_cancellation(address: str, directory: Path) -> None:
    """A call that is cancelled while its prediction runs ends at once, and the next one is answered."""
    tensor = given("x", np.ones(1), "FP64")
    answers: Queue[InferenceServerException | None] = Queue()
    with triton.InferenceServerClient(address) as client:
        call = client.async_infer("waiting", [tensor], lambda result, error: answers.put(error))
        wait_for(directory / "predicting")
        call.cancel()
        assert "cancelled" in answers.get(timeout=LIMIT_S).message().lower()
        (directory / "release").touch()
        assert client.infer("waiting", [tensor]).as_numpy("x").tolist() == [1.0]
        (directory / "release").unlink()


def check_deadline(address: str, directory: Path) -> None:
    """The client's limit is the request's: the prediction is not waited for any longer."""
    (directory / "predicting").unlink(missing_ok=True)
    tensor = given("x", np.ones(1), "FP64")
    with triton.InferenceServerClient(address) as client:
        code, _ = failure(lambda: client.infer("waiting", [tensor], client_timeout=0.3))
        assert code == "StatusCode.DEADLINE_EXCEEDED"
    (directory / "release").touch()


def states(client: triton.InferenceServerClient) -> dict[tuple[str, str], str]:
    return {(row.name, row.version): row.state for row in client.get_model_repository_index().models}


def failure(call: object) -> tuple[str, str]:
    try:
        call()
    except InferenceServerException as error:
        return error.status(), error.message()
    raise AssertionError("expected an error")


if __name__ == "__main__":
    run_all(dict(globals()))
