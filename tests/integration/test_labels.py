"""Labels over real stores: they move under load without a failed request, and every door that names a version takes them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from client_process import run_client
from grpc_serving import free_port
from hotset.catalog.labels import LABELS_FILE
from load_client import Connection
from model_files import SLOW_PREDICTOR, write_predictor, write_regressor
from server_process import ServerProcess, running_server

LABELS = ("stable", "canary")
MOVES = 6
CONNECTIONS = 6
BAD = 90
LATE = 91
SEEN_LIMIT_S = 30.0


def write_version(root: Path, version: int, *, load_s: float = 0.15) -> None:
    """Beside the models, and then into place in one step. The bad one has nothing that can be loaded."""
    staged = root.parent / f"staged-{version}"
    staged.mkdir()
    model = {"value": {"version": version}, "load_sleep_s": load_s}
    (staged / "value.json").write_text("{" if version == BAD else json.dumps(model))
    (staged / "_SUCCESS").touch()
    (root / "city").mkdir(exist_ok=True)
    staged.rename(root / "city" / str(version))


def write_labels(root: Path, text: str, name: str = "city") -> None:
    staged = root.parent / "labels.new"
    staged.write_text(text)
    staged.rename(root / name / LABELS_FILE)


class Clients:
    """What the connections see, against all that each label was ever given, in order."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.given: dict[str, list[int]] = {"stable": [1], "canary": [2]}
        self.seen: dict[str, set[int]] = {label: set() for label in LABELS}
        self.answers = 0
        self._news = asyncio.Event()

    def give(self, **labels: int) -> None:
        for label, version in labels.items():
            if self.given[label][-1] != version:
                self.given[label].append(version)
        lines = (f"{label}: {versions[-1]}\n" for label, versions in self.given.items())
        write_labels(self._root, "".join(lines))

    async def has_seen(self, **labels: int) -> None:
        async with asyncio.timeout(SEEN_LIMIT_S):
            while not all(version in self.seen[label] for label, version in labels.items()):
                self._news.clear()
                await self._news.wait()

    async def has_answers(self, more: int) -> None:
        async with asyncio.timeout(SEEN_LIMIT_S):
            until = self.answers + more
            while self.answers < until:
                self._news.clear()
                await self._news.wait()

    async def one(self, server: ServerProcess, label: str, path: str, end: asyncio.Event) -> None:
        at = 0
        async with Connection(server.host, server.port) as connection:
            while not end.is_set():
                answer = await connection.ask("POST", path, b"{}")
                assert answer.status == 200, answer.body
                assert answer.json == {"version": answer.version}
                given = self.given[label]
                assert answer.version in given[at:], (label, answer.version, given, at)
                at = given.index(answer.version, at)  # and never back
                self.seen[label].add(answer.version)
                self.answers += 1
                self._news.set()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["s3", "directory"])
async def test_labels_move_under_load_and_no_request_fails(
    place: str, bucket, tmp_path: Path, figure
) -> None:
    source: dict[str, Any] = bucket.source if place == "s3" else {"model_dir": bucket.root}
    numbers = range(1, 2 * MOVES + 3)
    for number in numbers:
        write_version(bucket.root, number)
    clients, end = Clients(bucket.root), asyncio.Event()
    clients.give()
    with running_server(
        tmp_path / "disk",
        predictor=write_predictor(tmp_path, SLOW_PREDICTOR),
        model_cache_size=4,
        sync_interval=0.2,
        settle_time=30,
        **source,
    ) as server:
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                label = LABELS[number % 2]
                path = f"/models/city/versions/{label}/predict"
                group.create_task(clients.one(server, label, path, end))
            await clients.has_seen(stable=1, canary=2)
            for step in range(1, MOVES + 1):
                moves = {"stable": 2 * step + 1, "canary": 2 * step + 2}
                clients.give(**moves)
                await clients.has_seen(**moves)
            write_version(bucket.root, BAD)
            clients.give(stable=BAD)
            await asyncio.to_thread(
                server.wait_until,
                lambda: server.events("load_failed"),
                limit_s=SEEN_LIMIT_S,
                what="the bad version was tried",
            )
            await clients.has_answers(50)
            clients.give(canary=LATE)  # before it is there
            await clients.has_answers(50)
            write_version(bucket.root, LATE)
            clients.give(stable=1)
            await clients.has_seen(canary=LATE)
            end.set()
        figure("answers, all good", clients.answers)
        assert BAD not in clients.seen["stable"]
        moved = [(it["label"], it["version"]) for it in server.events("label_moved")]
        assert [number for label, number in moved if label == "canary"] == clients.given["canary"][1:]
        assert server.metric("hotset_requests_total") == clients.answers


ROW = {"instances": [[1.0]]}


@pytest.mark.slow
def test_every_door_that_names_a_version_takes_a_label(bucket, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_regressor(bucket.root, "city", number, number * 1.5)
    write_labels(bucket.root, "stable: 1\ncanary: 2\nahead: 9\n")
    port = free_port()
    with running_server(
        tmp_path / "disk", grpc_port=port, sync_interval=0.2, settle_time=0, **bucket.source
    ) as server:

        def post(path: str, body: object = ROW, *, status: int = 200) -> Any:
            answer = server.request("POST", path, body)
            assert answer.status == status, answer.body
            return answer

        def get(path: str, *, status: int = 200) -> Any:
            answer = server.request("GET", path)
            assert answer.status == status, answer.body
            return answer.json

        # hotset's own
        for label, number in (("stable", 1), ("canary", 2), ("latest", 3)):
            answer = post(f"/models/city/versions/{label}/predict")
            assert (answer.json["predictions"], answer.version) == ([number * 1.5], number)
        shown = {it["label"]: it for it in get("/models/city")["labels"]}
        assert [(it["version"], it["means"], it["serving"]) for it in shown.values()] == [
            (9, None, None),
            (2, 2, 2),
            (1, 1, 1),
        ]
        assert [it["version"] for it in get("/models/city/versions/stable")["versions"]] == [1]
        refused = post("/models/city/versions/ahead/predict", status=404).json
        assert refused["kind"] == "version_not_found"
        assert "labels.yaml says 'ahead: 9'" in refused["error"]
        assert "Versions offered: 3, 2, 1." in refused["error"]

        # the Open Inference Protocol
        name = get("/v2/models/city/versions/stable")["inputs"][0]["name"]
        tensor = {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [1.0]}
        answer = post("/v2/models/city/versions/canary/infer", {"inputs": [tensor]})
        assert (answer.json["outputs"][0]["data"], answer.json["model_version"]) == ([3.0], "2")
        assert get("/v2/models/city/versions/stable/ready")["ready"]
        rows = get("/v2/models/city/versions/stable/stats")["model_stats"]
        assert [(row["version"], row["inference_count"]) for row in rows] == [("1", 1)]
        refused = post("/v2/models/city/versions/beta/infer", {"inputs": [tensor]}, status=404).json
        assert "'city' version beta is not found" in refused["error"]
        assert "ahead: 9, canary: 2, stable: 1" in refused["error"]

        # TensorFlow Serving
        answer = post("/v1/models/city/labels/stable:predict")
        assert (answer.json["predictions"], answer.version) == ([1.5], 1)
        states = get("/v1/models/city/labels/canary")["model_version_status"]
        assert [state["version"] for state in states] == ["2"]
        assert get("/v1/models/city/labels/canary/metadata")["model_spec"]["version"] == "2"
        refused = post("/v1/models/city/labels/beta:predict", status=400).json
        assert refused["error"].startswith("Unrecognized servable version label: beta. Labels given by")

        # gRPC, by a client as it is
        run_client("grpc_clients/labels", f"127.0.0.1:{port}", "canary", "2", "3.0")

        # a label that is taken out is soon unknown, and a bad file changes nothing
        write_labels(bucket.root, "stable: 1\n")
        server.wait_until(
            lambda: server.predict("city/versions/canary").status == 404, limit_s=20, what="it is gone"
        )
        write_labels(bucket.root, "stable: two\n")
        server.wait_until(lambda: server.events("labels_refused"), limit_s=20, what="it is refused")
        assert post("/models/city/versions/stable/predict").version == 1
        assert "found 'two'" in get("/models/city")["labels_problem"]
