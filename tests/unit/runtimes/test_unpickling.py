"""Each kind of file gives the same object as joblib does, by its fastest way; what is mapped is known and let go."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from hotset.runtimes import unpickling
from hotset.runtimes.mapped import mapped_bytes
from hotset.runtimes.unpickling import LEAST_MAPPED_BYTES, unpickle

LARGE = LEAST_MAPPED_BYTES // 8 + 1000


@pytest.fixture(autouse=True)
def nothing_stays_mapped() -> Iterator[None]:
    before = mapped_bytes()
    yield
    gc.collect()
    assert mapped_bytes() == before


def model() -> dict[str, Any]:
    return {
        "small": np.arange(10.0),
        "large": np.arange(float(LARGE)),
        "fortran": np.asfortranarray(np.arange(2.0 * LARGE).reshape(2, LARGE)),
        "cube": np.arange(LARGE * 3, dtype=np.int32).reshape(LARGE, 1, 3),
        "records": np.zeros(LARGE, dtype=[("a", "f8"), ("b", "i4")]),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "foreign": np.arange(float(LARGE)).astype(">f8"),
        "empty": np.empty((0, 5)),
        "scalar": np.array(3.5),
        "text": "words",
    }


LARGE_ONES = ("large", "fortran", "cube", "records")


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert type(found[name]) is type(value), name
        np.testing.assert_array_equal(found[name], value)
        if isinstance(value, np.ndarray):
            assert found[name].shape == value.shape
            assert found[name].flags.writeable
            assert found[name].flags.f_contiguous == value.flags.f_contiguous


def write(path: Path, value: Any, how: str) -> Path:
    if how.startswith("joblib"):
        joblib.dump(value, path, compress=3 if how == "joblib compressed" else 0)
    else:
        path.write_bytes(pickle.dumps(value, protocol=int(how[-1])))
    return path


KINDS = ("joblib", "joblib compressed", "pickle 0", "pickle 2", "pickle 4", "pickle 5")


@pytest.mark.parametrize("how", KINDS)
def test_every_kind_of_file_gives_the_object(tmp_path: Path, how: str) -> None:
    found = unpickle(write(tmp_path / "model", model(), how))
    assert_same(found, model())


def test_large_arrays_of_an_uncompressed_joblib_file_are_mapped_and_others_read(tmp_path: Path) -> None:
    before = mapped_bytes()
    found = unpickle(write(tmp_path / "model.joblib", model(), "joblib"))
    expected = sum(found[name].nbytes for name in LARGE_ONES)
    assert mapped_bytes() - before == expected
    mappings = Path("/proc/self/maps").read_text().count(str(tmp_path / "model.joblib"))
    assert mappings == 1


@pytest.mark.parametrize("how", [kind for kind in KINDS if kind != "joblib"])
def test_other_files_are_read(tmp_path: Path, how: str) -> None:
    before = mapped_bytes()
    found = unpickle(write(tmp_path / "model", model(), how))
    assert mapped_bytes() == before
    del found


def test_what_is_written_to_an_array_stays_in_this_process(tmp_path: Path) -> None:
    path = write(tmp_path / "model.joblib", model(), "joblib")
    found = unpickle(path)
    found["large"][:] = 0
    assert not found["large"].any()
    assert_same(unpickle(path), model())


def test_a_file_that_is_deleted_stays_readable(tmp_path: Path) -> None:
    path = write(tmp_path / "model.joblib", model(), "joblib")
    found = unpickle(path)
    path.unlink()
    assert_same(found, model())


def test_one_array_that_is_kept_keeps_the_mapping(tmp_path: Path) -> None:
    before = mapped_bytes()
    found = unpickle(write(tmp_path / "model.joblib", model(), "joblib"))
    kept = found["large"][5:10]
    del found
    assert mapped_bytes() > before
    np.testing.assert_array_equal(kept, np.arange(5.0, 10.0))


def test_joblibs_class_far_behind_the_beginning_is_found(tmp_path: Path) -> None:
    value = {"first": [str(number) for number in range(20_000)], "large": np.arange(float(LARGE))}
    path = write(tmp_path / "model.joblib", value, "joblib")
    assert path.read_bytes().index(b"NumpyArrayWrapper") > 1 << 16
    found = unpickle(path)
    assert found["first"] == value["first"]
    np.testing.assert_array_equal(found["large"], value["large"])
    assert mapped_bytes() > 0


def test_an_array_at_the_top_and_twice(tmp_path: Path) -> None:
    array = np.arange(float(LARGE))
    found = unpickle(write(tmp_path / "top.joblib", array, "joblib"))
    np.testing.assert_array_equal(found, array)
    first, second = unpickle(write(tmp_path / "twice.joblib", (array, array), "joblib"))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("how", ["joblib", "pickle 5"])
def test_a_file_that_was_cut_off_is_an_error(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "model", {"large": np.arange(float(LARGE))}, how)
    path.write_bytes(path.read_bytes()[: LARGE * 4])
    with pytest.raises((ValueError, EOFError, TypeError, pickle.UnpicklingError)):
        unpickle(path)


def test_where_joblib_is_not_as_it_was_it_loads_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = mapped_bytes()
    monkeypatch.setattr(unpickling, "_mapping_unpickler", lambda: None)
    found = unpickle(write(tmp_path / "model.joblib", model(), "joblib"))
    assert mapped_bytes() == before
    np.testing.assert_array_equal(found["large"], model()["large"])
