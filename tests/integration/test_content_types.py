"""Arrays, tables and forms as bodies, from a socket to a model and back."""

from __future__ import annotations

import io
from collections.abc import Iterator

import httpx
import numpy as np
import pyarrow as pa
import pytest

from model_files import write_predictor
from server_process import ServerProcess, running_server

PREDICTOR = """
import numpy as np
import pyarrow as pa


class Predictor:
    def load_model(self, disk_path):
        return {}

    def predict(self, model, payload):
        if isinstance(payload, np.ndarray):
            return payload * 2
        if isinstance(payload, pa.Table):
            return payload.append_column("double", pa.array([2 * x for x in payload["x"].to_pylist()]))
        if isinstance(payload, dict) and "file" in payload:
            return {"name": payload["file"].filename, "bytes": len(payload["file"].read()), "text": payload["text"]}
        return {"kind": type(payload).__name__, "sums": {name: float(array.sum()) for name, array in payload.items()}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("content")
    (folder / "models" / "m").mkdir(parents=True)
    (folder / "models" / "m" / "nothing.txt").write_text("nothing")
    with running_server(
        folder / "disk",
        model_dir=folder / "models",
        settle_time=0,
        predictor=write_predictor(folder, PREDICTOR),
    ) as server:
        yield server


def post(server: ServerProcess, **options: object) -> httpx.Response:
    return httpx.post(f"http://{server.host}:{server.port}/models/m/predict", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [3, 100_000])  # the larger one comes through shared memory
def test_an_array_and_its_answer(server: ServerProcess, rows: int) -> None:
    array = np.arange(4.0 * rows).reshape(rows, 4)
    file = io.BytesIO()
    np.save(file, array)
    answer = post(server, content=file.getvalue(), headers={"Content-Type": "application/x-npy"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), array * 2)


def test_arrays_by_name(server: ServerProcess) -> None:
    file = io.BytesIO()
    np.savez(file, a=np.ones(3), b=np.ones((2, 2)))
    answer = post(server, content=file.getvalue(), headers={"Content-Type": "application/x-npz"})
    assert answer.json() == {"kind": "dict", "sums": {"a": 3.0, "b": 4.0}}


def test_a_table_and_its_answer(server: ServerProcess) -> None:
    kind = "application/vnd.apache.arrow.stream"
    sink = pa.BufferOutputStream()
    table = pa.table({"x": [1, 2], "city": ["Rome", "Zürich"]})
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write(table)
    answer = post(server, content=sink.getvalue().to_pybytes(), headers={"Content-Type": kind})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert pa.ipc.open_stream(answer.content).read_all() == table.append_column("double", pa.array([2, 4]))


def test_a_form_with_a_file(server: ServerProcess) -> None:
    answer = post(server, data={"text": "Grüezi"}, files={"file": ("ü.bin", bytes(1000))})
    assert answer.json() == {"name": "ü.bin", "bytes": 1000, "text": "Grüezi"}


@pytest.mark.parametrize(
    "kind", ["application/x-npy", "application/x-npz", "application/vnd.apache.arrow.stream"]
)
def test_what_is_not_what_its_type_says_is_the_clients_fault(server: ServerProcess, kind: str) -> None:
    answer = post(server, content=b'{"a": 1}', headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["kind"]) == (400, "invalid_input")
    assert answer.json()["error"].startswith("the body is not ")
