"""Models that bring code and a ``model.yaml``, over HTTP through a real server: who sees what, and who is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_files import regressor
from server_process import ServerProcess, running_server

pytestmark = pytest.mark.slow

PREDICTOR = """
from naming import NAME


class Predictor:
    def __init__(self, config):
        self.greeting = config.get("greeting", "hello")

    def load_model(self, disk_path):
        return None

    def predict(self, payload):
        from late import PLACE

        if payload == {"fail": True}:
            raise ValueError("no fare")
        return [self.greeting, NAME, PLACE]
"""


def write(root: Path, name: str, version: int, model_yaml: str = "") -> None:
    directory = root / name / str(version)
    directory.mkdir(parents=True)
    (directory / "predictor.py").write_text(PREDICTOR)
    (directory / "naming.py").write_text(f"NAME = '{name}@{version}'")
    (directory / "late.py").write_text(f"PLACE = '{name}'")
    if model_yaml:
        (directory / "model.yaml").write_text(model_yaml)


@pytest.mark.parametrize("processes", [0, 1])
def test_each_model_sees_its_own_modules_and_a_failing_sample_keeps_the_old_version(
    tmp_path: Path, processes: int
) -> None:
    root = tmp_path / "models"
    for name in ("rome", "oslo"):
        write(root, name, 1, "options: {greeting: ciao}\nwarmup: [{km: 3}]")
    settings = {"settle_time": "0", "sync_interval": "200ms", "processes_per_replica": processes}
    with running_server(tmp_path / "disk", model_dir=root, **settings) as server:
        for name in ("rome", "oslo", "rome"):
            assert answer(server, name) == ["ciao", f"{name}@1", name]
        write(root, "rome", 2)
        write(root, "rome", 3, "warmup: [{fail: true}]")
        listed = lambda: len(server.models()["rome"]["versions"]) == 3
        server.wait_until(listed, limit_s=30, what="the new versions")
        refused = server.predict("rome/versions/3")
        assert refused.status == 500
        assert refused.json["kind"] == "load_failed"
        assert "model.yaml: warmup[0] failed: ValueError: no fare" in refused.json["error"]
        assert answer(server, "rome/versions/2") == ["hello", "rome@2", "rome"]
        assert answer(server, "oslo") == ["ciao", "oslo@1", "oslo"]


def answer(server: ServerProcess, model: str) -> list[str]:
    found = server.predict(model, {"km": 1})
    assert found.status == 200, found.body
    return list(found.json)


def test_with_allow_pickle_false_no_code_of_a_model_runs(tmp_path: Path) -> None:
    root = tmp_path / "models"
    write(root, "rome", 1)
    (root / "oslo" / "1").mkdir(parents=True)
    (root / "oslo" / "1" / "model.pkl").write_bytes(regressor(3))
    (root / "rome" / "1" / "naming.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    settings = {"settle_time": "0", "allow_pickle": "false"}
    with running_server(tmp_path / "disk", model_dir=root, **settings) as server:
        for name, runtime in (("rome", "predictor"), ("oslo", "sklearn")):
            refused = server.predict(name, {"instances": [[0.0]]})
            assert refused.status == 500
            assert refused.json["kind"] == "load_failed"
            assert f"the runtime {runtime} runs code" in refused.json["error"]
            assert "allow_pickle is false" in refused.json["error"]
    assert not (tmp_path / "ran").exists()
