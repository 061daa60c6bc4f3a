"""The user's code, imported and called."""

from __future__ import annotations

import gc
import logging
import sys
import textwrap
import weakref
from pathlib import Path

import pytest

from hotset.errors import ConfigError, ErrorKind, InvalidInputError, LoadFailedError, PredictFailedError
from hotset.runtimes.base import CallMeta
from hotset.runtimes.predictor import PredictorRuntime, read_predictor

META = CallMeta("paris", 7, "application/json", "a=1&b=&a=2", (("x-team", "blue"),))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(body: str, *, name: str = "predictor.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(body).lstrip("\n"))
        return path

    return write


def make(**methods) -> PredictorRuntime:
    return PredictorRuntime(
        type("Predictor", (), {"load_model": lambda self, disk_path: disk_path, **methods})()
    )


def test_gets_its_arguments_by_name() -> None:
    servable = make(
        predict=lambda self, model, payload, query_params, headers, model_name, model_version: [
            model, payload, query_params, headers, model_name, model_version,
        ]
    ).load(Path("/m"), ["a"])  # fmt: skip
    assert servable.predict({"x": 1}, META) == [
        "/m", {"x": 1}, {"a": "2", "b": ""}, {"x-team": "blue"}, "paris", 7,
    ]  # fmt: skip
    assert servable.signature.platform == "python"


def test_wants_only_what_it_names() -> None:
    servable = make(predict=lambda self, payload, headers: (payload, headers)).load(Path("/m"), [])
    assert servable.wants == {"payload", "headers"}
    assert servable.predict(1, META) == (1, {"x-team": "blue"})


@pytest.mark.parametrize("body", [b"", b"raw", memoryview(b"raw")])
def test_bytes_are_bytes_for_who_does_not_ask_for_views(body: bytes | memoryview) -> None:
    servable = make(predict=lambda self, payload: payload).load(Path("/m"), [])
    assert servable.predict(body, META) == body
    assert type(servable.predict(body, META)) is bytes
    batching = make(predict_batch=lambda self, payloads: payloads).load(Path("/m"), [])
    assert [type(it) for it in batching.predict_batch([body, {"x": 1}])] == [bytes, dict]


@pytest.mark.parametrize("annotation", [memoryview, "memoryview", "memoryview | None", bytes | memoryview])
def test_who_asks_for_views_gets_views(annotation: object) -> None:
    def predict(self, payload):
        return payload

    predict.__annotations__["payload"] = annotation
    servable = make(predict=predict).load(Path("/m"), [])
    view = memoryview(b"raw")
    assert servable.predict(view, META).obj is view.obj, "not a copy"
    assert servable.predict(b"raw", META) == view
    assert type(servable.predict(b"raw", META)) is memoryview
    assert servable.predict("text", META) == "text"


def test_a_batch_of_views() -> None:
    def predict_batch(self, payloads: list[memoryview]) -> list[str]:
        return [type(it).__name__ for it in payloads]

    servable = make(predict_batch=predict_batch).load(Path("/m"), [])
    assert servable.predict_batch([b"a", memoryview(b"b"), 1]) == ["memoryview", "memoryview", "int"]
    assert servable.predict(b"a", META) == "memoryview"


def test_keyword_arguments_want_all() -> None:
    servable = make(predict=lambda self, **all_of_them: sorted(all_of_them)).load(Path("/m"), [])
    expected = ["headers", "model", "model_name", "model_version", "payload", "query_params"]
    assert sorted(servable.wants) == expected
    assert servable.predict(1, META) == expected


def test_a_file_is_imported_with_its_neighbours_and_config(write, tmp_path: Path) -> None:
    write("FACTOR = 3\n", name="neighbour_of_predictor.py")
    path = write(
        """
        from neighbour_of_predictor import FACTOR
        class Predictor:
            def __init__(self, config):
                self.offset = config["offset"]
            def load_model(self, disk_path):
                return FACTOR
            def predict(self, model, payload):
                return model * payload + self.offset
        """
    )
    runtime = read_predictor(path, config={"offset": 1})
    assert runtime.load(tmp_path, []).predict(2, META) == 7


def test_two_files_of_one_name_stay_apart(write, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    body = "class Predictor:\n  def load_model(self, disk_path): return {!r}\n  def predict(self, model): return model\n"
    first = read_predictor(write(body.format("first")))
    second = read_predictor(write(body.format("second"), name="other/predictor.py"))
    assert [runtime.load(tmp_path, []).predict(None, META) for runtime in (first, second)] == [
        "first",
        "second",
    ]


def test_an_imported_base_is_checked_after_the_import(write) -> None:
    write("class Base:\n    def predict(self, wrong): ...\n", name="base_of_predictor.py")
    path = write(
        """
        from base_of_predictor import Base
        class Predictor(Base):
            def load_model(self, disk_path): ...
        """
    )
    with pytest.raises(ConfigError, match=r"predict takes 'wrong'; expected predict\(self, model, payload"):
        read_predictor(path)


def test_a_method_missing_after_the_import(write) -> None:
    path = write("from abc import ABC\nclass Predictor(ABC):\n    def predict(self): ...\n")
    with pytest.raises(ConfigError, match=r"has no load_model\(self, disk_path\)"):
        read_predictor(path)


@pytest.mark.parametrize("raised", ["ValueError('no')", "SystemExit(3)", "ImportError('no')"])
def test_an_import_that_raises_names_the_line(write, raised: str) -> None:
    path = write(f"""
        class Predictor:
            def load_model(self, disk_path): ...
            def predict(self): ...
        raise {raised}
        """)
    with pytest.raises(ConfigError) as caught:
        read_predictor(path)
    assert str(caught.value).startswith(
        f"{path}:4: importing the predictor raised {raised.partition('(')[0]}"
    )


def test_an_init_that_raises_names_the_line(write) -> None:
    path = write(
        """
        class Predictor:
            def __init__(self, config):
                config["missing"]
            def load_model(self, disk_path): ...
            def predict(self): ...
        """
    )
    with pytest.raises(ConfigError, match=r"predictor.py:3: Predictor.__init__ raised KeyError: 'missing'"):
        read_predictor(path)


def test_a_module_that_binds_something_else(write) -> None:
    with pytest.raises(ConfigError, match="expected a class named Predictor, found: int"):
        read_predictor(write("Predictor = 3\n"))


def test_load_model_raises_one_sentence_and_logs_the_trace(caplog: pytest.LogCaptureFixture) -> None:
    def load_model(self, disk_path):
        raise KeyError("weights")

    with caplog.at_level(logging.ERROR), pytest.raises(LoadFailedError) as caught:
        make(load_model=load_model, predict=lambda self: 1).load(Path("/m"), [])
    assert str(caught.value) == "load_model raised KeyError: 'weights'"
    assert "Traceback" in caplog.text


def test_load_model_out_of_memory_keeps_its_kind() -> None:
    def load_model(self, disk_path):
        raise MemoryError

    with pytest.raises(LoadFailedError) as caught:
        make(load_model=load_model, predict=lambda self: 1).load(Path("/m"), [])
    assert caught.value.kind is ErrorKind.OUT_OF_MEMORY


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (ValueError("too hot"), "ValueError: too hot"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (Unprintable(), "Unprintable"),
        (SystemExit(2), "SystemExit: 2"),
        (ValueError("x" * 9000), "ValueError: " + "x" * 1988 + "…"),
    ],
)
def test_predict_raises_one_sentence(raised: BaseException, text: str) -> None:
    def predict(self):
        raise raised

    with pytest.raises(PredictFailedError) as caught:
        make(predict=predict).load(Path("/m"), []).predict(None, META)
    assert str(caught.value) == text
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize("raised", [InvalidInputError("no 'x'"), MemoryError()])
def test_what_predict_means_for_hotset_passes(raised: Exception) -> None:
    def predict(self):
        raise raised

    with pytest.raises(type(raised)) as caught:
        make(predict=predict).load(Path("/m"), []).predict(None, META)
    assert caught.value is raised


def test_predict_batch_alone_answers_one() -> None:
    servable = make(
        predict_batch=lambda self, model, payloads: [f"{model}:{item}" for item in payloads]
    ).load(Path("/m"), [])
    assert servable.predict("a", META) == "/m:a"
    assert servable.predict_batch(["a", "b"]) == ["/m:a", "/m:b"]
    assert servable.batches
    assert servable.wants == {"payload"}


@pytest.mark.parametrize(("result", "words"), [([1, 2], "2 results for 1 payloads"), (None, "NoneType")])
def test_predict_batch_of_another_length(result, words: str) -> None:
    servable = make(predict_batch=lambda self, payloads: result).load(Path("/m"), [])
    with pytest.raises(PredictFailedError, match=words):
        servable.predict("a", META)


class Model:
    pass


def test_close_calls_the_hook_and_drops_the_model() -> None:
    unloaded = []
    runtime = make(
        load_model=lambda self, disk_path: Model(),
        predict=lambda self, model: None,
        unload_model=lambda self, model: unloaded.append(type(model)),
    )
    servable = runtime.load(Path("/m"), [])
    alive = weakref.ref(servable._model)
    servable.close()
    gc.collect()
    assert unloaded == [Model]
    assert alive() is None


def test_a_hook_that_raises_still_lets_the_model_go(caplog: pytest.LogCaptureFixture) -> None:
    def unload_model(self):
        raise RuntimeError("busy")

    runtime = make(
        load_model=lambda self, disk_path: Model(), predict=lambda self: None, unload_model=unload_model
    )
    servable = runtime.load(Path("/m"), [])
    alive = weakref.ref(servable._model)
    servable.close()
    gc.collect()
    assert "RuntimeError: busy" in caplog.text
    assert alive() is None
