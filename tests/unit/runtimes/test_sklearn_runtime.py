"""scikit-learn: files, outputs, inputs."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from hotset.errors import ErrorKind, InvalidInputError, LoadFailedError, PredictFailedError
from hotset.payload import InferRequest
from hotset.runtimes.sklearn_runtime import SklearnRuntime, SklearnServable, servable_for
from hotset.runtimes.unpickling import MOST_KEPT_BYTES

ROWS = np.random.default_rng(7).normal(size=(40, 4))
LABELS = (ROWS.sum(axis=1) > 0).astype(int)


def load(tmp_path: Path, model: Any) -> SklearnServable:
    joblib.dump(model, tmp_path / "model.joblib")
    return SklearnRuntime().load(tmp_path, ["model.joblib"])


def ask(servable: SklearnServable, array: Any, *outputs: str, name: str = "x") -> dict[str, np.ndarray]:
    return servable.infer(InferRequest({name: np.asarray(array)}, outputs)).outputs


def test_a_classifier_has_predict_and_probabilities(tmp_path: Path) -> None:
    model = LogisticRegression().fit(ROWS, LABELS)
    servable = load(tmp_path, model)
    assert [spec.name for spec in servable.signature.outputs] == ["predict", "predict_proba", "classes"]
    assert servable.signature.inputs[0].shape == (-1, 4)
    assert servable.signature.outputs[1].shape == (-1, 2)
    assert list(ask(servable, ROWS)) == ["predict"]
    both = ask(servable, ROWS, "predict_proba", "predict")
    assert list(both) == ["predict_proba", "predict"]
    np.testing.assert_array_equal(both["predict_proba"], model.predict_proba(ROWS))
    np.testing.assert_array_equal(ask(servable, ROWS, "classes")["classes"], [[0, 1]] * len(ROWS))


def test_a_transformer_answers_transform(tmp_path: Path) -> None:
    scaler = StandardScaler().fit(ROWS)
    np.testing.assert_array_equal(ask(load(tmp_path, scaler), ROWS)["transform"], scaler.transform(ROWS))


def test_sparse_results_are_made_dense(tmp_path: Path) -> None:
    encoder = OneHotEncoder().fit([["a"], ["b"]])
    result = ask(load(tmp_path, encoder), np.array([["b"]], dtype=object))["transform"]
    assert result.tolist() == [[0.0, 1.0]]
    assert not isinstance(result, csr_matrix)


def test_probabilities_of_several_targets(tmp_path: Path) -> None:
    model = RandomForestClassifier(n_estimators=2, random_state=0).fit(
        ROWS, np.stack([LABELS, 1 - LABELS], axis=1)
    )
    outputs = ask(load(tmp_path, model), ROWS[:3], "predict_proba")
    assert {name: array.shape for name, array in outputs.items()} == {
        "predict_proba-0": (3, 2),
        "predict_proba-1": (3, 2),
    }


def test_a_text_model_takes_one_dimension(tmp_path: Path) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(
        ["good day", "bad day"], ["up", "down"]
    )
    servable = load(tmp_path, model)
    assert servable.signature.inputs[0].shape == (-1, -1)
    assert ask(servable, np.array(["good"], dtype=object))["predict"].tolist() == ["up"]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3)), "input 'x': expected 4 features, found: 3"),
        (np.zeros(4), r"input 'x': expected the shape \[-1, 4\], found: \[4\]"),
        (np.full((1, 4), np.nan), "refused the input: ValueError: .*NaN"),
        (np.array([["a", "b", "c", "d"]], dtype=object), "refused the input: ValueError: could not convert"),
        (np.zeros((0, 4)), "refused the input: ValueError: Found array with 0 sample"),
    ],
)
def test_wrong_inputs(tmp_path: Path, array: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        ask(load(tmp_path, LinearRegression().fit(ROWS, LABELS)), array)


def test_an_unknown_output_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no output 'predict_proba'; this model has: predict"):
        ask(load(tmp_path, LinearRegression().fit(ROWS, LABELS)), ROWS, "predict_proba")


@pytest.mark.parametrize("count", [0, 2])
def test_one_tensor_is_expected(tmp_path: Path, count: int) -> None:
    servable = load(tmp_path, LinearRegression().fit(ROWS, LABELS))
    with pytest.raises(InvalidInputError, match=f"expected one input tensor, found {count}"):
        servable.infer(InferRequest({f"x{index}": ROWS for index in range(count)}))


@pytest.fixture
def named(tmp_path: Path) -> SklearnServable:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [1.0, 2.0, 3.0], "rent": [10.0, 30.0, 20.0]})
    return load(tmp_path, LinearRegression().fit(frame, [11.0, 32.0, 23.0]))


def test_named_columns_in_any_order(named: SklearnServable) -> None:
    outputs = named.infer(
        InferRequest({"rent": np.array([5.0, 6.0]), "age": np.array([[1.0], [2.0]])})
    ).outputs
    np.testing.assert_allclose(outputs["predict"], [6.0, 8.0])


def test_wrong_columns_are_named(named: SklearnServable) -> None:
    with pytest.raises(InvalidInputError, match="missing: rent; unknown: rant"):
        named.infer(InferRequest({"age": np.zeros(2), "rant": np.zeros(2)}))


def test_columns_of_different_lengths(named: SklearnServable) -> None:
    with pytest.raises(InvalidInputError, match="the columns differ in length"):
        named.infer(InferRequest({"age": np.zeros(2), "rent": np.zeros(3)}))


def test_a_column_that_is_a_table(named: SklearnServable) -> None:
    with pytest.raises(InvalidInputError, match="input 'rent': expected a column"):
        named.infer(InferRequest({"age": np.zeros(2), "rent": np.zeros((2, 2))}))


class Raises(BaseEstimator):
    """Unpickled by name from this module."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def predict(self, rows):
        raise self.error


def test_a_model_that_breaks_is_not_the_clients_fault() -> None:
    servable = servable_for(Raises(KeyError("gone")), "model.pkl")
    with pytest.raises(PredictFailedError, match="KeyError: 'gone'"):
        ask(servable, ROWS)


def test_out_of_memory_passes() -> None:
    servable = servable_for(Raises(MemoryError()), "model.pkl")
    with pytest.raises(MemoryError):
        ask(servable, ROWS)


class OutOfMemory:
    def __reduce__(self):
        return (_exhaust, ())


def _exhaust() -> None:
    raise MemoryError


class TestFiles:
    def test_pickle(self, tmp_path: Path) -> None:
        model = LinearRegression().fit(ROWS, LABELS)
        (tmp_path / "city.pkl").write_bytes(pickle.dumps(model))
        servable = SklearnRuntime().load(tmp_path, ["city.pkl", "metrics.json"])
        np.testing.assert_array_equal(ask(servable, ROWS)["predict"], model.predict(ROWS))

    @pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04cnowhere_to_be_found\nThing\n."])
    def test_corrupt(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "model.joblib").write_bytes(content)
        with pytest.raises(LoadFailedError, match=r"cannot unpickle model\.joblib: \w+"):
            SklearnRuntime().load(tmp_path, ["model.joblib"])
        assert gc.isenabled()

    def test_truncated(self, tmp_path: Path) -> None:
        joblib.dump(LinearRegression().fit(ROWS, LABELS), tmp_path / "model.joblib")
        content = (tmp_path / "model.joblib").read_bytes()
        (tmp_path / "model.joblib").write_bytes(content[: len(content) // 2])
        with pytest.raises(LoadFailedError, match=r"cannot unpickle model\.joblib"):
            SklearnRuntime().load(tmp_path, ["model.joblib"])

    def test_not_an_estimator(self, tmp_path: Path) -> None:
        joblib.dump({"a": 1}, tmp_path / "model.joblib")
        with pytest.raises(LoadFailedError, match=r"expected an estimator .*model\.joblib, found: dict"):
            SklearnRuntime().load(tmp_path, ["model.joblib"])

    def test_out_of_memory_keeps_its_kind(self, tmp_path: Path) -> None:
        (tmp_path / "model.pkl").write_bytes(pickle.dumps(OutOfMemory()))
        with pytest.raises(LoadFailedError) as caught:
            SklearnRuntime().load(tmp_path, ["model.pkl"])
        assert caught.value.kind is ErrorKind.OUT_OF_MEMORY


SMALL = {
    "linear": LinearRegression().fit(ROWS, ROWS @ [1.0, 2.0, 3.0, 4.0]),
    "classifier": LogisticRegression().fit(ROWS, LABELS),
    "scaler": StandardScaler().fit(ROWS),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS),
    "fortran": LinearRegression().fit(ROWS, np.asfortranarray(ROWS[:, :2] * 3.0)),
}


@pytest.mark.parametrize("how", ["joblib", "pickle"])
@pytest.mark.parametrize("name", SMALL)
def test_a_small_one_is_built_again_without_its_file(tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / f"model.{how if how == 'joblib' else 'pkl'}"
    joblib.dump(SMALL[name], path) if how == "joblib" else path.write_bytes(pickle.dumps(SMALL[name]))
    first = SklearnRuntime().load(tmp_path, [path.name])
    path.unlink()
    recipe = first.take_recipe()
    assert recipe is not None
    assert first.take_recipe() is None, "it is kept in one place"
    assert 0 < recipe.bytes <= MOST_KEPT_BYTES
    names = [spec.name for spec in first.signature.outputs]
    for again in (recipe.load(), recipe.load()):
        assert again.signature == first.signature
        assert again.rows_are_independent == first.rows_are_independent
        assert again.take_recipe() is None
        for output, expected in ask(first, ROWS, *names).items():
            np.testing.assert_array_equal(ask(again, ROWS, output)[output], expected)


def test_what_one_does_to_its_arrays_no_other_has(tmp_path: Path) -> None:
    joblib.dump(Writes(), tmp_path / "model.joblib")
    first = SklearnRuntime().load(tmp_path, ["model.joblib"])
    recipe = first.take_recipe()
    assert recipe is not None
    second, third = recipe.load(), recipe.load()
    for servable in (first, second, third, recipe.load()):
        assert ask(servable, np.zeros((2, 1)))["predict"].tolist() == [1.0, 1.0]
        assert ask(servable, np.zeros((2, 1)))["predict"].tolist() == [2.0, 2.0]


class Writes:
    """Counts its predictions, in an array that came with the file."""

    def __init__(self) -> None:
        self.state = np.zeros(1)

    def predict(self, rows):
        self.state += 1.0
        return np.full(len(rows), self.state[0])


def test_a_large_one_has_to_be_read(tmp_path: Path) -> None:
    model = LinearRegression().fit(ROWS, ROWS @ [1.0, 2.0, 3.0, 4.0])
    model.note_ = "x" * MOST_KEPT_BYTES
    assert load(tmp_path, model).take_recipe() is None
    model.note_ = ""
    joblib.dump(model, tmp_path / "model.joblib", compress=3)
    assert SklearnRuntime().load(tmp_path, ["model.joblib"]).take_recipe() is None
