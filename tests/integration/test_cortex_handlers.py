"""Handlers written for Cortex, with their ``cortex.yaml``, in real servers: cached, under eviction, in several processes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from server_process import HttpAnswer, ServerProcess, running_server

pytestmark = pytest.mark.slow

HANDLER: Final = """
import json
from pathlib import Path


class Handler:
    def __init__(self, config, model_client):
        self.client = model_client
        self.greeting = config["greeting"]
        self.words = open("words.txt").read()

    def load_model(self, model_path):
        return Path(model_path, "model.txt").read_text()

    def handle_post(self, payload, query_params, headers):
        if "models" in query_params:
            models = [self.client.get_model(*name.split("@")) for name in query_params["models"].split(",")]
            return {"models": models}
        model = self.client.get_model(query_params["model"], query_params.get("version", "latest"))
        kind = type(payload).__name__
        if kind == "bytes":
            payload = payload.decode()
        if kind == "Form":
            payload = {key: value if isinstance(value, str) else value.file.read().decode() for key, value in payload.items()}
        return {
            "greeting": self.greeting, "words": self.words, "model": model,
            "payload": payload, "kind": kind, "agent": headers["User-Agent"],
        }

    def handle_get(self, query_params):
        if query_params.get("as") == "bytes":
            return bytes(3)
        return "text"
"""

FORM: Final = (
    b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--X\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\nfile\r\n--X--\r\n'
)

NAMES: Final = ("paris", "rome", "oslo", "bonn", "kiev", "lima")


class Project:
    """What a user of Cortex has: a directory with a ``cortex.yaml``, a handler, a file that it reads, and models."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "handler.py").write_text(HANDLER)
        (directory / "words.txt").write_text("some words")
        for name in NAMES:
            for version in (1, 2):
                self.add(name, version)

    def add(self, name: str, version: int) -> None:
        folder = self.directory / "models" / name / str(version)
        folder.mkdir(parents=True)
        (folder / "model.txt").write_text(f"{name}-{version}")

    def write(self, models: dict[str, Any], **handler: object) -> Path:
        file = self.directory / "cortex.yaml"
        spec = {
            "name": "cities",
            "kind": "RealtimeAPI",
            "handler": {
                "type": "python",
                "path": "handler.py",
                "config": {"greeting": "hello"},
                "multi_model_reloading": models,
                **handler,
            },
            "compute": {"cpu": "1", "mem": "1Gi"},
            "networking": {"endpoint": "/cities"},
        }
        file.write_text(yaml.safe_dump([spec]))
        return file


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for the tests that leave nothing behind: a directory of models, of which one at a time is in memory."""
    directory = tmp_path_factory.mktemp("cortex")
    project = Project(directory / "project")
    file = project.write({"dir": "./models", "cache_size": 1, "disk_cache_size": 2})
    with running_server(directory / "disk", cortex=file, settle_time=0) as running:
        yield running


def post(
    server: ServerProcess, query: str, body: bytes = b"{}", content_type: str = "application/json"
) -> HttpAnswer:
    headers = {"Content-Type": content_type, "User-Agent": "test"}
    return server.request("POST", f"/?{query}", body, headers=headers)


def test_a_handler_finds_its_config_its_files_and_the_model_that_it_asks_for(server: ServerProcess) -> None:
    answer = post(server, "model=paris", b'{"a": 1}')
    assert answer.json == {
        "greeting": "hello", "words": "some words", "model": "paris-2", "payload": {"a": 1}, "kind": "dict", "agent": "test",
    }  # fmt: skip
    assert (answer.headers["x-model-name"], answer.version) == ("paris", 2)
    assert post(server, "model=paris&version=1").json["model"] == "paris-1"
    assert post(server, "model=rome&version=2").json["model"] == "rome-2"
    assert server.tier("memory")["models"] == 1


@pytest.mark.parametrize(
    ("content_type", "body", "kind", "payload"),
    [
        ("text/plain", b"hello", "str", "hello"),
        ("application/octet-stream", b"hello", "bytes", "hello"),
        ("application/x-www-form-urlencoded", b"a=1&b=x", "Form", {"a": "1", "b": "x"}),
        (
            "multipart/form-data; boundary=X",
            FORM,
            "Form",
            {"a": "1", "f": "file"},
        ),
    ],
)
def test_payloads_come_by_their_content_type(
    server: ServerProcess, content_type: str, body: bytes, kind: str, payload: object
) -> None:
    answer = post(server, "model=paris", body, content_type).json
    assert (answer["kind"], answer["payload"]) == (kind, payload)


def test_answers_may_be_text_and_bytes(server: ServerProcess) -> None:
    text = server.request("GET", "/")
    assert (text.body, text.headers["content-type"].split(";")[0]) == (b"text", "text/plain")
    raw = server.request("GET", "/?as=bytes")
    assert (raw.body, raw.headers["content-type"]) == (bytes(3), "application/octet-stream")


def test_info_lists_the_models(server: ServerProcess) -> None:
    metadata = server.request("GET", "/info").json["model_metadata"]
    assert sorted(metadata) == sorted(NAMES)
    assert metadata["paris"]["versions"] == ["1", "2"]
    assert len(metadata["paris"]["timestamps"]) == 2


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("model=nowhere", 404, "model_not_found"),
        ("model=paris&version=9", 404, "version_not_found"),
        ("model=paris&version=!", 400, "invalid_input"),
        ("", 500, "predict_failed"),
    ],
)
def test_what_a_handler_does_not_find_is_told(
    server: ServerProcess, query: str, status: int, kind: str
) -> None:
    answer = post(server, query)
    assert (answer.status, answer.json["kind"]) == (status, kind)


def test_other_doors_say_that_the_handler_is_to_be_asked(server: ServerProcess) -> None:
    answer = server.predict("paris")
    assert answer.status == 501
    assert "POST /?model=paris" in answer.json["error"]
    assert server.request("PUT", "/").status == 501


def test_a_request_that_needs_more_than_fits_is_told_what_to_do(server: ServerProcess) -> None:
    answer = post(server, "models=paris,rome")
    assert (answer.status, answer.json["kind"]) == (507, "too_large")
    assert "paris" in answer.json["error"]
    assert "model_cache_size" in answer.json["error"]
    assert post(server, "model=paris").status == 200


def test_models_listed_by_their_paths_have_versions_and_get_new_ones(
    project: Project, tmp_path: Path
) -> None:
    paths = [{"name": f"city-{name}", "path": f"models/{name}"} for name in ("paris", "rome")]
    file = project.write({"paths": paths, "cache_size": 4})
    with running_server(tmp_path / "disk", cortex=file, settle_time=0, sync_interval=0.1) as server:
        assert post(server, "model=city-rome&version=1").json["model"] == "rome-1"
        assert post(server, "models=city-paris,city-rome").json == {"models": ["paris-2", "rome-2"]}
        assert post(server, "model=paris").status == 404
        project.add("paris", 3)
        server.wait_until(
            lambda: post(server, "model=city-paris").json["model"] == "paris-3", limit_s=20, what="paris-3"
        )


def test_two_processes_with_two_threads_each_answer_ensembles_from_a_cache_that_is_too_small_for_all(
    project: Project, tmp_path: Path
) -> None:
    file = project.write(
        {"dir": "models", "cache_size": 3, "disk_cache_size": 4},
        processes_per_replica=2,
        threads_per_process=2,
    )
    dice = random.Random(5)
    asked = [dice.sample(NAMES, dice.randint(1, 3)) for _ in range(150)]

    with running_server(tmp_path / "disk", cortex=file, settle_time=0) as server:

        def ask(names: list[str]) -> HttpAnswer:
            return post(server, f"models={','.join(names)}&model={names[0]}")

        with ThreadPoolExecutor(12) as clients:
            answers = list(clients.map(ask, asked))
        wrong = [answer.body for answer in answers if answer.status != 200]
        assert not wrong
        assert [answer.json["models"] for answer in answers] == [
            [f"{it}-2" for it in names] for names in asked
        ]
        assert len(server.children()) == 2
        assert server.loads > len(NAMES)
        memory = server.tier("memory")
        assert memory["models"] + memory["copies"] <= 3
        assert json.dumps(server.events("worker_died")) == "[]"


BATCHED: Final = """
class PythonPredictor:
    def __init__(self, config, python_client):
        self.client = python_client

    def load_model(self, model_path):
        return model_path

    def predict(self, payload, query_params):
        self.client.get_model("paris")
        return [{"asked": one, "of": len(payload), "who": it["who"]} for one, it in zip(payload, query_params)]
"""


def test_with_server_side_batching_the_handler_takes_and_gives_lists(
    project: Project, tmp_path: Path
) -> None:
    (project.directory / "handler.py").write_text(BATCHED)
    batching = {"max_batch_size": 8, "batch_interval": "0.1s"}
    file = project.write({"dir": "models"}, server_side_batching=batching)
    with running_server(tmp_path / "disk", cortex=file, settle_time=0) as server:

        def ask(number: int) -> Any:
            return post(server, f"who={number}", json.dumps(number).encode()).json

        with ThreadPoolExecutor(12) as clients:
            answers = list(clients.map(ask, range(60)))
    assert [answer["asked"] for answer in answers] == list(range(60))
    assert [answer["who"] for answer in answers] == [str(number) for number in range(60)]
    assert max(answer["of"] for answer in answers) <= 8
