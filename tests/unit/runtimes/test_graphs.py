"""What a model declares against what a request brings, and what its framework raises; no framework needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import Array, InferRequest, Signature, TensorSpec
from hotset.runtimes.graphs import GraphServable, as_bytes, fitting, shape_of

ROWS = np.ones((3, 2), np.float32)
SPECS = (TensorSpec("rows", "FP32", (-1, 2)), TensorSpec("word", "BYTES", ()), TensorSpec("any", None, ()))
RIGHT = {"rows": ROWS, "word": np.array("oslo", object), "any": np.arange(2)}


class RefusedError(Exception):
    pass


class FullError(Exception):
    pass


def servable(raised: Exception | None = None, *, outputs: tuple[str, ...] = ("sum", "size")) -> GraphServable:
    def answer(inputs: dict[str, Array]) -> dict[str, Array]:
        if raised is not None:
            raise raised
        return {"sum": inputs["rows"].sum(axis=1), "size": np.array(inputs["rows"].size)}

    return GraphServable(
        Signature("graph", SPECS[:1], tuple(TensorSpec(name, None, ()) for name in outputs)),
        answer,
        model=object(),
        refusals=(RefusedError,),
        no_memory=(FullError,),
    )


def test_inputs_come_in_the_order_declared_with_text_as_bytes() -> None:
    found = fitting(SPECS, dict(reversed(RIGHT.items())), unranked={"any"})
    assert list(found) == ["rows", "word", "any"]
    assert found["rows"] is ROWS
    assert found["word"].item() == b"oslo"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": None}, "input 'rows' is missing; found: word, any"),
        ({"more": ROWS}, "unknown input: more; this model has: rows, word, any"),
        ({"rows": ROWS.astype(np.float64)}, "input 'rows': expected FP32, found: FP64"),
        ({"rows": ROWS[0]}, r"input 'rows': expected the shape \[-1, 2\], found: \[2\]"),
        ({"rows": ROWS[:, :1]}, r"input 'rows': expected the shape \[-1, 2\], found: \[3, 1\]"),
        ({"word": np.array(["oslo"])}, r"input 'word': expected the shape \[\], found: \[1\]"),
        ({"any": np.ones(2, complex)}, "input 'any': no Open Inference type"),
    ],
)
def test_a_wrong_input_is_named(change: dict[str, Any], says: str) -> None:
    inputs = {name: array for name, array in (RIGHT | change).items() if array is not None}
    with pytest.raises(InvalidInputError, match=says):
        fitting(SPECS, inputs, unranked={"any"})


def test_all_outputs_or_those_asked_for() -> None:
    assert list(servable().infer(InferRequest({"rows": ROWS})).outputs) == ["sum", "size"]
    assert list(servable().infer(InferRequest({"rows": ROWS}, ("size",))).outputs) == ["size"]


@pytest.mark.parametrize("outputs", [("sum", "size"), ()])
def test_an_unknown_output_is_named_whether_they_were_declared_or_not(outputs: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match="no output 'mean'; this model has: sum, size"):
        servable(outputs=outputs).infer(InferRequest({"rows": ROWS}, ("mean",)))


@pytest.mark.parametrize(
    ("raised", "expected", "says"),
    [
        (RefusedError("a city"), InvalidInputError, "the model refused the inputs: RefusedError: a city"),
        (ValueError("no road"), PredictFailedError, "ValueError: no road"),
        (InvalidInputError("input 'rows': no"), InvalidInputError, "input 'rows': no"),
        (FullError("so much"), MemoryError, "FullError: so much"),
        (RuntimeError("std::bad_alloc"), MemoryError, "bad_alloc"),
        (RefusedError("DefaultCPUAllocator: can't allocate memory"), MemoryError, "allocate"),
    ],
)
def test_what_the_framework_raises(raised: Exception, expected: type[Exception], says: str) -> None:
    with pytest.raises(expected, match=says) as caught:
        servable(raised).infer(InferRequest({"rows": ROWS}))
    assert type(caught.value) is expected


def test_once_closed_it_holds_nothing() -> None:
    closed = servable()
    closed.close()
    with pytest.raises(PredictFailedError, match="unloaded"):
        closed.infer(InferRequest({"rows": ROWS}))


def test_text_of_every_kind_is_bytes() -> None:
    for text in (np.array([["zürich"], ["a"]]), np.array([["zürich".encode()], ["a"]], object)):
        assert as_bytes(text).tolist() == [["zürich".encode()], [b"a"]]


def test_sizes_that_are_no_numbers_are_any() -> None:
    assert shape_of([None, 3, "batch", -1]) == (-1, 3, -1, -1)
    assert shape_of(None) == shape_of([]) == ()


def test_a_request_may_name_another_signature() -> None:
    def made(name: str, answer: float, *others: GraphServable) -> GraphServable:
        signature = Signature("fake", (), (TensorSpec("y", "FP64", ()),), name=name)
        return GraphServable(signature, lambda _: {"y": np.array(answer)}, model=object(), others=others)

    servable = made("one", 1.0, made("two", 2.0))
    assert [it.name for it in servable.signature.others] == ["two"]

    def ask(**parameters: object) -> object:
        return servable.infer(InferRequest({}, parameters=parameters)).outputs["y"].item()

    assert (ask(), ask(signature_name="one"), ask(signature_name="two")) == (1.0, 1.0, 2.0)
    for wrong in ("three", 3, None):
        with pytest.raises(InvalidInputError, match="this model has: one, two"):
            ask(signature_name=wrong)
    servable.close()
    with pytest.raises(PredictFailedError):
        ask(signature_name="two")
