"""A kit without files or frameworks, for tests of the threads above a host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hotset.codecs.base import Codec
from hotset.payload import Encoded, InferRequest, InferResponse, Signature
from hotset.runtimes.base import CallMeta, Recipe, Runtime, Servable
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.workers.base import LoadSpec, PredictCall
from hotset.workers.kit import Choice, Kit


class RawCodec:
    """Bodies as they are."""

    name = "raw"

    def decode_tensors(self, body: bytes, meta: CallMeta, signature: Signature) -> InferRequest:
        return InferRequest({"x": np.frombuffer(body, np.uint8)})

    def encode_tensors(self, response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded:
        return Encoded(response.outputs["y"].tobytes(), "application/tensors")

    def decode_payload(self, body: bytes, meta: CallMeta) -> tuple[Any, InferRequest | None]:
        return body, None

    def encode_result(self, result: Any, request: InferRequest | None, meta: CallMeta) -> Encoded:
        return Encoded(result)


class FakePayloadServable:
    """Answers with what ``reply`` returns; counts how often it was closed."""

    signature = Signature("fake")
    wants = frozenset({"payload"})

    def __init__(self, reply: Callable[[bytes, CallMeta], bytes]) -> None:
        self.reply = reply
        self.closed = 0

    def predict(self, payload: bytes, meta: CallMeta) -> bytes:
        assert not self.closed
        return self.reply(payload, meta)

    def close(self) -> None:
        self.closed += 1


class FakeTensorServable:
    """``recipe`` is what it may be loaded again with; it gives it away."""

    signature = Signature("fake")

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe = recipe

    def take_recipe(self) -> Recipe | None:
        recipe, self.recipe = self.recipe, None
        return recipe

    def infer(self, request: InferRequest) -> InferResponse:
        return InferResponse({"y": request.inputs["x"][::-1]})

    def close(self) -> None: ...


class FakeRuntime:
    """Loads by calling ``make``."""

    name = "fake"
    extra = ""
    patterns = ("*",)
    size_factor = 2.0
    devices = ("cpu",)

    def __init__(self, make: Callable[[Path], Servable]) -> None:
        self.make = make

    def detect(self, files: Sequence[str]) -> bool:
        return True

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> Servable:
        return self.make(path)


class OneSource:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def choice_for(self, spec: LoadSpec, files: Sequence[str]) -> Choice:
        return Choice(self.runtime, files)


def fake_kit(make: Callable[[Path], Servable]) -> Kit:
    codec: Codec = RawCodec()
    return Kit(OneSource(FakeRuntime(make)), lambda _: codec)


def echo(payload: bytes, meta: CallMeta) -> bytes:
    return payload


def spec(path: Path, handle: int = 1) -> LoadSpec:
    return LoadSpec(handle, "paris", 7, str(path))


def raw_call(handle: int = 1, body: bytes = b"x", deadline_s: float = float("inf")) -> PredictCall:
    return PredictCall(handle, "raw", body, deadline_s=deadline_s)
