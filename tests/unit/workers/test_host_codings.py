"""Compressed calls in the host: unpacked within the limit, one by one, and answered as the client asks."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotset.codecs import registry as codecs
from hotset.errors import HotsetError
from hotset.payload import Encoded, InferRequest, InferResponse, Signature, TensorSpec
from hotset.workers.base import LoadSpec, PredictCall
from hotset.workers.host import Host
from hotset.workers.kit import Kit
from hotset.workers.question import Outcome
from hotset.workers.standard import OneRuntime

LIMIT = 4000


class Doubles:
    """Twice its input; notes how many rows it got at once."""

    signature = Signature("fake", (TensorSpec("x", "FP64", (-1,)),), (TensorSpec("y", "FP64", (-1,)),))
    rows_are_independent = True

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def infer(self, request: InferRequest) -> InferResponse:
        self.sizes.append(len(request.inputs["x"]))
        return InferResponse({"y": request.inputs["x"] * 2})

    def close(self) -> None:
        return


class Fake:
    """A runtime that has loaded already."""

    name = "fake"
    size_factor = 1.0
    extra = ""
    patterns = ("*",)
    devices = ("cpu",)

    def __init__(self, servable: Any) -> None:
        self._servable = servable

    def detect(self, *_: Any) -> bool:
        return True

    def needs_pickle(self, *_: Any) -> bool:
        return False

    def load(self, *_: Any) -> Any:
        return self._servable


@pytest.fixture(name="model")
def _model() -> Doubles:
    return Doubles()


@pytest.fixture(name="host")
def _host(tmp_path: Path, model: Doubles) -> Host:
    host = Host(Kit(OneRuntime(Fake(model)), codecs.by_name), max_batch=64, max_body_bytes=LIMIT)
    (tmp_path / "model").write_bytes(b"")
    host.load(LoadSpec(1, "paris", 1, str(tmp_path)))
    return host


def call_of(values: list[float], *headers: tuple[str, str], codec: str = "native") -> PredictCall:
    body = json.dumps({"inputs": {"x": values}}).encode()
    if ("content-encoding", "gzip") in headers:
        body = gzip.compress(body)
    return PredictCall(1, codec, body, headers=headers)


GZIP = ("content-encoding", "gzip")
WISH = ("accept-encoding", "gzip")


def values_of(outcome: Outcome) -> Any:
    assert isinstance(outcome, Encoded), outcome
    packed = ("content-encoding", "gzip") in outcome.headers
    return json.loads(gzip.decompress(outcome.body) if packed else bytes(outcome.body))["outputs"]


def test_alone(host: Host) -> None:
    assert values_of(host.predict(call_of([1.5], GZIP))) == [3.0]
    assert values_of(host.predict(call_of([1.5], WISH))) == [3.0]
    long = host.predict(call_of([1.5] * 500, GZIP, WISH))
    assert ("content-encoding", "gzip") in long.headers
    assert values_of(long) == [3.0] * 500


def test_beside_others_each_gets_its_own(host: Host, model: Doubles) -> None:
    plain = [call_of([float(value)]) for value in range(4)]
    calls = [call_of([7.0], GZIP), *plain, call_of([8.0] * 500, WISH), call_of([9.0], GZIP, WISH)]
    for _ in range(3):
        found = [values_of(outcome) for outcome in host.predict_all(calls)]
        assert found == [[14.0], [0.0], [2.0], [4.0], [6.0], [16.0] * 500, [18.0]]
    assert max(model.sizes[-3:]) > 4  # what is not compressed was still joined


def test_what_is_too_large_or_damaged_is_its_own_fault(host: Host) -> None:
    bomb = PredictCall(1, "native", gzip.compress(bytes(LIMIT + 1)), headers=(GZIP,))
    torn = PredictCall(1, "native", gzip.compress(b"{}")[:-3], headers=(GZIP,))
    outcomes = host.predict_all([bomb, call_of([1.0]), torn, call_of([2.0])])
    assert "more than 4000 bytes" in str(outcomes[0])
    assert "cut short" in str(outcomes[2])
    assert all(isinstance(outcomes[index], HotsetError) for index in (0, 2))
    assert [values_of(outcomes[index]) for index in (1, 3)] == [[2.0], [4.0]]


def test_what_was_unpacked_is_not_kept_for_the_others(host: Host) -> None:
    body = gzip.compress(json.dumps({"inputs": {"x": np.zeros(300).tolist()}}).encode())
    calls = [PredictCall(1, "native", body, headers=(GZIP,)) for _ in range(5)]
    host.predict_all(calls)
    assert all(call.body is body for call in calls)
