"""Handlers written for Cortex: their class, its arguments, what they return, and their clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hotset.codecs.handler import HandlerCodec, HandlerPayload
from hotset.errors import (
    ConfigError,
    InvalidInputError,
    LoadFailedError,
    PredictFailedError,
    UnsupportedError,
)
from hotset.payload import InferRequest, InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta, Servable
from hotset.runtimes.handler import HandlerOptions, HandlerServable, read_handler
from hotset.runtimes.handler_model import HandlerModel, HandlerRuntime
from hotset.runtimes.handler_source import check_handler
from hotset.runtimes.lending import METHOD_HEADER, REQUEST_HEADER


class Lender:
    """Lends what is in ``models``, and writes down for whom."""

    def __init__(self, **models: Servable) -> None:
        self.models = models
        self.asked: list[tuple[int, str, str]] = []
        self._number = 0

    @contextmanager
    def request(self, number: int) -> Iterator[None]:
        self._number = number
        yield

    def lend(self, name: str, version: str) -> Servable:
        self.asked.append((self._number, name, version))
        return self.models[name]


def written(directory: Path, source: str) -> Path:
    path = directory / "handler.py"
    path.write_text(dedent(source))
    return path


def made(directory: Path, source: str, lender: Lender | None = None, **options: Any) -> HandlerServable:
    path = written(directory, source)
    check_handler(path, options)
    return read_handler(path, options=HandlerOptions(**options), lender=lender or Lender())


def asked(
    handler: HandlerServable,
    body: bytes = b"{}",
    *,
    verb: str = "post",
    query: str = "",
    headers: tuple[tuple[str, str], ...] = (),
    content_type: str = "application/json",
) -> Any:
    meta = CallMeta(
        "handler", 0, content_type, query, ((REQUEST_HEADER, "5"), (METHOD_HEADER, verb), *headers)
    )
    return handler.predict(HandlerPayload(body, meta), meta)


def test_a_handler_takes_any_arguments_and_borrows_models(tmp_path: Path) -> None:
    lender = Lender(paris=HandlerModel("the model"))
    handler = made(
        tmp_path,
        """
        class PythonPredictor:
            def __init__(self, python_client, config):
                self.client, self.config = python_client, config
            def predict(self, headers, query_params, payload):
                return [self.client.get_model("paris", 3), self.config, headers["X-Id"], "x-ID" in headers, query_params, payload]
        """,
        lender,
        config={"a": 1},
    )
    answer = asked(handler, b"[1]", query="q=1&q=2", headers=(("x-id", "9"),))
    assert answer == ["the model", {"a": 1}, "9", True, {"q": "2"}, [1]]
    assert lender.asked == [(5, "paris", "3")]


def test_methods_are_found_by_their_verbs_and_need_no_body_that_they_do_not_take(tmp_path: Path) -> None:
    handler = made(tmp_path, "class Handler:\n    def handle_get(self): return 'got'\n")
    assert asked(handler, b"no json", verb="get") == "got"
    with pytest.raises(UnsupportedError, match="no handle_post; it answers: GET"):
        asked(handler)


def test_what_a_handler_raises_is_one_sentence(tmp_path: Path) -> None:
    handler = made(tmp_path, "class Handler:\n    def handle_post(self, payload): return payload['a']\n")
    with pytest.raises(PredictFailedError, match="KeyError: 'a'"):
        asked(handler)
    with pytest.raises(InvalidInputError):
        asked(handler, b"{")


def test_callbacks_are_called_later(tmp_path: Path) -> None:
    handler = made(
        tmp_path,
        """
        import threading
        done = [threading.Event(), threading.Event()]
        seen = []
        class Handler:
            def handle_post(self, payload):
                return "answer", done[0].set
            def post_predict(self, response, payload):
                seen.append((response, payload))
                done[1].set()
            def handle_get(self):
                return all(event.wait(10) for event in done) and seen[0]
        """,
    )
    assert asked(handler, b"[1]") == "answer"
    assert asked(handler, verb="get") == ("answer", [1])
    handler._callbacks.shutdown()


def test_with_batches_a_handler_takes_lists(tmp_path: Path) -> None:
    source = "class Handler:\n    def handle_post(self, payload, query_params): return [sum(it) for it in payload]\n"
    handler = made(tmp_path, source, batches=True)
    assert handler.batches
    assert asked(handler, b"[1, 2]") == 3
    metas = [
        CallMeta("", 0, "application/json", "", ((REQUEST_HEADER, str(it)), (METHOD_HEADER, "post")))
        for it in (1, 2)
    ]
    assert handler.predict_batch([HandlerPayload(b"[1]", metas[0]), HandlerPayload(b"[5, 5]", metas[1])]) == [
        1,
        10,
    ]
    broken = made(tmp_path, "class Handler:\n    def handle_post(self, payload): return 'ab'\n", batches=True)
    with pytest.raises(PredictFailedError, match="a list with a result for each"):
        asked(broken)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Model:\n    pass\n", r"expected a class named Handler or PythonPredictor, found: Model"),
        ("class Handler:\n    def load_model(self, path): ...\n", "has none of handle_post"),
        ("class Handler(", "SyntaxError"),
        ("class Handler:\n    def __init__(self, database): ...\n    def predict(self): ...\n", "takes database; expected any of"),
        ("class Handler:\n    def predict(self, sample): ...\n", "predict takes sample; expected any of: payload"),
        ("class Handler:\n    def __init__(self): 1 / 0\n    def predict(self): ...\n", "raised ZeroDivisionError"),
        ("import nowhere_at_all\nclass Handler:\n    def predict(self): ...\n", "raised ModuleNotFoundError"),
    ],
)  # fmt: skip
def test_a_handler_that_does_not_fit_is_refused_at_the_start(
    tmp_path: Path, source: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        made(tmp_path, source)


def test_models_are_loaded_by_the_handler_and_used_by_nobody_else(tmp_path: Path) -> None:
    handler = made(
        tmp_path,
        """
        from pathlib import Path
        class Handler:
            def load_model(self, model_path):
                return Path(model_path, "model.txt").read_text()
            def handle_post(self): ...
        """,
    )
    runtime = HandlerRuntime(handler.handler)
    (tmp_path / "model.txt").write_text("weights")
    model = runtime.load(tmp_path, ["model.txt"])
    assert model.model == "weights"
    with pytest.raises(UnsupportedError, match=r"POST /\?model=paris"):
        model.predict({}, CallMeta("paris", 1))
    with pytest.raises(LoadFailedError, match="FileNotFoundError"):
        runtime.load(tmp_path / "nowhere", [])
    model.close()
    assert model.model is None


class Sum:
    """A model of tensors with one input."""

    signature = Signature(
        "fake", (TensorSpec("rows", "FP32", (-1, 2)),), (TensorSpec("total", "FP32", (-1,)),), name="default"
    )

    def infer(self, request: InferRequest) -> InferResponse:
        total = request.inputs["rows"].sum(axis=1)
        return InferResponse({"total": total, "names": np.array([b"a"] * len(total), dtype=object)})

    def close(self) -> None: ...


@pytest.mark.parametrize("model_input", [[[1, 2], [3, 4]], {"rows": [[1, 2], [3, 4]]}])
def test_tensorflow_models_give_flat_lists_by_name(tmp_path: Path, model_input: object) -> None:
    source = (
        "class Handler:\n"
        "    def __init__(self, tensorflow_client): self.client = tensorflow_client\n"
        "    def handle_post(self, payload): return self.client.predict(payload)\n"
    )
    handler = made(tmp_path, source, Lender(only=Sum()), type="tensorflow", only="only")
    meta = CallMeta("", 0, "application/json", "", ((REQUEST_HEADER, "1"), (METHOD_HEADER, "post")))
    assert handler.predict(lambda: model_input, meta) == {"total": [3.0, 7.0], "names": ["a", "a"]}


def test_onnx_models_give_arrays_and_take_a_single_example(tmp_path: Path) -> None:
    source = (
        "class ONNXPredictor:\n"
        "    def __init__(self, onnx_client, config): self.client = onnx_client\n"
        "    def predict(self, payload): return [it.tolist() for it in self.client.predict(payload, 'sum', '1')]\n"
    )
    handler = made(tmp_path, source, Lender(sum=Sum()), type="onnx")
    assert asked(handler, b"[1, 2]") == [[3.0], [b"a"]]
    with pytest.raises(InvalidInputError, match="the model's input 'rows' does not fit"):
        asked(handler, b"[1, 2, 3]")


def test_without_a_name_there_is_only_the_only_model(tmp_path: Path) -> None:
    source = (
        "class Handler:\n"
        "    def __init__(self, model_client): self.client = model_client\n"
        "    def handle_post(self): return self.client.get_model()\n"
    )
    assert asked(made(tmp_path, source, Lender(a=HandlerModel(1)), only="a")) == 1
    with pytest.raises(InvalidInputError, match="there are several: a, b"):
        asked(made(tmp_path, source, names=("a", "b")))


def test_responses_of_other_frameworks_keep_their_status(tmp_path: Path) -> None:
    codec, meta = HandlerCodec(), CallMeta("", 0)
    response = SimpleNamespace(status_code=201, body=b"made", headers={"Content-Type": "text/x", "X-A": "1"})
    encoded = codec.encode_result(response, None, meta)
    assert (encoded.body, encoded.content_type) == (b"made", "text/x")
    assert encoded.headers == ((":status", "201"), ("X-A", "1"))
    handler = made(
        tmp_path,
        """
        class HTTPException(Exception):
            status_code, detail = 418, "a teapot"
        class Handler:
            def handle_post(self): raise HTTPException
        """,
    )
    encoded = codec.encode_result(asked(handler), None, meta)
    assert (encoded.body, encoded.headers) == (b"a teapot", ((":status", "418"),))


def test_a_handler_is_asked_through_its_own_door_alone(tmp_path: Path) -> None:
    handler = made(tmp_path, "class Handler:\n    def handle_post(self): ...\n")
    with pytest.raises(UnsupportedError, match="through no other door"):
        handler.predict(dict, CallMeta("", 0, "", "", (("a", "b"), ("c", "d"))))
