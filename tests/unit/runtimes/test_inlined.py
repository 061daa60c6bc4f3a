"""Files of joblib's read by the unpickler in C: the same objects, or left to joblib."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hotset.runtimes.inlined import UnsuitedError, read_inlined
from hotset.runtimes.unpickling import unpickle


def read_all(_: Mapping[str, Any]) -> None:
    return None


def loaded(path: Path) -> Any:
    return read_inlined(io.BytesIO(path.read_bytes()), read_all).build()


def dumped(path: Path, value: Any, protocol: int | None = None) -> Path:
    joblib.dump(value, path, protocol=protocol)
    return path


ARRAYS = {
    "rows": np.arange(12.0).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "scalar": np.array(7),
    "empty": np.zeros((0, 3)),
    "half": np.arange(5, dtype=np.float16),
    "text": np.array(["a", "bcd"]),
    "record": np.array([(1, 2.5)], dtype=[("x", "i4"), ("y", "f8")]),
    "time": np.array(["2026-01-01"], dtype="datetime64[D]"),
    "strided": np.arange(20)[::3],
    "complex": np.array([1 + 2j]),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_kind_of_array_is_what_joblib_makes_of_it(tmp_path: Path, protocol: int) -> None:
    path = dumped(tmp_path / "m", {"before": [1, ("x",)], **ARRAYS, "after": "end"}, protocol)
    ours, theirs = unpickle(path) if protocol < 4 else loaded(path), joblib.load(path)
    assert list(ours) == list(theirs)
    for name in ARRAYS:
        assert type(ours[name]) is np.ndarray
        assert ours[name].dtype == theirs[name].dtype
        assert ours[name].shape == theirs[name].shape
        assert ours[name].flags.f_contiguous == theirs[name].flags.f_contiguous
        assert ours[name].flags.writeable
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert (ours["before"], ours["after"]) == ([1, ("x",)], "end")


def test_estimators_predict_as_those_that_joblib_loads(tmp_path: Path) -> None:
    rows, classes = make_classification(200, 6, random_state=1)
    for number, model in enumerate(
        (
            LogisticRegression(),
            RandomForestClassifier(12, random_state=1),
            GradientBoostingClassifier(n_estimators=5, random_state=1),
            KNeighborsClassifier(algorithm="kd_tree"),
            make_pipeline(StandardScaler(), LogisticRegression()),
        )
    ):
        path = dumped(tmp_path / f"m{number}", model.fit(rows, classes))
        np.testing.assert_array_equal(
            unpickle(path).predict_proba(rows), joblib.load(path).predict_proba(rows)
        )


def test_arrays_of_objects_are_left_to_joblib(tmp_path: Path) -> None:
    rows, classes = make_classification(50, 6, random_state=1)
    model = GradientBoostingClassifier(n_estimators=2, random_state=1).fit(rows, classes)
    with pytest.raises(UnsuitedError):
        loaded(dumped(tmp_path / "m", model))


def test_a_model_of_words(tmp_path: Path) -> None:
    texts = ["one two three", "two three", "four"]
    path = dumped(tmp_path / "m", TfidfVectorizer().fit(texts))
    np.testing.assert_array_equal(
        loaded(path).transform(texts).toarray(), joblib.load(path).transform(texts).toarray()
    )


class Counted:
    """An object that sees how often it is made."""

    made = 0

    def __init__(self) -> None:
        self.array = np.arange(3)

    def __setstate__(self, state: dict[str, Any]) -> None:
        Counted.made += 1
        self.__dict__.update(state)


def test_code_of_the_models_runs_once(tmp_path: Path) -> None:
    path = dumped(tmp_path / "m", [Counted(), Counted()])
    Counted.made = 0
    assert [list(it.array) for it in loaded(path)] == [[0, 1, 2], [0, 1, 2]]
    assert Counted.made == 2


def fail() -> None:
    raise ZeroDivisionError("the model's own")


class Failing:
    def __reduce__(self) -> Any:
        return fail, ()


def test_what_the_models_code_raises_is_told(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="the model's own"):
        unpickle(dumped(tmp_path / "m", [np.arange(3), Failing()]))


@pytest.mark.parametrize(
    "value",
    [
        np.array([{"an": "object"}], dtype=object),
        np.arange(3).astype(">i4"),
        np.matrix([[1, 2]]),
        np.ma.masked_array([1, 2], [0, 1]),
    ],
    ids=["objects", "foreign order", "matrix", "masked"],
)
def test_what_is_not_plain_is_left_to_joblib(tmp_path: Path, value: Any) -> None:
    path = dumped(tmp_path / "m", {"value": value, "plain": np.arange(4)})
    try:
        found = loaded(path)
    except UnsuitedError:
        found = unpickle(path)
    theirs = joblib.load(path)
    assert type(found["value"]) is type(theirs["value"])
    assert found["value"].dtype == theirs["value"].dtype
    assert found["value"].tolist() == theirs["value"].tolist()
    np.testing.assert_array_equal(found["plain"], theirs["plain"])


def test_cut_short_anywhere_it_is_refused(tmp_path: Path) -> None:
    whole = dumped(tmp_path / "m", {"a": np.arange(30), "b": np.arange(4.0)}).read_bytes()
    for end in range(len(whole)):
        with pytest.raises(UnsuitedError):
            read_inlined(io.BytesIO(whole[:end]), read_all)


def test_what_only_says_that_it_is_joblibs_is_refused() -> None:
    data = pickle.dumps(joblib.numpy_pickle.NumpyArrayWrapper(np.ndarray, (3,), "C", np.dtype("i8")))
    with pytest.raises(UnsuitedError):
        read_inlined(io.BytesIO(data), read_all)


def test_large_files_are_read_from_the_file_itself(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(number).normal(size=(2000, 8)) for number in range(4)]
    path = dumped(tmp_path / "m", {"small": arrays, "large": np.arange(400_000)})
    found = unpickle(path)
    for ours, theirs in zip(found["small"], arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(found["large"], np.arange(400_000))
    assert not found["large"].flags.owndata, "it is mapped"
