"""CatBoost: classes by their names, and columns of categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hotset.errors import InvalidInputError, LoadFailedError
from hotset.payload import InferRequest
from hotset.runtimes.catboost_runtime import CatboostRuntime
from hotset.runtimes.options import RuntimeOptions
from hotset.runtimes.tables import TableServable
from tree_models import HALVES, ROWS, SUMS, THIRDS, cat, catboost_files


def load(tmp_path: Path, model: Any) -> TableServable:
    return CatboostRuntime().load(tmp_path, catboost_files(tmp_path, model))


def ask(servable: TableServable, rows: Any = ROWS, output: str = "predict") -> np.ndarray:
    return servable.infer(InferRequest({"input-0": rows}, (output,))).outputs[output]


@pytest.mark.parametrize("loss", ["RMSE", "Poisson", "RMSEWithUncertainty", "Quantile"])
def test_a_regressor(tmp_path: Path, loss: str) -> None:
    model = cat(loss_function=loss).fit(ROWS, np.abs(SUMS))
    servable = load(tmp_path, model)
    np.testing.assert_array_equal(ask(servable), model.predict(ROWS))
    (output,) = servable.signature.outputs
    assert (output.name, output.datatype) == ("predict", "FP64")
    assert output.shape == ((-1, 2) if loss == "RMSEWithUncertainty" else (-1,))


@pytest.mark.parametrize(
    "classes", [HALVES, HALVES > 0, THIRDS, np.array(["small", "middle", "large"])[THIRDS]]
)
def test_a_classifier_gives_classes_and_their_probabilities(tmp_path: Path, classes: np.ndarray) -> None:
    model = cat("Classifier").fit(ROWS, classes)
    servable = load(tmp_path, model)
    assert ask(servable).tolist() == model.predict(ROWS).tolist()
    np.testing.assert_array_equal(ask(servable, output="predict_proba"), model.predict_proba(ROWS))
    assert servable.signature.outputs[1].shape == (-1, len(set(classes.tolist())))


def test_a_ranker_gives_its_scores(tmp_path: Path) -> None:
    model = cat("Ranker").fit(ROWS, SUMS, group_id=np.arange(300) // 10)
    np.testing.assert_array_equal(ask(load(tmp_path, model)), model.predict(ROWS))


@pytest.mark.parametrize("kind", ["f2", "f8", "i8", "u1", "?"])
def test_numbers_of_any_kind_as_catboost_takes_them(tmp_path: Path, kind: str) -> None:
    model = cat().fit(ROWS, SUMS)
    rows = np.abs(np.nan_to_num(ROWS)).astype(kind)
    np.testing.assert_array_equal(ask(load(tmp_path, model), rows), model.predict(rows))


def test_rows_that_cannot_be_written_to(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows.flags.writeable = False
    servable = load(tmp_path, cat().fit(ROWS, SUMS))
    np.testing.assert_array_equal(ask(servable, rows), ask(servable))


@pytest.fixture
def flats() -> pd.DataFrame:
    source = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "area": source.normal(size=300).round(3),
            "city": source.choice(["paris", "rome", "oslo"], 300),
            "rooms": source.choice([2, 7], 300),
        }
    )


@pytest.fixture
def of_flats(flats: pd.DataFrame) -> Any:
    dear = (flats.area + (flats.city == "paris") * 2 + flats.rooms) > 5
    return cat("Classifier", cat_features=["city", "rooms"]).fit(flats, dear)


def columns_of(flats: pd.DataFrame, **others: Any) -> dict[str, Any]:
    city = np.array([item.encode() for item in flats.city], object)
    return {"city": city, "rooms": flats.rooms.to_numpy(), "area": flats.area.to_numpy()} | others


def test_categories_by_column(tmp_path: Path, flats: pd.DataFrame, of_flats: Any) -> None:
    servable = load(tmp_path, of_flats)
    declared = [(it.name, it.datatype, it.shape) for it in servable.signature.inputs]
    assert declared == [("area", "FP64", (-1,)), ("city", "BYTES", (-1,)), ("rooms", "BYTES", (-1,))]
    for columns in (columns_of(flats), columns_of(flats, rooms=flats.rooms.astype(str).to_numpy(object))):
        found = servable.infer(InferRequest(columns, ("predict_proba",))).outputs["predict_proba"]
        np.testing.assert_array_equal(found, of_flats.predict_proba(flats))


def test_categories_in_rows_of_text(tmp_path: Path, flats: pd.DataFrame, of_flats: Any) -> None:
    servable = load(tmp_path, of_flats)
    texts = flats.astype(str).to_numpy(object)
    np.testing.assert_array_equal(ask(servable, texts, "predict_proba"), of_flats.predict_proba(flats))
    as_bytes = np.array([[item.encode() for item in row] for row in texts], object)
    np.testing.assert_array_equal(ask(servable, as_bytes, "predict_proba"), of_flats.predict_proba(flats))
    whole = np.array([[1, 5, 2], [0, 5, 7]])
    np.testing.assert_array_equal(ask(servable, whole), of_flats.predict(whole.tolist()))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"city": np.zeros(300)},
            "input 'city': expected text or whole numbers, for categories, found: FP64",
        ),
        ({"area": np.array(["x"] * 300, object)}, "input 'area': expected numbers, found: BYTES"),
        ({"street": np.zeros(300)}, "missing: none; unknown: street"),
        ({"city": np.array(["paris"], object)}, "differ in length"),
    ],
)
def test_says_which_column_is_wrong(
    tmp_path: Path, flats: pd.DataFrame, of_flats: Any, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        load(tmp_path, of_flats).infer(InferRequest(columns_of(flats, **wrong)))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((1, 3)), "input 'input-0': expected BYTES, or a tensor for each column by name"),
        (np.array([["much", "paris", "2"]], object), "much"),
        (np.array([["1", "paris"]], object), "input 'input-0': expected 3 features, found: 2"),
        (np.zeros((0, 3), object), "input 'input-0': expected at least one row"),
    ],
)
def test_says_what_is_wrong_with_rows(tmp_path: Path, of_flats: Any, rows: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        ask(load(tmp_path, of_flats), rows)


def test_threads_are_an_option(tmp_path: Path) -> None:
    model = cat().fit(ROWS, SUMS)
    files = catboost_files(tmp_path, model)
    servable = CatboostRuntime().load(tmp_path, files, RuntimeOptions(values={"threads": 2}))
    np.testing.assert_array_equal(ask(servable), model.predict(ROWS))


def test_embeddings_are_a_failed_load(tmp_path: Path) -> None:
    frame = pd.DataFrame({"area": SUMS, "vector": np.nan_to_num(ROWS).tolist()})
    model = cat("Classifier", embedding_features=["vector"]).fit(frame, HALVES)
    with pytest.raises(LoadFailedError, match=r"model\.cbm takes embeddings"):
        load(tmp_path, model)


@pytest.mark.parametrize("content", [b"", b"\x00garbage", b"CBM1"])
def test_other_files_are_failed_loads(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.cbm").write_bytes(content)
    with pytest.raises(LoadFailedError, match=r"cannot load model\.cbm"):
        CatboostRuntime().load(tmp_path, ["model.cbm"])
    assert not CatboostRuntime().needs_pickle(tmp_path, ["model.cbm"])
