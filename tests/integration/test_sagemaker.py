"""A container of a SageMaker multi-model endpoint, asked as the platform asks: load, list, invoke, unload."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_files import SLOW_PREDICTOR, write_predictor, write_regressor, write_value
from server_process import HttpAnswer, ServerProcess, running_server

pytestmark = pytest.mark.slow

ROWS = {"instances": [[1.0]]}
PLATFORM = {
    "SAGEMAKER_MULTI_MODEL": "true",
    "SAGEMAKER_BIND_TO_PORT": "0",
    "HOTSET_SAGEMAKER_ROOTS": tempfile.gettempdir(),
}
SLOW_LIMIT_S = 60.0


class Platform:
    """SageMaker: it puts models into directories, and tells the container of them."""

    def __init__(self, server: ServerProcess, root: Path) -> None:
        self.server = server
        self.root = root

    def directory(self, name: str) -> Path:
        """Where the model is that the platform has downloaded as ``name``."""
        return self.root / name / "model"

    def download(self, name: str, value: float) -> str:
        write_regressor(self.root, name, "model", value)
        return str(self.directory(name))

    def load(self, name: str, url: str | None = None) -> HttpAnswer:
        body = {"model_name": name, "url": url or str(self.directory(name))}
        return self.server.request("POST", "/models", body)

    def unload(self, name: str) -> HttpAnswer:
        return self.server.request("DELETE", f"/models/{name}")

    def invoke(self, name: str) -> HttpAnswer:
        headers = {"X-Amzn-SageMaker-Target-Model": f"{name}.tar.gz", "Content-Type": "application/json"}
        return self.server.request("POST", f"/models/{name}/invoke", ROWS, headers=headers)

    def listed(self, query: str = "") -> dict[str, object]:
        listed: dict[str, object] = self.server.request("GET", f"/models{query}").json
        return listed


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests that leave nothing behind."""
    directory = tmp_path_factory.mktemp("container")
    with running_server(directory / "disk", environment=PLATFORM, model_cache_size=2) as server:
        yield server


@pytest.fixture
def platform(container: ServerProcess, tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(container, tmp_path / "opt")
    yield platform
    for row in platform.listed()["models"]:  # type: ignore[attr-defined]
        assert platform.unload(row["modelName"]).status == 200
    container.wait_until(lambda: container.tier("disk")["models"] == 0, limit_s=20, what="the files to go")


def test_the_life_of_a_model(platform: Platform) -> None:
    server = platform.server
    assert server.request("GET", "/ping").status == 200
    assert platform.listed() == {"models": []}
    assert platform.invoke("a1").status == 404

    url = platform.download("a1", 3.5)
    row = {"modelName": "a1", "modelUrl": url}
    loaded = platform.load("a1")
    assert (loaded.status, loaded.json) == (200, row)
    assert platform.load("a1").status == 409
    assert platform.listed() == {"models": [row]}
    assert server.request("GET", "/models/a1").json == row
    assert server.request("GET", "/models/b2").status == 404
    assert server.tier("memory")["pinned"] == 1

    answer = platform.invoke("a1")
    assert (answer.status, answer.json) == (200, {"predictions": [3.5]})
    assert "server-timing" not in answer.headers, "it was loaded when it was asked for"

    table = server.request("POST", "/models/a1/invoke", b"1.0\n2.0\n", headers={"Content-Type": "text/csv"})
    assert (table.status, table.body) == (200, b"3.5\n3.5\n")

    gone = platform.unload("a1")
    assert gone.status == 200
    assert server.tier("memory")["bytes"] == 0
    assert (platform.unload("a1").status, platform.invoke("a1").status) == (404, 404)
    assert platform.listed() == {"models": []}
    server.wait_until(lambda: server.tier("disk")["models"] == 0, limit_s=20, what="the files to go")

    assert platform.load("a1").status == 200, "the platform may bring it again"
    assert platform.invoke("a1").json == {"predictions": [3.5]}


def test_the_files_are_linked_and_not_copied(platform: Platform) -> None:
    source = Path(platform.download("a1", 3.5)) / "model.pkl"
    platform.load("a1")
    assert source.stat().st_nlink == 2
    found = [path for path in platform.server.disk_path.rglob("model.pkl") if path.samefile(source)]
    assert len(found) == 1

    source.unlink()
    assert platform.invoke("a1").status == 200, "the platform may delete what it has downloaded"


def test_without_room_it_says_so_at_once_and_evicts_nothing(platform: Platform) -> None:
    for number, name in enumerate(("a1", "b2", "c3")):
        platform.download(name, number)
    assert (platform.load("a1").status, platform.load("b2").status) == (200, 200)

    full = platform.load("c3")
    assert (full.status, full.json["kind"]) == (507, "no_room")
    assert [it["modelName"] for it in platform.listed()["models"]] == ["a1", "b2"]  # type: ignore[attr-defined]
    assert platform.invoke("c3").status == 404
    assert [platform.invoke(name).json["predictions"] for name in ("a1", "b2")] == [[0.0], [1.0]]

    assert platform.unload("a1").status == 200
    assert platform.load("c3").status == 200, "the platform unloads another and tries again"
    assert platform.invoke("c3").json == {"predictions": [2.0]}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"model_name": "a1"}', 400),
        (b'{"model_name": "../etc", "url": "/"}', 400),
        (f'{{"model_name": "a1", "url": "{tempfile.gettempdir()}/no/such/directory"}}'.encode(), 404),
        (b'{"model_name": "a1", "url": "/no/such/directory"}', 403),
        (b'{"model_name": "a1", "url": "/proc/self/cmdline"}', 403),
    ],
)
def test_what_cannot_be_loaded(platform: Platform, body: bytes, status: int) -> None:
    assert platform.server.request("POST", "/models", body).status == status
    assert platform.listed() == {"models": []}


def test_a_model_that_fails_to_load_leaves_nothing(platform: Platform) -> None:
    directory = platform.directory("a1")
    directory.mkdir(parents=True)
    empty = platform.load("a1")
    assert (empty.status, empty.json["kind"]) == (500, "load_failed")
    (directory / "model.pkl").write_bytes(b"no pickle")
    assert platform.load("a1").json["kind"] == "load_failed"
    assert platform.listed() == {"models": []}

    (directory / "model.pkl").unlink()
    directory.rmdir()
    platform.download("a1", 3.5)
    assert platform.load("a1").status == 200, "a failure is not held against what comes next"


def test_pages(platform: Platform) -> None:
    for number, name in enumerate(("b2", "a1")):
        platform.download(name, number)
        platform.load(name)
    first = platform.listed("?limit=1")
    assert ([it["modelName"] for it in first["models"]], first["nextPageToken"]) == (["a1"], "a1")  # type: ignore[attr-defined]
    rest = platform.listed("?limit=1&next_page_token=a1")
    assert [it["modelName"] for it in rest["models"]] == ["b2"]  # type: ignore[attr-defined]
    assert "nextPageToken" not in rest


def test_invocations_name_the_model_in_a_header(platform: Platform) -> None:
    server = platform.server
    nothing = server.request("POST", "/invocations", ROWS)
    assert (nothing.status, nothing.json["kind"]) == (400, "invalid_input")
    for number, name in enumerate(("a1", "b2")):
        platform.download(name, number)
    platform.load("a1")
    assert server.request("POST", "/invocations", ROWS).json == {"predictions": [0.0]}, "there is only one"
    platform.load("b2")
    assert server.request("POST", "/invocations", ROWS).status == 400
    named = {"X-Amzn-SageMaker-Target-Model": "b2"}
    assert server.request("POST", "/invocations", ROWS, headers=named).json == {"predictions": [1.0]}
    unknown = {"X-Amzn-SageMaker-Target-Model": "c3"}
    assert server.request("POST", "/invocations", ROWS, headers=unknown).status == 404


def test_our_own_routes_for_models_are_off_and_the_doors_are_open(platform: Platform) -> None:
    platform.download("a1", 3.5)
    platform.load("a1")
    server = platform.server
    assert server.request("POST", "/models/a1/unload").status == 405
    assert server.request("POST", "/models/a1/predict", ROWS).json == {"predictions": [3.5]}
    assert server.request("POST", "/v1/models/a1:predict", ROWS).json == {"predictions": [3.5]}


def test_what_was_loaded_before_a_restart_is_forgotten(tmp_path: Path) -> None:
    for _ in range(2):
        with running_server(tmp_path / "disk", environment=PLATFORM) as server:
            platform = Platform(server, tmp_path / "opt")
            assert platform.listed() == {"models": []}
            assert platform.invoke("a1").status == 404
            if not platform.directory("a1").exists():
                platform.download("a1", 3.5)
            assert platform.load("a1").status == 200


def test_a_request_inside_ends_before_its_model_is_unloaded(tmp_path: Path) -> None:
    predictor = write_predictor(tmp_path, SLOW_PREDICTOR)
    with running_server(tmp_path / "disk", environment=PLATFORM, predictor=str(predictor)) as server:
        platform = Platform(server, tmp_path / "opt")
        write_value(tmp_path / "opt", "a1", "model", {"value": 7, "predict_sleep_s": 1.0})
        assert platform.load("a1").status == 200
        answers: list[HttpAnswer] = []
        thread = threading.Thread(target=lambda: answers.append(platform.invoke("a1")))
        thread.start()
        server.wait_until(lambda: server.tier("memory")["leases"] == 1, limit_s=20, what="the request")
        assert platform.unload("a1").status == 200
        thread.join(SLOW_LIMIT_S)
        assert [answer.json for answer in answers] == [7]
        assert server.tier("memory")["bytes"] == 0


def test_models_come_back_and_stay_after_their_process_died(platform: Platform) -> None:
    platform.download("a1", 3.5)
    platform.load("a1")
    server = platform.server
    for child in server.children():
        os.kill(child.pid, 9)
    server.wait_until(lambda: platform.invoke("a1").status == 200, limit_s=60, what="the model to come back")
    assert platform.invoke("a1").json == {"predictions": [3.5]}
    server.wait_until(lambda: server.tier("memory")["pinned"] == 1, limit_s=20, what="the pin")
    assert json.dumps(platform.listed()).count("a1") >= 1
