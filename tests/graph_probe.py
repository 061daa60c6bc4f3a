"""Run as a program, by ``unit/runtimes/test_graph_runtimes.py``: ``graph_probe.py tensorflow|torch FOLDER``.

Makes small models of every odd kind with one framework, loads each with its runtime and asks it; prints a report as JSON, by
name: the inputs and outputs declared, the answer, or the error. So a framework is imported here, once, and never in pytest.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from hotset.errors import HotsetError
from hotset.payload import InferRequest
from hotset.runtimes import registry
from hotset.runtimes.options import CPU, Device, RuntimeOptions
from hotset.workers.intact import files_below

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)

report: dict[str, Any] = {}


def load(runtime: str, path: Path, device: Device = CPU, **options: Any) -> Any:
    """Load a directory, or one file."""
    folder, files = (path, files_below(path)) if path.is_dir() else (path.parent, [path.name])
    return registry.by_name(runtime).load(folder, files, RuntimeOptions(device, options))


def case(
    name: str,
    runtime: str,
    path: Path,
    inputs: Mapping[str, Any] | None = None,
    *,
    outputs: tuple[str, ...] = (),
    device: Device = CPU,
    **options: Any,
) -> None:
    """Load and ask; what comes of it is in the report."""
    said: dict[str, Any] = {}
    report[name] = said
    try:
        servable = load(runtime, path, device, **options)
        for which in ("inputs", "outputs"):
            specs = getattr(servable.signature, which)
            said[which] = [[spec.name, spec.datatype, list(spec.shape)] for spec in specs]
        if inputs is not None:
            answer = servable.infer(InferRequest(dict(inputs), outputs)).outputs
            said["answer"] = {key: array.tolist() for key, array in answer.items()}
            said["types"] = {key: str(array.dtype) for key, array in answer.items()}
        servable.close()
    except (HotsetError, MemoryError) as error:
        said["error"] = str(error)
        said["kind"] = type(error).__name__


def together(name: str, servable: Any, key: str, rows: np.ndarray) -> None:
    """Ask one servable from four threads, for one and for two rows; whether each was answered its own."""

    def ask(index: int) -> bool:
        some = rows[index % 2 : 2]
        (answer,) = servable.infer(InferRequest({key: some + index})).outputs.values()
        return bool(np.allclose(answer, (some + index).sum(axis=1, keepdims=True)))

    with ThreadPoolExecutor(4) as pool:
        report[name] = {"answer": all(pool.map(ask, range(200)))}


def loaded_together(runtime: str, path: Path, key: str) -> None:
    """Whether models that are loaded by four threads at once, twenty of them, all answer."""

    def load_and_ask(_: int) -> bool:
        servable = load(runtime, path)
        (answer,) = servable.infer(InferRequest({key: ROWS})).outputs.values()
        servable.close()
        return bool(np.allclose(answer, ROWS.sum(axis=1, keepdims=True)))

    with ThreadPoolExecutor(4) as pool:
        report[f"{runtime} loaded together"] = {"answer": all(pool.map(load_and_ask, range(20)))}


def goes(name: str, servable: Any) -> None:
    """Whether nothing holds the model once its servable was closed."""
    model = weakref.ref(servable._model)
    servable.close()
    gc.collect()
    report[name] = {"answer": model() is None}


def tensorflow(folder: Path) -> None:
    os.environ["KERAS_HOME"] = str(folder / "home")
    from hotset.runtimes import keras_runtime, tensorflow_runtime

    tf = tensorflow_runtime.framework()
    keras = keras_runtime.framework()
    report["threads"] = {
        "answer": [
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
        ]
    }
    saved_models(tf, folder)
    keras_models(keras, folder)
    lite_models(tf, folder)


def saved_models(tf: Any, folder: Path) -> None:
    spec = tf.TensorSpec

    class Several(tf.Module):
        @tf.function(autograph=False, input_signature=[spec([None, 4], tf.float32)])
        def total(self, rows):
            return {"sum": tf.reduce_sum(rows, axis=1, keepdims=True)}

        @tf.function(autograph=False, input_signature=[spec(None, tf.float32), spec([], tf.string)])
        def odd(self, anything, word):
            return {"size": tf.size(anything), "loud": tf.strings.upper(word)}

        @tf.function(autograph=False, input_signature=[spec([None], tf.complex64)])
        def turned(self, numbers):
            return {"turned": numbers}

    model = Several()
    several = {"serving_default": model.total, "odd": model.odd, "turned": model.turned}
    tf.saved_model.save(model, str(folder / "several"), signatures=several)
    tf.saved_model.save(model, str(folder / "one" / "below"), signatures={"odd": model.odd})
    tf.saved_model.save(model, str(folder / "none"))
    case("default", "tensorflow", folder / "several", {"rows": ROWS})
    odd = {"anything": ROWS, "word": np.array(b"oslo", object)}
    case("by name", "tensorflow", folder / "several", odd, signature="odd")
    case("the only one", "tensorflow", folder / "one", odd, outputs=("loud",))
    case("not a scalar", "tensorflow", folder / "one", odd | {"word": np.array(["oslo"])})
    case("no such signature", "tensorflow", folder / "several", signature="mean")
    case("no signatures", "tensorflow", folder / "none")
    case("no type for it", "tensorflow", folder / "several", signature="turned")
    case("no such option", "tensorflow", folder / "several", threads=2)
    case("two of them", "tensorflow", folder)
    (folder / "broken").mkdir()
    (folder / "broken" / "saved_model.pb").write_bytes(b"\0garbage")
    case("broken", "tensorflow", folder / "broken")
    together("together", load("tensorflow", folder / "several"), "rows", ROWS)
    loaded_together("tensorflow", folder / "several", "rows")
    goes("SavedModel goes", load("tensorflow", folder / "several"))


def keras_models(keras: Any, folder: Path) -> None:
    layers = keras.layers
    named = keras.Sequential(
        [keras.Input((4,), name="rows"), layers.Dense(1, kernel_initializer="ones", name="sum")]
    )
    named.save(folder / "named.keras")
    case("sequential", "keras", folder / "named.keras", {"rows": ROWS})
    one = keras.Input((None, 2), name="steps")
    listed = keras.Model(
        one, [layers.Rescaling(2.0, name="twice")(one), layers.Rescaling(3.0, name="thrice")(one)]
    )
    listed.save(folder / "listed.keras")
    case("listed", "keras", folder / "listed.keras", {"steps": np.ones((1, 3, 2), np.float32)})
    by_name = {key: keras.Input((2,), name=key) for key in ("b", "a")}
    mapped = keras.Model(by_name, {"difference": layers.Subtract()([by_name["a"], by_name["b"]])})
    mapped.save(folder / "mapped.keras")
    pair = {"a": np.full((1, 2), 5, np.float32), "b": np.full((1, 2), 3, np.float32)}
    case("mapped", "keras", folder / "mapped.keras", pair)
    keras.Sequential([keras.Input((4,)), layers.Lambda(lambda rows: rows)]).save(folder / "code.keras")
    case("code in it", "keras", folder / "code.keras")
    keras.Sequential([layers.Dense(1)]).save(folder / "unbuilt.keras")
    case("never built", "keras", folder / "unbuilt.keras")
    (folder / "broken.keras").write_bytes(b"\0garbage")
    case("broken keras", "keras", folder / "broken.keras")
    together("keras together", load("keras", folder / "named.keras"), "rows", ROWS)
    loaded_together("keras", folder / "named.keras", "rows")
    goes("keras goes", load("keras", folder / "named.keras"))


def lite_models(tf: Any, folder: Path) -> None:
    spec = tf.TensorSpec

    class Lite(tf.Module):
        @tf.function(autograph=False, input_signature=[spec([None, 4], tf.float32)])
        def total(self, rows):
            return {"sum": tf.reduce_sum(rows, axis=1, keepdims=True)}

        @tf.function(autograph=False, input_signature=[spec([1, 4], tf.float32), spec([None], tf.string)])
        def fixed(self, rows, words):
            return {"twice": rows * 2, "first": tf.gather(words, [0])}

    model = Lite()
    total, fixed = model.total.get_concrete_function(), model.fixed.get_concrete_function()

    def write(name: str, converter: Any) -> None:
        (folder / f"{name}.tflite").write_bytes(converter.convert())

    write("unsigned", tf.lite.TFLiteConverter.from_concrete_functions([total]))
    servable = load("litert", folder / "unsigned.tflite")
    (spec,) = servable.signature.inputs
    answers = [servable.infer(InferRequest({spec.name: ROWS[:count]})).outputs for count in (3, 1, 3)]
    report["lite without signatures"] = {
        "answer": [next(iter(answer.values())).tolist() for answer in answers]
    }
    together("lite without signatures together", servable, spec.name, ROWS)
    servable.close()
    write("plain", tf.lite.TFLiteConverter.from_concrete_functions([total], model))
    tf.saved_model.save(model, str(folder / "lite"), signatures={"total": total, "fixed": fixed})
    write(
        "two",
        tf.lite.TFLiteConverter.from_saved_model(str(folder / "lite"), signature_keys=["total", "fixed"]),
    )
    case("lite", "litert", folder / "plain.tflite", {"rows": ROWS})
    two = folder / "two.tflite"
    words = np.array(["zürich", "oslo"], object)
    case("lite by name", "litert", two, {"rows": ROWS[:1], "words": words}, signature="fixed", threads=2)
    case("lite fixed", "litert", two, {"rows": ROWS, "words": words}, signature="fixed")
    case("lite undecided", "litert", two)
    (folder / "broken.tflite").write_bytes(b"\0garbage")
    case("lite broken", "litert", folder / "broken.tflite")
    loaded_together("litert", folder / "plain.tflite", "rows")
    servable = load("litert", folder / "plain.tflite")
    together("lite together", servable, "rows", ROWS)
    servable.close()


def torch(folder: Path) -> None:
    import torch

    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    programs(torch, folder)
    scripts(torch, folder)
    loaded_together("torchscript", folder / "linear.pt", "input")
    goes("script goes", load("torchscript", folder / "linear.pt"))
    report["threads"] = {"answer": torch.get_num_threads()}


def programs(torch: Any, folder: Path) -> None:
    batch = torch.export.Dim("batch")

    def write(name: str, forward: Any, *args: Any, **dynamic: Any) -> Path:
        module = type("Module", (torch.nn.Module,), {"forward": forward})()
        path = folder / f"{name}.pt2"
        torch.export.save(torch.export.export(module, args, dynamic_shapes=dynamic or None), path)
        return path

    rows = torch.from_numpy(ROWS)
    total = write("total", lambda self, rows: rows.sum(1, keepdim=True), rows, rows={0: batch})
    case("program", "torch_export", total, {"rows": ROWS[:2]})
    together("program together", load("torch_export", total), "rows", ROWS)
    loaded_together("torch_export", total, "rows")
    goes("program goes", load("torch_export", total))

    def nested(self, pair, factor, options):
        return {"sums": [pair[0] + pair[1] * factor, None], "kept": options["scale"], "fixed": 3}

    path = write("nested", nested, (rows, rows), 2.0, {"scale": torch.tensor(1.5)})
    inputs = {"pair_0": ROWS, "pair_1": ROWS, "options_scale": np.array(4, np.float32)}
    case("nested", "torch_export", path, inputs, outputs=("kept",))
    case("rows as exported", "torch_export", path, inputs | {"pair_0": ROWS[:2]})
    case("no scalar", "torch_export", path, inputs | {"options_scale": np.ones(2, np.float32)})

    path = write("half", lambda self, rows: rows * 2, rows.bfloat16())
    case("bfloat16", "torch_export", path, {"rows": ROWS})
    path = write("writes", lambda self, rows: rows.mul_(2), rows.clone())
    mine, theirs = ROWS.copy(), ROWS.copy()
    theirs.flags.writeable = False
    case("writes into it", "torch_export", path, {"rows": theirs})
    report["writes into it"]["kept"] = bool((theirs == mine).all())
    case("cuda", "torch_export", total, device=Device("cuda"))
    case("a program's options", "torch_export", total, threads=3)
    (folder / "broken.pt2").write_bytes(b"\0garbage")
    case("broken program", "torch_export", folder / "broken.pt2")


def scripts(torch: Any, folder: Path) -> None:
    linear = torch.nn.Linear(4, 1, bias=False)
    torch.nn.init.ones_(linear.weight)

    class Keeps(torch.nn.Module):
        def forward(self, rows, factor: float = 2.0) -> dict[str, torch.Tensor]:
            return {"times": rows * factor}

    class Needs(torch.nn.Module):
        def forward(self, rows, factor: float):
            return rows * factor

    def write(name: str, module: Any) -> Path:
        torch.jit.save(torch.jit.script(module), folder / f"{name}.pt")
        return folder / f"{name}.pt"

    path = write("linear", linear)
    case("script", "torchscript", path, {"input": ROWS})
    case("as JSON has it", "torchscript", path, {"input": ROWS.astype(np.float64)})
    case("does not fit", "torchscript", path, {"input": ROWS.astype(np.int64)})
    case("text", "torchscript", path, {"input": np.array(["a"])})
    case("cuda script", "torchscript", path, device=Device("cuda", 1))
    keeps = write("keeps", Keeps())
    case("default kept", "torchscript", keeps, {"rows": ROWS[:1]})
    case("no such output", "torchscript", keeps, {"rows": ROWS[:1]}, outputs=("mean",))
    case("needs a number", "torchscript", write("needs", Needs()))
    torch.save(linear, folder / "pickled.pt")
    torch.save(linear.state_dict(), folder / "state.pt")
    torch.save(linear.state_dict(), folder / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("pickled", "state", "old"):
        case(name, "torchscript", folder / f"{name}.pt")
    (folder / "broken.pt").write_bytes((folder / "linear.pt").read_bytes()[:-200])
    case("broken script", "torchscript", folder / "broken.pt")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    {"tensorflow": tensorflow, "torch": torch}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(report, default=bytes.decode), flush=True)
    os._exit(0)  # frameworks may leave threads behind
