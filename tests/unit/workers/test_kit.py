from __future__ import annotations

from pathlib import Path

import pytest

from hotset.errors import ConfigError, LoadFailedError
from hotset.workers.base import LoadSpec
from hotset.workers.kit import CODELESS_KIT, STANDARD_KIT, kit_builder
from hotset.workers.standard import codeless_kit, standard_kit


def spec(runtime: str | None = None) -> LoadSpec:
    return LoadSpec(1, "paris", 1, "/x", runtime)


def test_the_standard_kit_is_found_by_its_name() -> None:
    assert kit_builder(STANDARD_KIT) is standard_kit
    assert kit_builder(CODELESS_KIT) is codeless_kit


@pytest.mark.parametrize("name", ["", "nowhere", "nowhere:f", "hotset.workers.standard", "os:nothing", ":f"])
def test_a_name_that_leads_nowhere_is_a_matter_of_configuration(name: str) -> None:
    with pytest.raises(ConfigError, match="module:function"):
        kit_builder(name)


def test_runtimes_are_detected_or_named() -> None:
    runtimes = standard_kit(None, {}).runtimes
    assert runtimes.choice_for(spec(), ["model.onnx"]).runtime.name == "onnxruntime"
    assert runtimes.choice_for(spec("sklearn"), ["model.bin"]).runtime.name == "sklearn"
    with pytest.raises(LoadFailedError, match="none"):
        runtimes.choice_for(spec("none"), ["model.onnx"])
    with pytest.raises(LoadFailedError):
        runtimes.choice_for(spec(), ["README"])


def test_with_a_predictor_every_model_is_its(tmp_path: Path) -> None:
    file = tmp_path / "predictor.py"
    file.write_text(
        "class Predictor:\n    def load_model(self, disk_path): ...\n    def predict(self, payload): ...\n"
    )
    runtimes = standard_kit(str(file), {}).runtimes
    assert runtimes.choice_for(spec(), ["model.onnx"]).runtime.name == "predictor"


@pytest.mark.parametrize("file", ["model.joblib", "model.pkl", "predictor.py"])
def test_the_codeless_kit_refuses_what_would_run_code_before_any_of_it_ran(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("raise SystemExit('this ran')")
    asked = LoadSpec(1, "paris", 1, str(tmp_path))
    assert standard_kit(None, {}).runtimes.choice_for(asked, [file])
    with pytest.raises(LoadFailedError, match="allow_pickle is false; expected a format without code"):
        codeless_kit(None, {}).runtimes.choice_for(asked, [file])


def test_the_codeless_kit_loads_what_runs_no_code_and_the_servers_own_predictor(tmp_path: Path) -> None:
    choice = codeless_kit(None, {}).runtimes.choice_for(spec(), ["model.onnx"])
    assert choice.runtime.name == "onnxruntime"
    file = tmp_path / "predictor.py"
    file.write_text(
        "class Predictor:\n    def load_model(self, disk_path): ...\n    def predict(self, payload): ...\n"
    )
    choice = codeless_kit(str(file), {}).runtimes.choice_for(spec(), ["model.pkl"])
    assert choice.runtime.name == "predictor"


def test_codecs_are_the_registrys() -> None:
    assert standard_kit(None, {}).codecs("native").name == "native"
