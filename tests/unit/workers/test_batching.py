"""Joining and parting are pure; together and alone must give the same answers, whatever is mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotset.codecs import registry as codecs
from hotset.errors import HotsetError, InvalidInputError, PredictFailedError
from hotset.payload import Encoded, InferRequest, InferResponse, Signature, TensorSpec
from hotset.runtimes.options import NO_OPTIONS
from hotset.workers.backlog import BATCH_S, unit_size
from hotset.workers.base import LoadSpec, PredictCall
from hotset.workers.batching import alike, can_batch, joined, parted, rows_of, same
from hotset.workers.host import Host
from hotset.workers.kit import Choice, Kit

ROWS = Signature("fake", (TensorSpec("x", None, (-1, -1)),), (TensorSpec("y", "FP64", (-1,)),))


def request(
    *shape: int, name: str = "x", dtype: Any = np.float64, outputs: tuple[str, ...] = ()
) -> InferRequest:
    return InferRequest({name: np.arange(np.prod(shape)).reshape(shape).astype(dtype)}, outputs)


class Sums:
    """Row sums; counts its predictions. ``wrong`` ones let rows see each other, ``flat`` give one answer for all."""

    def __init__(self, kind: str = "rows") -> None:
        self.kind = kind
        self.sizes: list[int] = []

    signature = ROWS
    rows_are_independent = True

    def infer(self, request: InferRequest) -> InferResponse:
        x = request.inputs["x"]
        self.sizes.append(len(x))
        if np.isnan(x).any():
            raise InvalidInputError("input 'x': found NaN")
        if self.kind == "flat":
            return InferResponse({"y": np.array([x.sum()])})
        total = x.sum(axis=1)
        return InferResponse({"y": np.cumsum(total) if self.kind == "wrong" else total})

    def close(self) -> None:
        return


class OneRuntime:
    name = "fake"
    extra = ""
    patterns = ("*",)
    size_factor = 1.0
    devices = ("cpu",)

    def __init__(self, servable: Any) -> None:
        self.servable = servable

    def detect(self, files: Any) -> bool:
        return True

    def needs_pickle(self, path: Path, files: Any) -> bool:
        return False

    def load(self, path: Path, files: Any, options: Any = NO_OPTIONS) -> Any:
        return self.servable

    def choice_for(self, spec: Any, files: Any) -> Any:
        return Choice(self, files)


def host_of(tmp_path: Path, servable: Any, max_batch: int = 64) -> Host:
    (tmp_path / "model").write_text("x")
    host = Host(Kit(OneRuntime(servable), codecs.by_name), max_batch=max_batch)
    host.load(LoadSpec(1, "paris", 1, str(tmp_path)))
    return host


def ask(*rows: list[float]) -> PredictCall:
    return PredictCall(1, "native", json.dumps({"instances": list(rows)}).encode())


def answers(outcomes: list[Encoded | HotsetError]) -> list[Any]:
    return [json.loads(it.body)["predictions"] if isinstance(it, Encoded) else type(it) for it in outcomes]


def test_alike_are_joined_and_the_others_stand_alone():
    requests = [
        request(1, 3), request(2, 3), request(1, 4), request(1, 3, name="z"), request(1, 3, dtype=np.float32),
        request(1, 3, outputs=("y",)), InferRequest({}), InferRequest({"x": np.float64(1.0).reshape(())}), request(1, 3),
    ]  # fmt: skip
    assert alike(requests, most_rows=64) == [[0, 1, 8], [2], [3], [4], [5], [6], [7]]


def test_a_group_has_no_more_rows_than_allowed_unless_one_request_has():
    requests = [request(3, 1), request(3, 1), request(3, 1), request(20, 1), request(1, 1)]
    assert alike(requests, most_rows=6) == [[0, 1], [2], [3], [4]]


def test_inputs_of_different_lengths_have_no_rows():
    assert rows_of(InferRequest({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))})) is None
    assert rows_of(InferRequest({"a": np.zeros((2, 1)), "b": np.zeros((2, 5))})) == 2


def test_what_declares_a_fixed_first_dimension_is_not_batched():
    fixed = TensorSpec("x", None, (1, 3))
    assert can_batch(ROWS)
    assert not can_batch(Signature("fake", (fixed,), ROWS.outputs))
    assert not can_batch(Signature("fake", ROWS.inputs, (TensorSpec("y", None, ()),)))
    assert not can_batch(Signature("python"))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_parted_undoes_joined(sizes: list[int]):
    requests = [request(size, 3) for size in sizes]
    whole = joined(requests)
    responses = parted(InferResponse({"x": whole.inputs["x"]}), sizes)
    assert responses is not None
    for one, response in zip(requests, responses, strict=True):
        assert np.array_equal(response.outputs["x"], one.inputs["x"])
    assert parted(InferResponse({"x": np.zeros((sum(sizes) + 1, 2))}), sizes) is None


def test_same_allows_rounding_and_nothing_else():
    one = InferResponse({"y": np.array([1.0, np.nan])})
    assert same(one, InferResponse({"y": np.array([1.0 + 1e-9, np.nan])}))
    assert not same(one, InferResponse({"y": np.array([1.1, np.nan])}))
    assert not same(one, InferResponse({"z": np.array([1.0, np.nan])}))
    assert not same(one, InferResponse({"y": np.array([1.0])}))
    assert same(InferResponse({"y": np.array(["a"], object)}), InferResponse({"y": np.array(["a"], object)}))


def test_the_first_batch_is_compared_and_the_next_are_one_prediction(tmp_path: Path):
    model = Sums()
    host = host_of(tmp_path, model)
    calls = [ask([1, 2]), ask([3, 4], [5, 6]), ask([7, 8])]
    for sizes in ([4, 1, 2, 1], [4]):
        assert answers(host.predict_all(calls)) == [[3], [7, 11], [15]]
        assert model.sizes == sizes
        model.sizes.clear()


def unload(host: Host) -> None:
    host.retire(1, lambda held: host.release(held) if held is not None else None)


def test_what_a_batch_has_shown_is_known_when_the_version_comes_back(tmp_path: Path):
    calls = [ask([1, 2]), ask([3, 4])]
    for kind, sizes in (("", [2]), ("wrong", [1, 1])):
        model = Sums(kind) if kind else Sums()
        host = host_of(tmp_path, model)
        host.predict_all(calls)
        unload(host)
        model.sizes.clear()
        host.load(LoadSpec(2, "paris", 1, str(tmp_path)))
        for call in calls:
            call.handle = 2
        host.predict_all(calls)
        assert model.sizes == sizes
        for call in calls:
            call.handle = 1


@pytest.mark.parametrize("kind", ["wrong", "flat"])
def test_a_model_whose_rows_see_each_other_is_never_batched(tmp_path: Path, kind: str):
    alone = host_of(tmp_path, Sums(kind), max_batch=1)
    host = host_of(tmp_path, model := Sums(kind))
    calls = [ask([1, 2]), ask([3, 4]), ask([5, 6])]
    for _ in range(3):
        assert answers(host.predict_all(calls)) == answers(alone.predict_all(calls))
    assert host.batch(1) == 1
    assert max(model.sizes[4:], default=1) == 1


def test_a_call_that_fails_the_batch_fails_alone(tmp_path: Path):
    host = host_of(tmp_path, Sums())
    bad = [
        PredictCall(1, "native", b"no json"),
        PredictCall(1, "native", b'{"instances": [[1, null]]}'),
        ask([1, 2, 3], [4, 5, 6]),
    ]
    for _ in range(2):
        outcomes = host.predict_all([ask([1, 2]), *bad, ask([3, 4])])
        assert answers(outcomes) == [[3], InvalidInputError, InvalidInputError, [6, 15], [7]]


def test_equal_rows_prove_nothing(tmp_path: Path):
    host = host_of(tmp_path, model := Sums("wrong"))
    host.predict_all([ask([0, 0]), ask([0, 0])])
    assert model.sizes == [2, 1, 1]
    assert answers(host.predict_all([ask([1, 2]), ask([3, 4])])) == [[3], [7]]
    assert host.batch(1) == 1


def test_only_what_is_known_to_treat_rows_alone_is_batched(tmp_path: Path):
    model = Sums()
    model.rows_are_independent = False  # type: ignore[misc]
    assert host_of(tmp_path, model).batch(1) == 1


class Doubles:
    """The user's code with ``predict_batch``."""

    signature = Signature("python")
    wants = frozenset({"payload"})
    batches = True

    def __init__(self) -> None:
        self.batched: list[list[Any]] = []

    def predict(self, payload: Any, meta: Any) -> Any:
        if payload == "bad":
            raise PredictFailedError("ValueError: bad")
        return payload * 2

    def predict_batch(self, payloads: list[Any]) -> list[Any]:
        self.batched.append(payloads)
        if "bad" in payloads:
            raise PredictFailedError("ValueError: bad")
        return [payload * 2 for payload in payloads]

    def close(self) -> None:
        return


def test_payloads_go_to_predict_batch_and_fail_alone(tmp_path: Path):
    host = host_of(tmp_path, model := Doubles())
    calls = [PredictCall(1, "native", json.dumps(it).encode()) for it in (1, 2, 3)]
    bodies = [it.body for it in host.predict_all(calls) if isinstance(it, Encoded)]
    assert bodies == [b"2", b"4", b"6"]
    assert model.batched == [[1, 2, 3]]
    mixed = host.predict_all([*calls, PredictCall(1, "native", b'"bad"')])
    assert [type(it) for it in mixed] == [Encoded, Encoded, Encoded, PredictFailedError]


def test_a_predict_batch_that_loses_results_is_told_of_and_not_called_again(tmp_path: Path, caplog: Any):
    """Regression: it was called for every batch, and each time all were predicted alone in silence."""
    model = Doubles()
    model.predict_batch = lambda payloads: [payloads[0]]  # type: ignore[method-assign]
    host = host_of(tmp_path, model)
    calls = [PredictCall(1, "native", json.dumps(it).encode()) for it in (1, 2, 3)]
    assert [it.body for it in host.predict_all(calls) if isinstance(it, Encoded)] == [b"2", b"4", b"6"]
    assert "returned 1 results for 3 payloads" in caplog.text
    assert host.batch(1) == 1


def test_a_unit_of_a_batchable_model_grows_as_its_pace_falls():
    assert unit_size(100, threads=1, pace_s=1.0, batch=64) == 2
    assert unit_size(100, threads=1, pace_s=BATCH_S / 10, batch=64) == 10
    assert unit_size(100, threads=4, pace_s=1e-6, batch=64) == 64
    assert unit_size(3, threads=4, pace_s=1e-6, batch=64) == 3
    assert unit_size(100, threads=1, pace_s=0.0, batch=64) == 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=3), min_size=1, max_size=3),
        min_size=2,
        max_size=6,
    )
)
def test_together_is_as_alone(tmp_path_factory: pytest.TempPathFactory, bodies: list[list[list[float]]]):
    path = tmp_path_factory.mktemp("models")
    together, alone = host_of(path, Sums()), host_of(path, Sums(), max_batch=1)
    calls = [ask(*rows) for rows in bodies]
    together.predict_all([ask([1, 2]), ask([3, 4])])
    assert answers(together.predict_all(calls)) == answers(alone.predict_all(calls))
