"""What ``hotset check`` finds: of files on disk, in an object store, and of such that nothing can load."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KNeighborsRegressor
from typer.testing import CliRunner

from hotset.checkup import MANY_FILES, Better, Finding, examined_versions, is_worth, versions_among
from hotset.cli import app
from hotset.errors import ConfigError
from hotset.runtimes.registry import detect
from hotset.runtimes.remedies import remedies_for
from hotset.store import ObjectMeta
from model_files import regressor


def meta(path: str, size: int = 1) -> ObjectMeta:
    return ObjectMeta(path, size, "etag", 0.0)


async def examined(location: Path, scratch: Path, most: int = 10) -> list[Finding]:
    scratch.mkdir()
    return [finding async for finding in examined_versions(str(location), scratch, most=most)]


@pytest.fixture
def forest(tmp_path: Path) -> Path:
    """A forest, compressed: slow in two ways."""
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(300, 3))
    path = tmp_path / "store" / "forest" / "1" / "model.joblib"
    path.parent.mkdir(parents=True)
    joblib.dump(RandomForestRegressor(30, random_state=1).fit(rows, rows.sum(axis=1)), path, compress=3)
    return path


def test_each_directory_with_one_kind_of_model_is_a_version() -> None:
    versions = versions_among(
        [
            meta("b/1/model.pkl", 10),
            meta("b/1/notes.txt", 5),
            meta("a/2/model.onnx", 30),
            meta("a/2/x/part.bin"),
            meta("c/model.pkl", 1),
            meta("d/both.pkl"),
            meta("d/both.onnx"),
            meta("readme.md"),
        ]
    )
    assert [(version.model.path, version.bytes) for version in versions] == [
        ("a/2/model.onnx", 30),
        ("b/1/model.pkl", 15),
        ("c/model.pkl", 1),
    ]


def test_what_is_below_a_format_that_is_a_directory_belongs_to_it() -> None:
    versions = versions_among(
        [
            meta("m/1/MLmodel", 1),
            meta("m/1/model.pkl", 20),
            meta("m/1/artifacts/inner/MLmodel", 3),
            meta("m/1/code/model.txt", 4),
            meta("m/10/model.txt", 7),
            meta("s/saved_model.pb", 2),
            meta("s/variables/variables.index", 3),
        ]
    )
    assert [(version.model.path, version.bytes, version.is_whole) for version in versions] == [
        ("m/1/MLmodel", 28, True),
        ("m/10/model.txt", 7, False),
        ("s/saved_model.pb", 5, True),
    ]
    (alone,) = versions_among([meta("MLmodel"), meta("code/city.py")])
    assert alone.bytes == 2


@pytest.mark.parametrize(
    ("now_s", "then_s", "expected"),
    [(0.1, 0.05, True), (0.1, 0.09, False), (0.001, 0.0001, False), (0.0, 0.0, False), (0.01, 0.0, True)],
)
def test_what_is_worth_another_file(now_s: float, then_s: float, expected: bool) -> None:
    assert is_worth(now_s, then_s) == expected


def test_the_best_of_what_was_tried_is_told_if_it_is_worth_it() -> None:
    slow, fast = Better("slow", 0.08, 1, "a"), Better("fast", 0.01, 1, "b")
    assert Finding("p", 1, 1, 0.1, (slow, fast)).best == fast
    assert Finding("p", 1, 1, 0.011, (slow, fast)).best is None
    assert Finding("p", 1, 1, 0.1).best is None
    assert Finding("p", MANY_FILES + 1, 1).has_many_files


async def test_a_compressed_forest_is_better_not_compressed(forest: Path, tmp_path: Path) -> None:
    (finding,) = await examined(tmp_path / "store", tmp_path / "scratch")
    assert finding.path == "forest/1/model.joblib"
    assert {better.title.partition(",")[0] for better in finding.tried} == {"joblib", "pickle"}
    assert all(better.seconds > 0 for better in finding.tried)
    best = finding.best
    assert best is not None
    assert best.bytes > finding.bytes


async def test_the_command_writes_the_file_that_was_measured(forest: Path, tmp_path: Path) -> None:
    (finding,) = await examined(forest, tmp_path / "scratch")
    for better in finding.tried:
        assert better.command.startswith('python -c "')
        exec(better.command.removeprefix('python -c "').removesuffix('"'))
    for better, file in zip(finding.tried, ("model-fast.joblib", "model-fast.pkl"), strict=True):
        assert (forest.parent / file).stat().st_size == pytest.approx(better.bytes, rel=0.01)
    rows = np.zeros((1, 3))
    expected = joblib.load(forest).predict(rows)
    assert joblib.load(forest.parent / "model-fast.pkl").predict(rows) == expected


async def test_what_a_file_is_already_is_not_tried(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    model = KNeighborsRegressor(algorithm="brute").fit(np.zeros((200_000, 2)), np.zeros(200_000))
    joblib.dump(model, path)
    (finding,) = await examined(path, tmp_path / "scratch")
    assert [better.title.partition(",")[0] for better in finding.tried] == ["pickle"]


async def test_a_file_that_cannot_be_loaded_is_told_and_hides_no_other(tmp_path: Path) -> None:
    for name, data in (("bad", b"\x80\x04nonsense" * 1000), ("good", regressor(1.0))):
        (tmp_path / "store" / name).mkdir(parents=True)
        (tmp_path / "store" / name / "model.pkl").write_bytes(data)
    bad, good = await examined(tmp_path / "store", tmp_path / "scratch")
    assert "cannot unpickle model.pkl" in bad.reason
    assert good.reason == ""


async def test_only_the_largest_are_looked_at(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "store" / str(number)).mkdir(parents=True)
        data = pickle.dumps([pickle.loads(regressor(1.0)), "x" * number])
        (tmp_path / "store" / str(number) / "model.pkl").write_bytes(data)
    findings = await examined(tmp_path / "store", tmp_path / "scratch", most=1)
    assert [finding.path for finding in findings] == ["2/model.pkl"]


async def test_where_no_model_is_that_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(ConfigError, match=r"found no model .* \.joblib"):
        await examined(tmp_path / "store", tmp_path / "scratch")


def test_an_onnx_model_is_optimized_ahead(tmp_path: Path) -> None:
    from skl2onnx import to_onnx

    source, target = tmp_path / "model.onnx", tmp_path / "fast.onnx"
    exported = to_onnx(pickle.loads(regressor(7.0)), np.zeros((1, 1), dtype=np.float32))
    source.write_bytes(exported.SerializeToString())
    (remedy,) = remedies_for("onnxruntime")
    remedy.apply(source, target)
    servable = detect([target.name]).load(tmp_path, [target.name])
    assert servable.signature.outputs
    servable.close()


def printed(*arguments: Any) -> str:
    result = CliRunner().invoke(app, ["check", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_names_the_file_and_the_command(forest: Path, tmp_path: Path) -> None:
    for number in range(MANY_FILES):
        (forest.parent / f"part-{number}.txt").write_text("x")
    text = printed(tmp_path / "store")
    assert "forest/1/model.joblib" in text
    assert 'python -c "import joblib' in text
    assert f"{MANY_FILES + 1} files" in text


def test_for_programs_all_that_was_tried_is_told(forest: Path) -> None:
    (finding,) = json.loads(printed(forest, "--json"))
    assert finding["path"] == "model.joblib"
    assert len(finding["tried"]) == 2


def test_a_wrong_place_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert "found no model" in result.output
