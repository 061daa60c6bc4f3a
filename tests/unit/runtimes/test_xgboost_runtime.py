"""XGBoost: the answers of its own classes, without them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from hotset.errors import InvalidInputError, LoadFailedError
from hotset.payload import InferRequest
from hotset.runtimes.options import RuntimeOptions
from hotset.runtimes.tables import TableServable
from hotset.runtimes.xgboost_runtime import XgboostRuntime
from tree_models import HALVES, ROWS, SUMS, THIRDS, xgb, xgboost_files


def load(tmp_path: Path, model: Any, name: str = "model.ubj") -> TableServable:
    return XgboostRuntime().load(tmp_path, xgboost_files(tmp_path, model, name))


def ask(servable: TableServable, rows: Any = ROWS, output: str = "predict") -> np.ndarray:
    return servable.infer(InferRequest({"input-0": rows}, (output,))).outputs[output]


def check_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["model.ubj", "paris.xgb.json", "model.json"])
def test_a_regressor(tmp_path: Path, name: str) -> None:
    model = xgb().fit(ROWS, SUMS)
    servable = load(tmp_path, model, name)
    check_same(ask(servable), model.predict(ROWS))
    assert [(it.name, it.datatype, it.shape) for it in servable.signature.inputs] == [
        ("input-0", None, (-1, 4))
    ]
    assert [(it.name, it.datatype, it.shape) for it in servable.signature.outputs] == [
        ("predict", "FP32", (-1,))
    ]


@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob", "multi:softmax"])
def test_a_classifier_gives_classes_and_their_probabilities(tmp_path: Path, objective: str) -> None:
    classes = HALVES if objective.startswith("binary") else THIRDS
    model = xgb("Classifier", objective=objective, **({} if classes is HALVES else {"num_class": 3}))
    model.fit(ROWS, classes)
    again = xgboost.XGBClassifier()
    again.load_model(tmp_path / xgboost_files(tmp_path, model)[0])
    servable = load(tmp_path, model)
    np.testing.assert_array_equal(ask(servable), again.predict(ROWS))
    np.testing.assert_allclose(ask(servable, output="predict_proba"), again.predict_proba(ROWS), rtol=1e-6)
    width = 2 if classes is HALVES else 3
    assert servable.signature.outputs[1].shape == (-1, width)


def test_several_labels_at_once(tmp_path: Path) -> None:
    labels = np.stack([HALVES, 1 - HALVES, THIRDS > 1], axis=1)
    model = xgb("Classifier").fit(ROWS, labels)
    servable = load(tmp_path, model)
    np.testing.assert_array_equal(ask(servable), model.predict(ROWS))
    check_same(ask(servable, output="predict_proba"), model.predict_proba(ROWS))


@pytest.mark.parametrize(
    ("parameters", "target"),
    [
        ({"objective": "binary:logistic"}, HALVES),
        ({"objective": "multi:softprob", "num_class": 3}, THIRDS),
        ({"objective": "multi:softmax", "num_class": 3}, THIRDS),
        ({"objective": "count:poisson"}, THIRDS),
        ({"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.3}, SUMS),
        ({"objective": "reg:squarederror", "booster": "gblinear"}, SUMS),
    ],
)
def test_a_booster_gives_what_its_objective_makes_of_it(
    tmp_path: Path, parameters: dict[str, Any], target: np.ndarray
) -> None:
    rows = np.nan_to_num(ROWS)
    booster = xgboost.train({"nthread": 1} | parameters, xgboost.DMatrix(rows, target), num_boost_round=8)
    servable = load(tmp_path, booster)
    # Read again: a booster that was just trained remembers sums that it made in another order.
    again = xgboost.Booster(model_file=tmp_path / "model.ubj")
    # Dropped trees are weighed in another order for a matrix.
    rtol = 1e-5 if parameters.get("booster") == "dart" else 0
    np.testing.assert_allclose(ask(servable, rows), again.predict(xgboost.DMatrix(rows)), rtol=rtol)
    assert [spec.name for spec in servable.signature.outputs] == ["predict"]


def test_the_best_iteration_counts(tmp_path: Path) -> None:
    model = xgb(n_estimators=200, learning_rate=0.9, early_stopping_rounds=3)
    model.fit(ROWS[:50], SUMS[:50], eval_set=[(ROWS[50:], SUMS[50:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    check_same(ask(load(tmp_path, model)), model.predict(ROWS))


def test_columns_by_name_in_any_order(tmp_path: Path) -> None:
    names = ["area", "rooms", "floor", "age"]
    booster = xgboost.train(
        {"nthread": 1}, xgboost.DMatrix(ROWS, SUMS, feature_names=names), num_boost_round=5
    )
    servable = load(tmp_path, booster)
    columns = {name: ROWS[:, index] for index, name in reversed(list(enumerate(names)))}
    found = servable.infer(InferRequest(columns)).outputs["predict"]
    check_same(found, ask(servable))
    with pytest.raises(InvalidInputError, match="missing: area; unknown: ares"):
        servable.infer(InferRequest({"ares" if name == "area" else name: it for name, it in columns.items()}))


def test_linear_boosters_have_names_too(tmp_path: Path) -> None:
    names = ["area", "rooms", "floor", "age"]
    matrix = xgboost.DMatrix(np.nan_to_num(ROWS), SUMS, feature_names=names)
    booster = xgboost.train({"nthread": 1, "booster": "gblinear"}, matrix, num_boost_round=5)
    check_same(ask(load(tmp_path, booster), np.nan_to_num(ROWS)), booster.predict(matrix))


@pytest.mark.parametrize("kind", ["f2", "f8", "i8", "u1", "?"])
def test_numbers_of_any_kind_as_xgboost_takes_them(tmp_path: Path, kind: str) -> None:
    model = xgb().fit(ROWS, SUMS)
    rows = np.abs(np.nan_to_num(ROWS)).astype(kind)
    check_same(ask(load(tmp_path, model), rows), model.predict(rows))


def test_rows_that_cannot_be_written_to(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows.flags.writeable = False
    servable = load(tmp_path, xgb().fit(ROWS, SUMS))
    check_same(ask(servable, rows), ask(servable))


def test_threads_are_an_option(tmp_path: Path) -> None:
    model = xgb().fit(ROWS, SUMS)
    files = xgboost_files(tmp_path, model)
    servable = XgboostRuntime().load(tmp_path, files, RuntimeOptions(values={"threads": 2}))
    check_same(ask(servable), model.predict(ROWS))
    for wrong in ({"threads": 0}, {"threads": "two"}, {"treads": 1}):
        with pytest.raises(LoadFailedError, match="options"):
            XgboostRuntime().load(tmp_path, files, RuntimeOptions(values=wrong))


def test_a_file_of_any_name_where_the_runtime_is_told(tmp_path: Path) -> None:
    model = xgb().fit(ROWS, SUMS)
    files = xgboost_files(tmp_path, model, "trees.json")
    assert not XgboostRuntime().detect(files)
    check_same(ask(XgboostRuntime().load(tmp_path, [*files, "README.md"])), model.predict(ROWS))


@pytest.mark.parametrize("content", [b"", b"\x00garbage", b'{"layers": []}', b"{}"])
def test_other_files_are_failed_loads(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(LoadFailedError, match=r"cannot load model\.json"):
        XgboostRuntime().load(tmp_path, ["model.json"])


@pytest.mark.parametrize("booster", ["gbtree", "gblinear"])
def test_many_threads_ask_at_once(tmp_path: Path, booster: str) -> None:
    rows = np.nan_to_num(ROWS)
    servable = load(tmp_path, xgb(booster=booster, max_depth=None).fit(rows, SUMS))
    expected = ask(servable, rows)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda row: ask(servable, rows[row : row + 1])[0], range(300)))
    np.testing.assert_array_equal(answers, expected)


def test_needs_no_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = xgb().fit(ROWS, SUMS)
    files = xgboost_files(tmp_path, model)
    monkeypatch.setattr(sys.modules["xgboost"], "XGBModel", None)
    check_same(ask(XgboostRuntime().load(tmp_path, files)), model.predict(ROWS))
    assert not XgboostRuntime().needs_pickle(tmp_path, files)
