"""A declared signature completes what the framework says, is checked in each request, and contradicts nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotset.errors import InvalidInputError, LoadFailedError, PredictFailedError
from hotset.payload import InferRequest, InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta
from hotset.runtimes.declaring import declare
from hotset.runtimes.modelyaml import DeclaredTensor as Tensor
from hotset.runtimes.modelyaml import ModelOptions

META = CallMeta("paris", 1)
ROWS = np.ones((2, 3), np.float32)

ANY = Signature("any", (TensorSpec("input-0", None, (-1, -1)),), (TensorSpec("predict", None, (-1,)), TensorSpec("more", None, (-1,))))  # fmt: skip
STRICT = Signature("strict", (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("k", "INT64", (1,))), (TensorSpec("y", "FP32", (-1,)),))  # fmt: skip
ONE = Signature("one", (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1,)),))


class Model:
    """Answers what it was asked, as arrays of the first input's rows."""

    rows_are_independent = True

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.asked: list[InferRequest] = []
        self.closed = 0

    def infer(self, request: InferRequest) -> InferResponse:
        self.asked.append(request)
        rows = len(next(iter(request.inputs.values())))
        wanted = request.outputs or (self.signature.outputs[0].name,)
        return InferResponse({name: np.zeros(rows, np.float32) for name in wanted})

    def close(self) -> None:
        self.closed += 1


def declared(
    signature: Signature, inputs: tuple[Tensor, ...] | None = None, outputs: tuple[Tensor, ...] | None = None
) -> tuple[Model, Any]:
    model = Model(signature)
    return model, declare(model, ModelOptions(inputs=inputs, outputs=outputs))


def test_without_a_declaration_the_servable_stays_itself() -> None:
    model, servable = declared(ANY)
    assert servable is model


def test_a_declaration_completes_what_the_framework_leaves_open() -> None:
    model, servable = declared(ANY, (Tensor("rows", "FP32", (-1, 3)),))
    assert servable.signature.inputs == (TensorSpec("rows", "FP32", (-1, 3)),)
    assert servable.signature.outputs == ANY.outputs
    assert servable.signature.platform == "any"
    assert servable.rows_are_independent
    assert servable.infer(InferRequest({"rows": ROWS})).outputs.keys() == {"predict", "more"}
    assert model.asked[0].inputs.keys() == {"input-0"}
    servable.close()
    assert model.closed == 1


def test_a_type_may_be_declared_of_what_has_no_shape_that_is_known() -> None:
    """A TorchScript module says neither."""
    unknown = Signature("one", (TensorSpec("x", None, ()),), (TensorSpec("y", None, ()),))
    _, servable = declared(unknown, (Tensor("x", "FP32"),), (Tensor("y", "FP32"),))
    assert servable.infer(InferRequest({"x": ROWS})).outputs["y"].shape == (2,)
    with pytest.raises(InvalidInputError, match="input 'x': expected FP32, found: FP64"):
        servable.infer(InferRequest({"x": ROWS.astype(np.float64)}))


def test_what_is_not_declared_is_the_frameworks() -> None:
    _, servable = declared(STRICT, (Tensor("x", shape=(2, 3)),))
    assert servable.signature.inputs == (TensorSpec("x", "FP32", (2, 3)), TensorSpec("k", "INT64", (1,)))


def test_columns_of_a_framework_that_takes_any_names() -> None:
    model, servable = declared(ANY, (Tensor("a", "FP64", (-1,)), Tensor("b")))
    assert servable.signature.inputs == (TensorSpec("a", "FP64", (-1,)), TensorSpec("b", None, (-1,)))
    servable.infer(InferRequest({"b": np.ones(2), "a": np.ones(2)}))
    assert model.asked[0].inputs.keys() == {"a", "b"}


def test_outputs_are_renamed_and_chosen() -> None:
    model, servable = declared(ONE, outputs=(Tensor("fare"),))
    assert servable.infer(InferRequest({"x": ROWS})).outputs.keys() == {"fare"}
    assert servable.infer(InferRequest({"x": ROWS}, ("fare",))).outputs.keys() == {"fare"}
    assert [asked.outputs for asked in model.asked] == [("y",), ("y",)]
    with pytest.raises(InvalidInputError, match="no output 'y'; this model has: fare"):
        servable.infer(InferRequest({"x": ROWS}, ("y",)))


def test_declared_outputs_are_all_answered_by_default() -> None:
    _, servable = declared(ANY, outputs=(Tensor("more"), Tensor("predict")))
    answer = servable.infer(InferRequest({"input-0": np.ones((1, 1))}))
    assert list(answer.outputs) == ["more", "predict"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"rows": ROWS.astype("f8")}, "input 'rows': expected FP32, found: FP64"),
        ({"rows": ROWS[:, :2]}, r"input 'rows': expected the shape \[-1, 3\], found: \[2, 2\]"),
        ({"rows": ROWS[0]}, r"input 'rows': expected the shape \[-1, 3\], found: \[3\]"),
        ({"rows": ROWS.astype(complex)}, "input 'rows': expected FP32, found: complex128"),
        ({"x": ROWS}, "input 'rows' is missing; found: x"),
        ({}, "input 'rows' is missing; found: no inputs"),
        ({"rows": ROWS, "x": ROWS}, "unknown input: x; this model has: rows"),
    ],
)
def test_a_request_is_checked_against_it(inputs: dict[str, np.ndarray], message: str) -> None:
    model, servable = declared(ANY, (Tensor("rows", "FP32", (-1, 3)),))
    with pytest.raises(InvalidInputError, match=message):
        servable.infer(InferRequest(inputs))
    assert not model.asked


def test_an_answer_that_is_not_as_declared_is_the_models_fault() -> None:
    _, servable = declared(ANY, outputs=(Tensor("predict", "FP64", (-1,)),))
    with pytest.raises(
        PredictFailedError, match=r"output 'predict' is not as model.yaml declares it: expected FP64"
    ):
        servable.infer(InferRequest({"input-0": ROWS}))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ((Tensor("z"), Tensor("k")), None, r"inputs\[0\].name: found 'z', expected one that the model has: x, k"),
        ((Tensor("x", "FP64"),), None, r"inputs\[0\].datatype: found FP64, expected FP32"),
        ((Tensor("x", shape=(-1, 4)),), None, r"inputs\[0\].shape: found \[-1, 4\], expected one that fits .* \[-1, 3\]"),
        ((Tensor("x", shape=(3,)),), None, r"inputs\[0\].shape: found \[3\]"),
        (None, (Tensor("y"), Tensor("z")), r"outputs\[1\].name: found 'z', expected one that the model has: y"),
        (None, (Tensor("fare", "INT64"),), r"outputs\[0\].datatype: found INT64, expected FP32"),
    ],
)  # fmt: skip
def test_a_contradiction_is_a_failed_load(inputs: Any, outputs: Any, message: str) -> None:
    with pytest.raises(LoadFailedError, match=message):
        declared(STRICT, inputs, outputs)


class Own:
    """As the user's own code: takes anything."""

    signature = Signature("python")
    wants = frozenset({"payload"})
    batches = True

    def predict(self, payload: Any, meta: CallMeta) -> Any:
        return payload

    def predict_batch(self, payloads: list[Any]) -> list[Any]:
        return payloads

    def close(self) -> None: ...


def test_own_code_shows_what_is_declared_and_gets_tensors_only_so() -> None:
    servable: Any = declare(Own(), ModelOptions(inputs=(Tensor("x", "FP32", (-1, 3)),)))
    assert servable.signature == Signature("python", (TensorSpec("x", "FP32", (-1, 3)),))
    assert (servable.wants, servable.batches) == (Own.wants, True)
    for payload in ({"x": ROWS}, {"km": 3}, [1], None, "text"):
        assert servable.predict(payload, META) is payload
        assert servable.predict_batch([payload]) == [payload]
    for ask in (lambda it: servable.predict(it, META), lambda it: servable.predict_batch([it])):
        with pytest.raises(InvalidInputError, match="input 'x': expected FP32, found: FP64"):
            ask({"x": ROWS.astype("f8")})
    servable.close()
