"""What ``model.yaml`` does to a load: the runtime, the device, batching, the signature, and warm-up samples."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression

from hotset.codecs import registry as codecs
from hotset.errors import HotsetError, LoadFailedError
from hotset.payload import Encoded
from hotset.workers.base import LoadReply, LoadSpec, PredictCall
from hotset.workers.host import Host
from hotset.workers.kit import Kit
from hotset.workers.standard import OneRuntime, standard_kit
from worker_fakes import FakePayloadServable, FakeRuntime, echo

ROWS = np.random.default_rng(3).normal(size=(16, 3)).astype(np.float32)
MODEL = LinearRegression().fit(ROWS, ROWS.sum(axis=1))

NOTING = """
import pathlib

class Predictor:
    def load_model(self, disk_path):
        return pathlib.Path(disk_path)

    def predict(self, model, payload):
        with (model / "seen.txt").open("a") as file:
            print(payload, file=file)
        if payload == {"fail": True}:
            raise ValueError("it does not fit")
        return payload

    def unload_model(self, model):
        (model / "unloaded.txt").touch()
"""


def version(path: Path, model_yaml: str | None = None, **files: str | bytes) -> Path:
    path.mkdir()
    joblib.dump(MODEL, path / "model.joblib")
    (path / "model.onnx").write_bytes(to_onnx(MODEL, ROWS[:1]).SerializeToString())
    for name, content in files.items():
        file = path / name.replace("__", ".")
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    if model_yaml is not None:
        (path / "model.yaml").write_text(model_yaml)
    return path


def load(path: Path, host: Host | None = None) -> tuple[Host, LoadReply]:
    host = host or Host(standard_kit(None, {}), max_batch=64)
    return host, host.load(LoadSpec(1, "paris", 1, str(path)))


def unload(host: Host) -> None:
    for handle in host.handles():
        host.retire(handle, lambda held: host.release(held) if held is not None else None)


def ask(host: Host, *instances: Any) -> list[Any]:
    calls = [PredictCall(1, "native", json.dumps({"instances": it}).encode()) for it in instances]
    return [
        json.loads(bytes(it.body))["predictions"] if isinstance(it, Encoded) else it
        for it in host.predict_all(calls)
    ]


def test_it_names_the_runtime_where_the_files_are_of_several_formats(tmp_path: Path) -> None:
    with pytest.raises(LoadFailedError, match=r"several formats .*name its runtime in model\.yaml"):
        load(version(tmp_path / "none"))
    for runtime in ("sklearn", "onnxruntime"):
        _, reply = load(version(tmp_path / runtime, f"runtime: {runtime}"))
        assert reply.runtime == runtime


@pytest.mark.parametrize(
    ("model_yaml", "message"),
    [
        ("runtime: magic", r"runtime: found 'magic', expected one of: sklearn, onnxruntime, "),
        ("runtime: sklearn\ndevice: cuda", "device: found cuda, expected one that the runtime sklearn can use: cpu"),
        ("runtime: sklearn\noptions: {threads: 2}", "options.threads: found an unknown key"),
        ("runtime: predictor", r"predictor\.py"),
        ("runtime: onnxruntime\noutputs: [{name: y, shape: [1, 1]}]\nbatching: true", r"batching: found true, expected .* y: \[1, 1\]"),
        ("runtime: onnxruntime\ninputs: [{name: a}, {name: b}]", "expected one that the model has: X"),
        ("runtime: onnxruntime\nwarmup: [{instances: [[1, 2]]}]", r"warmup\[0\] failed: input 'X': expected the shape \[-1, 3\]"),
        ("runtime: sklearn\nwarmup: [{instances: [[1, 2, 3]]}, {rows: 3}]", r"warmup\[1\] failed: Missing 'inputs'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_failed_load(tmp_path: Path, model_yaml: str, message: str) -> None:
    host = Host(standard_kit(None, {}), max_batch=64)
    with pytest.raises(LoadFailedError, match=message):
        load(version(tmp_path / "paris", model_yaml), host)
    assert host.handles() == []


@pytest.mark.parametrize(
    ("model_yaml", "runtime", "most"),
    [
        ("", "onnxruntime", 1),
        ("batching: true", "onnxruntime", 64),
        ("batching: {max_batch_size: 4}", "onnxruntime", 4),
        ("batching: {max_batch_size: 400}", "onnxruntime", 64),
        ("batching: false", "onnxruntime", 1),
        ("", "sklearn", 64),
        ("batching: {max_batch_size: 4}", "sklearn", 4),
        ("batching: false", "sklearn", 1),
    ],
)
def test_its_owner_says_whether_its_rows_are_independent(
    tmp_path: Path, model_yaml: str, runtime: str, most: int
) -> None:
    host, _ = load(version(tmp_path / "paris", f"runtime: {runtime}\n{model_yaml}"))
    assert host.batch(1) == most
    rows = [ROWS[number : number + 1].tolist() for number in range(10)]
    for _ in range(3):
        answers = np.array(ask(host, *rows)).reshape(-1)
        np.testing.assert_allclose(answers, MODEL.predict(ROWS[:10]), rtol=1e-4, atol=1e-4)
    assert host.batch(1) == most


def test_a_declared_signature_is_in_force(tmp_path: Path) -> None:
    declared = (
        "inputs: [{name: rows, datatype: FP32, shape: [-1, 3]}]\noutputs: [{name: fare, datatype: FP32}]"
    )
    host, reply = load(version(tmp_path / "paris", f"runtime: onnxruntime\n{declared}"))
    assert [spec.name for spec in (*reply.signature.inputs, *reply.signature.outputs)] == ["rows", "fare"]
    assert np.shape(ask(host, [[1, 2, 3]])) == (1, 1, 1)
    wrong = {"inputs": [{"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    with pytest.raises(HotsetError, match="input 'rows' is missing; found: X"):
        host.predict(PredictCall(1, "oip", json.dumps(wrong).encode()))


def test_samples_are_answered_before_the_version_counts_as_ready(tmp_path: Path) -> None:
    samples = "warmup: [{km: 1}, sample.json, [1, 2]]"
    path = version(tmp_path / "paris", samples, predictor__py=NOTING, sample__json='{"km": 2}')
    host, _ = load(path)
    unload(host)
    assert (path / "seen.txt").read_text().splitlines() == ["{'km': 1}", "{'km': 2}", "[1, 2]"]


def test_a_sample_that_fails_is_a_failed_load_and_the_model_is_unloaded(tmp_path: Path) -> None:
    path = version(tmp_path / "paris", "warmup: [{km: 1}, {fail: true}, {km: 3}]", predictor__py=NOTING)
    host = Host(standard_kit(None, {}))
    with pytest.raises(
        LoadFailedError, match=r"model\.yaml: warmup\[1\] failed: ValueError: it does not fit"
    ):
        load(path, host)
    assert len((path / "seen.txt").read_text().splitlines()) == 2
    assert (path / "unloaded.txt").exists()
    assert host.handles() == []


def test_with_a_predictor_of_the_server_the_file_is_its_own(tmp_path: Path) -> None:
    """Whatever it says: it may be older than hotset, and mean something else."""
    runtime = FakeRuntime(lambda _: FakePayloadServable(echo))
    host = Host(Kit(OneRuntime(runtime), codecs.by_name))
    _, reply = load(version(tmp_path / "paris", "layers: 3"), host)
    assert reply.runtime == "fake"


def test_own_code_is_not_charged_for_what_its_load_was_the_first_to_import(tmp_path: Path) -> None:
    importing = NOTING.replace("import pathlib", "import pathlib\nimport this_is_large")
    library = tmp_path / "library"
    library.mkdir()
    (library / "this_is_large.py").write_text("CONTENT = bytearray(32 << 20)")
    path = version(tmp_path / "paris", predictor__py=importing)
    sys.path.append(str(library))
    try:
        host = Host(standard_kit(None, {}))
        first = host.load(LoadSpec(1, "paris", 1, str(path)))
        assert first.is_estimate
        assert first.bytes < 1 << 20
        second = host.load(LoadSpec(2, "paris", 1, str(path)))
        assert not second.is_estimate
        assert second.bytes < 1 << 20
        unload(host)
    finally:
        sys.path.remove(str(library))
        sys.modules.pop("this_is_large", None)
