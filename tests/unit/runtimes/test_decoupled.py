"""What says of itself that it answers in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotset import Stream
from hotset.payload import Signature
from hotset.runtimes.declaring import declare
from hotset.runtimes.decoupled import answers_in_parts
from hotset.runtimes.modelyaml import DeclaredTensor, ModelOptions
from hotset.runtimes.predictor import PredictorRuntime


def generator(self: Any, payload: Any) -> Any:
    yield payload


async def asynchronous(self: Any, payload: Any) -> Any:
    yield payload


def annotated(self: Any, payload: Any) -> Iterator[Any]:
    return iter([payload])


def sometimes(self: Any, payload: Any) -> dict[str, int] | Generator[int]:
    return {}


def later(self: Any, payload: Any) -> AsyncIterator[int]:
    raise NotImplementedError


def stream(self: Any, payload: Any) -> Stream:
    return Stream([payload])


def whole(self: Any, payload: Any) -> list[int]:
    return []


def silent(self, payload):
    return payload


async def coroutine(self: Any, payload: Any) -> dict[str, Any]:
    return {}


def odd(self: Any, payload: Any) -> list[IteratorOfOurs]:  # noqa: F821 - annotations may name what is not there
    return []


@pytest.mark.parametrize("predict", [generator, asynchronous, annotated, sometimes, later, stream])
def test_who_answers_in_parts(predict: Callable[..., Any]) -> None:
    assert signature_of(predict) == Signature("python", decoupled=True)


@pytest.mark.parametrize("predict", [whole, silent, coroutine, odd, max])
def test_who_does_not_say_so(predict: Callable[..., Any]) -> None:
    assert not answers_in_parts(predict)
    if predict is not max:
        assert signature_of(predict) == Signature("python")


def test_a_class_in_an_annotation_is_as_good_as_its_name() -> None:
    def predict(payload: Any) -> Any:
        return payload

    predict.__annotations__["return"] = Stream
    assert answers_in_parts(predict)


def test_it_stays_where_inputs_are_declared() -> None:
    servable = runtime_of(generator).load(Path("/m"), [])
    options = ModelOptions(inputs=(DeclaredTensor("x", "FP32", (-1,)),))
    assert declare(servable, options).signature.decoupled


def runtime_of(predict: Callable[..., Any]) -> PredictorRuntime:
    members = {"load_model": lambda self, disk_path: disk_path, "predict": predict}
    return PredictorRuntime(type("Predictor", (), members)())


def signature_of(predict: Callable[..., Any]) -> Signature:
    return runtime_of(predict).load(Path("/m"), []).signature
