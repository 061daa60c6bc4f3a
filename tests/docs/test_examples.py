"""The examples: short, and each does what its first lines say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from doc_pages import ROOT
from hotset.config import load_settings
from hotset.runtimes.predictor_source import check_predictor
from model_files import regressor
from server_process import running_server
from servers import rclone_s3

EXAMPLES = ROOT / "examples"
LIMIT_S = 120.0


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60


def test_the_settings_and_their_predictor_fit() -> None:
    settings = load_settings(EXAMPLES / "config.yaml", {}, {})
    assert settings.predictor is not None
    assert check_predictor(ROOT / settings.predictor).class_name == "Predictor"


@pytest.mark.slow
def test_the_predictor_serves_from_s3(tmp_path: Path) -> None:
    with rclone_s3(tmp_path / "s3") as s3:
        for name, base in (("paris", 2.5), ("rome", 3.5)):
            version = tmp_path / "s3" / "city-models" / "prod" / name / "7"
            version.mkdir(parents=True)
            (version / "tariff.json").write_text(json.dumps({"base": base, "per_km": 1.8, "per_minute": 0.3}))
            (version / "_SUCCESS").touch()
        with running_server(
            tmp_path / "disk",
            environment=s3.environment,
            config=EXAMPLES / "config.yaml",
            predictor=EXAMPLES / "predictor.py",
            processes_per_replica=1,
        ) as server:
            answer = server.predict("rome", {"km": 10, "minutes": 20})
            assert answer.json == {"city": "rome", "fare": 27.5, "currency": "EUR"}
            assert answer.version == 7
            assert server.models()["paris"]["serving"] == 7  # by `preload`


@pytest.mark.slow
def test_a_handler_written_for_cortex_answers_for_several_models(tmp_path: Path) -> None:
    for name, base in (("paris", 2.5), ("rome", 3.5)):
        version = tmp_path / "models" / name / "7"
        version.mkdir(parents=True)
        (version / "tariff.json").write_text(json.dumps({"base": base, "per_km": 1.8, "per_minute": 0.3}))
        (version / "_SUCCESS").touch()
    cortex = EXAMPLES / "cortex.yaml"
    with running_server(tmp_path / "disk", cortex=cortex, model_dir=tmp_path / "models") as server:
        answer = server.request("POST", "/?model=paris,rome", {"km": 10, "minutes": 20})
        assert answer.json == {"fares": {"paris": 26.5, "rome": 27.5}, "currency": "EUR"}


@pytest.mark.slow
def test_a_directory_of_onnx_models_is_served_as_it_is(tmp_path: Path) -> None:
    source = EXAMPLES / "onnx_directory.py"
    run(str(source), "models", cwd=tmp_path)
    body = re.search(r"-d '(\{.*?\})'", source.read_text(), re.DOTALL)
    assert body is not None
    with running_server(tmp_path / "disk", model_dir=tmp_path / "models") as server:
        answer = server.request("POST", "/v2/models/rome/infer", body[1].encode())
        assert answer.status == 200, answer.body
        (output,) = answer.json["outputs"]
        assert output["data"] == pytest.approx([2.5 + 1.6 * 4.2 + 0.3 * 15], abs=1e-3)
        assert sorted(server.models()) == ["lima", "oslo", "rome"]


@pytest.mark.slow
def test_a_replica_lives_in_another_program(tmp_path: Path) -> None:
    for name, value in (("paris", 3.0), ("rome", 4.0)):
        version = tmp_path / "models" / name / "1"
        version.mkdir(parents=True)
        (version / "model.pkl").write_bytes(regressor(value))
        (version / "_SUCCESS").touch()
    shown = run(str(EXAMPLES / "embedded.py"), "models", "rome", '{"instances": [[0.0]]}', cwd=tmp_path)
    first, second = shown.splitlines()
    assert first.startswith("rome@1 from store: ")
    assert second.startswith("rome@1 from memory: ")
    assert json.loads(second.partition(": ")[2]) == {"predictions": [pytest.approx(4.0)]}
