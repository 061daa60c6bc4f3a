"""tritonclient.http, unmodified: everything that it can ask of a server. ``python triton_sync.py <host:port>``"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.http as triton
from samples import FINITE, LARGE, TENSORS, run_all, same
from tritonclient.utils import InferenceServerException

CODINGS = (None, "gzip", "deflate")
BF16 = np.array([[1.5, -2.0, 0.25]], ml_dtypes.bfloat16)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address, concurrency=4) as client:
        yield client


def failure(call: Any, *arguments: Any, **options: Any) -> InferenceServerException:
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return error
    raise AssertionError("expected an error")


def given(name: str, datatype: str, array: np.ndarray, *, binary: bool) -> Any:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    return tensor.set_data_from_numpy(array, binary_data=binary)


def wanted(name: str, *, binary: bool) -> Any:
    return triton.InferRequestedOutput(name, binary_data=binary)


def check_health_and_metadata(address: str) -> None:
    with connected(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("types")
        assert client.is_model_ready("types", "1")
        assert not client.is_model_ready("atlantis")
        server = client.get_server_metadata()
        assert server["name"] == "hotset"
        assert "binary_tensor_data" in server["extensions"]
        model = client.get_model_metadata("types")
        assert model["versions"] == ["1"]
        assert {it["name"]: it["datatype"] for it in model["inputs"]} == {
            f"in_{name}": name for name in TENSORS
        }
        assert client.get_model_metadata("types", "1") == model


def check_configuration(address: str) -> None:
    with connected(address) as client:
        config = client.get_model_config("types")
        assert config["name"] == "types"
        assert config["max_batch_size"] == 64
        types = {it["name"]: it["data_type"] for it in config["output"]}
        assert types["out_BYTES"] == "TYPE_STRING"
        assert types["out_FP16"] == "TYPE_FP16"
        assert all(it["dims"] == [3] for it in config["input"])
        assert client.get_model_config("types", "1") == config


def check_the_repository(address: str) -> None:
    with connected(address) as client:
        client.load_model("large")
        assert index_of(client)["large", "1"] == ("READY", "")
        client.unload_model("large", unload_dependents=True)
        state, reason = index_of(client)["large", "1"]
        assert state == "UNAVAILABLE"
        assert reason.startswith("unloaded")
        client.load_model("large", headers={"x": "y"})
        assert (
            "expected the model's files in the store"
            in failure(client.load_model, "large", config='{"max_batch_size": 1}').message()
        )
        assert "unknown model: 'atlantis' is not found" in failure(client.load_model, "atlantis").message()


def index_of(client: Any) -> dict[tuple[str, str], tuple[str, str]]:
    rows = client.get_model_repository_index()
    return {(row["name"], row["version"]): (row["state"], row["reason"]) for row in rows}


def check_statistics(address: str) -> None:
    with connected(address) as client:
        array = np.ones((2, 4))
        inputs = [given("x", "FP64", array, binary=True)]
        (before,) = client.get_inference_statistics("large")["model_stats"]
        for _ in range(3):
            client.infer("large", inputs)
        (after,) = client.get_inference_statistics("large", "1")["model_stats"]
        stats = {key: it["count"] for key, it in after["inference_stats"].items()}
        assert after["inference_count"] - before["inference_count"] == 3
        assert stats["success"] == stats["compute_infer"] == after["inference_count"]
        assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
        assert after["last_inference"] > 1_600_000_000_000
        assert after["memory_usage"]
        every = client.get_inference_statistics()["model_stats"]
        assert after["inference_count"] in [it["inference_count"] for it in every if it["name"] == "large"]


def check_every_datatype(address: str) -> None:
    """Every type at once, as JSON where it can be, both ways, compressed and not."""
    with connected(address) as client:
        for binary_in in (True, False):
            arrays = TENSORS if binary_in else FINITE
            inputs = [
                given(f"in_{name}", name, array, binary=binary_in or name == "FP16")
                for name, array in arrays.items()
            ]
            for binary_out in (True, False):
                found = arrays if binary_out else {name: it for name, it in FINITE.items() if name != "FP16"}
                for coding in CODINGS:
                    outputs = [wanted(f"out_{name}", binary=binary_out) for name in found]
                    answer = client.infer(
                        "types",
                        inputs,
                        request_id="7",
                        outputs=outputs,
                        request_compression_algorithm=coding,
                        response_compression_algorithm=coding,
                    )
                    assert answer.get_response()["id"] == "7"
                    assert [it["name"] for it in answer.get_response()["outputs"]] == [
                        f"out_{name}" for name in found
                    ]
                    for name in found:
                        if not binary_out and binary_in and found[name].dtype.kind == "f":
                            continue  # what it was asked with has no words in JSON
                        array = answer.as_numpy(f"out_{name}")
                        assert same(array, found[name]), (name, binary_in, binary_out, coding, array)


def check_all_outputs_are_binary_where_none_is_named(address: str) -> None:
    with connected(address) as client:
        inputs = [given(f"in_{name}", name, array, binary=True) for name, array in TENSORS.items()]
        answer = client.infer("types", inputs, model_version="1")
        assert len(answer.get_response()["outputs"]) == len(TENSORS)
        for output in answer.get_response()["outputs"]:
            assert "binary_data_size" in output["parameters"]
        assert all(same(answer.as_numpy(f"out_{name}"), array) for name, array in TENSORS.items())


def check_mixed_forms_in_one_request(address: str) -> None:
    with connected(address) as client:
        inputs = [
            given(f"in_{name}", name, array, binary=index % 2 == 0 or name == "FP16")
            for index, (name, array) in enumerate(FINITE.items())
        ]
        outputs = [
            wanted(f"out_{name}", binary=index % 3 == 0 or name == "FP16")
            for index, name in enumerate(FINITE)
        ]
        answer = client.infer("types", inputs, outputs=outputs)
        assert all(same(answer.as_numpy(f"out_{name}"), array) for name, array in FINITE.items())


def check_bf16(address: str) -> None:
    with connected(address) as client:
        inputs = [given("x", "BF16", BF16, binary=True)]
        answer = client.infer("bf16", inputs)
        assert same(answer.as_numpy("wide"), BF16.astype(np.float32))
        assert same(answer.as_numpy("narrow"), BF16)
        message = failure(client.infer, "bf16", inputs, outputs=[wanted("narrow", binary=False)]).message()
        assert "which JSON cannot carry" in message


def check_large_tensors(address: str) -> None:
    with connected(address) as client:
        inputs = [given("x", "FP64", LARGE, binary=True)]
        for coding in CODINGS:
            answer = client.infer(
                "large", inputs, request_compression_algorithm=coding, response_compression_algorithm=coding
            )
            assert same(answer.as_numpy("y"), LARGE)


def check_many_at_once(address: str) -> None:
    with connected(address) as client:
        arrays = [np.full((1, 4), float(number)) for number in range(40)]
        codings = [CODINGS[number % 3] for number in range(40)]
        waiting = [
            client.async_infer(
                "large",
                [given("x", "FP64", array, binary=number % 2 == 0)],
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
            for number, (array, coding) in enumerate(zip(arrays, codings, strict=True))
        ]
        for array, pending in zip(arrays, waiting, strict=True):
            assert same(pending.get_result(timeout=60).as_numpy("y"), array)


def check_a_request_made_and_an_answer_read_by_themselves(address: str) -> None:
    inputs = [given("x", "FP64", np.ones((1, 4)), binary=True)]
    body, length = triton.InferenceServerClient.generate_request_body(inputs)
    assert length is not None
    with connected(address) as client:
        head = {"Inference-Header-Content-Length": str(length)}
        answer = client._post("v2/models/large/infer", body, head, None)
        found = triton.InferenceServerClient.parse_response_body(
            answer.read(), header_length=int(answer.get("Inference-Header-Content-Length"))
        )
        assert same(found.as_numpy("y"), np.ones((1, 4)))


def check_what_is_wrong_is_said(address: str) -> None:
    with connected(address) as client:
        good = given("x", "FP64", np.ones((1, 4)), binary=True)
        unknown = failure(client.infer, "atlantis", [good])
        assert (unknown.status(), unknown.message()) == (
            "404",
            "Request for unknown model: 'atlantis' is not found",
        )
        version = failure(client.infer, "large", [good], model_version="9")
        assert version.message().endswith("version 9 is not found")
        wrong = given("x", "FP32", np.ones((1, 4), np.float32), binary=True)
        assert "input 'x': expected FP64, found: FP32" in failure(client.infer, "large", [wrong]).message()
        torn = given("x", "FP64", np.ones((1, 4)), binary=True)
        torn._raw_data = torn._raw_data[:-1]
        error = failure(client.infer, "large", [torn])
        assert (error.status(), "input 'x'" in error.message()) == ("400", True)
        shared = triton.InferInput("x", [1, 4], "FP64")
        shared.set_shared_memory("region", 32)
        assert "shared memory" in failure(client.infer, "large", [shared]).message()
        counted = triton.InferRequestedOutput("y", class_count=2)
        assert "classification" in failure(client.infer, "large", [good], outputs=[counted]).message()


def check_extensions_that_there_are_not(address: str) -> None:
    with connected(address) as client:
        for call, arguments in (
            (client.register_system_shared_memory, ("region", "/region", 64)),
            (client.get_system_shared_memory_status, ()),
            (client.unregister_system_shared_memory, ()),
            (client.get_cuda_shared_memory_status, ()),
            (client.get_trace_settings, ()),
            (client.get_trace_settings, ("large",)),
            (client.update_log_settings, ({"log_verbose_level": 1},)),
            (client.get_log_settings, ()),
        ):
            error = failure(call, *arguments)
            assert (error.status(), "does not have the extension" in error.message()) == ("501", True)


run_all(dict(globals()))
