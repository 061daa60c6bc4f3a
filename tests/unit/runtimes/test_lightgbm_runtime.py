"""LightGBM: its booster's answers, and categories of pandas by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest

from hotset.errors import InvalidInputError, LoadFailedError
from hotset.payload import InferRequest
from hotset.runtimes.lightgbm_runtime import LightgbmRuntime
from hotset.runtimes.options import RuntimeOptions
from hotset.runtimes.tables import TableServable
from tree_models import HALVES, ROWS, SUMS, THIRDS, lgbm, lightgbm_files


def load(tmp_path: Path, model: Any, name: str = "model.txt") -> TableServable:
    return LightgbmRuntime().load(tmp_path, lightgbm_files(tmp_path, model, name))


def ask(servable: TableServable, rows: Any = ROWS, output: str = "predict") -> np.ndarray:
    return servable.infer(InferRequest({"input-0": rows}, (output,))).outputs[output]


@pytest.mark.parametrize("name", ["model.txt", "paris.lgb.txt"])
def test_a_regressor(tmp_path: Path, name: str) -> None:
    model = lgbm().fit(ROWS, SUMS)
    servable = load(tmp_path, model, name)
    np.testing.assert_array_equal(ask(servable), model.predict(ROWS))
    assert [(it.name, it.datatype, it.shape) for it in servable.signature.outputs] == [
        ("predict", "FP64", (-1,))
    ]


@pytest.mark.parametrize("classes", [HALVES, THIRDS])
def test_a_classifier_gives_the_boosters_values_and_the_probabilities(
    tmp_path: Path, classes: np.ndarray
) -> None:
    model = lgbm("Classifier").fit(ROWS, classes)
    servable = load(tmp_path, model)
    np.testing.assert_array_equal(ask(servable), model.booster_.predict(ROWS))
    np.testing.assert_array_equal(ask(servable, output="predict_proba"), model.predict_proba(ROWS))
    assert servable.signature.outputs[1].shape == (-1, len(set(classes)))


def test_a_regressor_has_no_probabilities(tmp_path: Path) -> None:
    servable = load(tmp_path, lgbm().fit(ROWS, SUMS))
    with pytest.raises(InvalidInputError, match="no output 'predict_proba'; this model has: predict"):
        ask(servable, output="predict_proba")


@pytest.mark.parametrize("kind", ["f2", "f8", "i8", "u1", "?"])
def test_numbers_of_any_kind_as_lightgbm_takes_them(tmp_path: Path, kind: str) -> None:
    model = lgbm().fit(ROWS, SUMS)
    rows = np.abs(np.nan_to_num(ROWS)).astype(kind)
    np.testing.assert_array_equal(ask(load(tmp_path, model), rows), model.predict(rows))


@pytest.fixture
def flats() -> pd.DataFrame:
    source = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "area": source.normal(size=300),
            "city": pd.Categorical(source.choice(["paris", "rome", "oslo"], 300)),
            "rooms": pd.Categorical(source.choice([2, 7], 300)),
            "always": 0.0,
        }
    )


@pytest.fixture
def of_flats(flats: pd.DataFrame) -> Any:
    target = flats.area + flats.city.cat.codes * 2 + flats.rooms.cat.codes
    return lgbm().fit(flats, target)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_categories_are_given_as_they_were_in_training(
    tmp_path: Path, flats: pd.DataFrame, of_flats: Any, as_bytes: bool
) -> None:
    servable = load(tmp_path, of_flats)
    city = flats.city.astype(str).to_numpy(object)
    columns = {
        "rooms": flats.rooms.astype(int).to_numpy(),
        "city": np.array([item.encode() for item in city], object) if as_bytes else city,
        "area": flats.area.to_numpy(),
        "always": flats.always.to_numpy(),
    }
    found = servable.infer(InferRequest(columns)).outputs["predict"]
    np.testing.assert_array_equal(found, of_flats.predict(flats))
    columns["city"][:] = "nowhere"
    unknown = flats.assign(city=pd.Categorical(["nowhere"] * 300))
    found = servable.infer(InferRequest(columns)).outputs["predict"]
    np.testing.assert_array_equal(found, of_flats.predict(unknown))


def test_rows_hold_categories_as_codes(tmp_path: Path, flats: pd.DataFrame, of_flats: Any) -> None:
    coded = flats.assign(city=flats.city.cat.codes, rooms=flats.rooms.cat.codes).to_numpy()
    np.testing.assert_array_equal(ask(load(tmp_path, of_flats), coded), of_flats.predict(flats))


def test_text_that_is_no_category_is_refused(tmp_path: Path, flats: pd.DataFrame, of_flats: Any) -> None:
    servable = load(tmp_path, of_flats)
    columns = {name: flats[name].astype(str).to_numpy(object) for name in flats.columns}
    with pytest.raises(InvalidInputError, match="input 'area': expected numbers, found: BYTES"):
        servable.infer(InferRequest(columns))
    with pytest.raises(InvalidInputError, match="missing: city, rooms, always"):
        servable.infer(InferRequest({"area": np.zeros(3)}))


def test_all_trees_are_asked_though_training_stopped_early(tmp_path: Path) -> None:
    """What is saved is what was best, so that is all."""
    model = lgbm(n_estimators=200, learning_rate=0.9)
    model.fit(
        ROWS[:50], SUMS[:50], eval_X=ROWS[50:], eval_y=SUMS[50:],
        callbacks=[lightgbm.early_stopping(3, verbose=False)],
    )  # fmt: skip
    np.testing.assert_array_equal(ask(load(tmp_path, model)), model.predict(ROWS))


def test_threads_are_an_option(tmp_path: Path) -> None:
    model = lgbm().fit(ROWS, SUMS)
    files = lightgbm_files(tmp_path, model)
    servable = LightgbmRuntime().load(tmp_path, files, RuntimeOptions(values={"threads": 2}))
    np.testing.assert_array_equal(ask(servable), model.predict(ROWS))


@pytest.mark.parametrize(
    "content", [b"", b"\x00garbage", b"tree\nversion=v4\n", b"Dear reader,\n\nthis is no model\n"]
)
def test_other_files_are_failed_loads_and_print_nothing(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.txt").write_bytes(content)
    with pytest.raises(LoadFailedError, match=r"cannot load model\.txt"):
        LightgbmRuntime().load(tmp_path, ["model.txt"])
    assert capfd.readouterr().out == ""


def test_takes_no_other_text() -> None:
    assert not LightgbmRuntime().detect(["README.txt", "requirements.txt", "labels.txt"])
    assert not LightgbmRuntime().needs_pickle(Path(), ["model.txt"])
