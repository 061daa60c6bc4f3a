"""PyTorch programs that ``torch.export.save`` wrote: ``*.pt2``, with the names, types and shapes that they were exported with.

A size that was not exported as dynamic is fixed, the number of rows too. Loading one may unpickle parts of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

from hotset.errors import LoadFailedError
from hotset.payload import Array, Signature, TensorSpec
from hotset.runtimes.graphs import GraphServable, shape_of
from hotset.runtimes.modelfile import candidates, choose
from hotset.runtimes.options import NO_OPTIONS, NoneOfItsOwn, RuntimeOptions
from hotset.runtimes.reason import load_failure, not_installed
from hotset.runtimes.torch_tensors import datatype, device_of, framework, named, to_array, to_tensor

SUFFIXES: Final = (".pt2",)

_loading: Final = Lock()
"""To rebuild a program is work in Python that keeps some of its state by process, so one is rebuilt at a time."""


class TorchExportRuntime:
    """The adapter. Thread-safe; imports the framework in ``load``."""

    name = "torch_export"
    extra = "torch"
    patterns = tuple(f"*{suffix}" for suffix in SUFFIXES)
    size_factor = 2.0
    devices = ("cpu", "cuda")

    def detect(self, files: Sequence[str]) -> bool:
        return bool(candidates(files, SUFFIXES))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        """``torch.export.load`` unpickles what it cannot read otherwise, and the file decides what that is."""
        del path, files
        return True

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> GraphServable:
        options.read(NoneOfItsOwn)
        file = choose(files, SUFFIXES)
        try:
            torch = framework()
            export = importlib.import_module("torch.export")
        except ImportError as error:
            raise not_installed("PyTorch", self.extra) from error
        device = device_of(torch, options)
        with _loading:
            try:
                program = _on_device(export.load(str(path / file)), device)
                module = program.module()
            except Exception as error:
                raise load_failure(f"cannot load {file}:", error) from error
            call = _Call(torch, program, module, device, file)
        return GraphServable(
            call.signature,
            call.answer,
            model=module,
            refusals=(AssertionError,),  # what guards the sizes that the program was exported for
            no_memory=(torch.cuda.OutOfMemoryError,),
        )


def _on_device(program: Any, device: Any) -> Any:
    """Return the program with its weights, and what it makes itself, on ``device``, wherever it was exported."""
    if device.type == "cpu" and all(tensor.device == device for tensor in program.state_dict.values()):
        return program
    return importlib.import_module("torch.export.passes").move_to_device_pass(program, device)


class _Call:
    """A program's module, asked with arrays by name. Thread-safe.

    A program takes and gives what its Python function did, lists and dictionaries of tensors too. Its inputs are flat
    here, each with the name that the export gave it; numbers among them stay as they were exported.
    """

    def __init__(self, torch: Any, program: Any, module: Any, device: Any, file: str) -> None:
        self._torch = torch
        self._module = module
        self._device = device
        self._arrange = program.call_spec.in_spec.unflatten
        self._leaves: list[Any] = []
        """What is given for each input; for a tensor, its type."""
        self._places: list[int] = []
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        self.signature: Final = Signature(
            TorchExportRuntime.name,
            tuple(self._inputs(program.graph_signature.input_specs, values, file)),
            tuple(self._outputs(program, values)),
        )

    def _inputs(self, specs: Sequence[Any], values: Mapping[str, Any], file: str) -> Iterator[TensorSpec]:
        for spec in specs:
            if spec.kind.name != "USER_INPUT":
                continue
            name, value = spec.arg.name, values.get(spec.arg.name)
            if isinstance(value, self._torch.Tensor):
                self._places.append(len(self._leaves))
                self._leaves.append(value.dtype)
                yield _spec(name, value)
            elif hasattr(spec.arg, "value"):
                self._leaves.append(spec.arg.value)
            else:
                raise LoadFailedError(
                    f"{file}: input {name!r} is no tensor and no constant; export the model with a tensor in its place"
                )

    def _outputs(self, program: Any, values: Mapping[str, Any]) -> Iterator[TensorSpec]:
        flat = [
            spec.arg.value if hasattr(spec.arg, "value") else values[spec.arg.name]
            for spec in program.graph_signature.output_specs
            if spec.kind.name == "USER_OUTPUT"
        ]
        for name, value in named(self._torch, program.call_spec.out_spec.unflatten(flat)):
            yield _spec(name, value)

    def answer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        torch, leaves = self._torch, list(self._leaves)
        with torch.inference_mode():
            for place, array in zip(self._places, inputs.values(), strict=True):
                leaves[place] = to_tensor(torch, array, dtype=leaves[place], device=self._device)
            args, kwargs = self._arrange(leaves)
            found = named(torch, self._module(*args, **kwargs))
            return {name: to_array(torch, tensor) for name, tensor in found}


def _spec(name: str, tensor: Any) -> TensorSpec:
    return TensorSpec(name, datatype(name, tensor.dtype), shape_of(tensor.shape))
