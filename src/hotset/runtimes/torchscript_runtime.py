"""PyTorch's TorchScript: ``*.pt`` that ``torch.jit.save`` wrote, with the arguments of its ``forward`` as inputs.

TorchScript says no types and no shapes, so ``model.yaml`` should. Where it does not, any numbers are taken, and floating
ones get the type of the model's parameters, as numbers in JSON have no type. A ``.pt`` that is a pickle (a state_dict, or a
whole module) is refused without being unpickled.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from hotset.errors import InvalidInputError, LoadFailedError
from hotset.payload import Array, Signature, TensorSpec
from hotset.runtimes.graphs import GraphServable
from hotset.runtimes.modelfile import candidates, choose
from hotset.runtimes.options import NO_OPTIONS, NoneOfItsOwn, RuntimeOptions
from hotset.runtimes.reason import load_failure, not_installed, reason_of
from hotset.runtimes.torch_tensors import device_of, framework, named, to_array, to_tensor

SUFFIXES: Final = (".pt",)
_OF_TORCHSCRIPT: Final = "constants.pkl"
"""A file that every TorchScript archive has and no other file of PyTorch's."""
_PICKLED: Final = (
    "a state_dict or a module that torch.save pickled, which only the model's own code can load; "
    "write it with torch.export.save (*.pt2) or torch.jit.save, or load it in a predictor of your own"
)


class TorchScriptRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "torchscript"
    extra = "torch"
    patterns = tuple(f"*{suffix}" for suffix in SUFFIXES)
    size_factor = 1.5
    devices = ("cpu", "cuda")

    def detect(self, files: Sequence[str]) -> bool:
        return bool(candidates(files, SUFFIXES))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        """PyTorch reads TorchScript with a reader of its own, that makes tensors and TorchScript's classes alone."""
        del path, files
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> GraphServable:
        options.read(NoneOfItsOwn)
        file = choose(files, SUFFIXES)
        try:
            torch = framework()
        except ImportError as error:
            raise not_installed("PyTorch", self.extra) from error
        _check_is_torchscript(path / file, file)
        device = device_of(torch, options)
        try:
            module = torch.jit.load(str(path / file), map_location=device).eval()
        except Exception as error:
            raise load_failure(f"cannot load {file}:", error) from error
        call = _Call(torch, module, device, file)
        return GraphServable(
            call.signature,
            call.answer,
            model=module,
            unranked=[spec.name for spec in call.signature.inputs],
            no_memory=(torch.cuda.OutOfMemoryError,),
            reason=_last_line,
        )


def _last_line(error: Exception) -> str:
    """What TorchScript raises carries the source of the model, and the paths that it had where it was written."""
    lines = str(error).strip().splitlines()
    return lines[-1] if "TorchScript" in lines[0] else reason_of(error)


def _check_is_torchscript(path: Path, file: str) -> None:
    """Raise LoadFailedError for what ``torch.save`` wrote, which is unpickled, and for anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {PurePosixPath(name).name for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise LoadFailedError(f"{file} is not TorchScript, but damaged or {_PICKLED}: {error}") from error
    if _OF_TORCHSCRIPT not in names:
        raise LoadFailedError(f"{file} is not TorchScript, but {_PICKLED}")


class _Call:
    """A module's ``forward``, asked with arrays by name. Thread-safe."""

    def __init__(self, torch: Any, module: Any, device: Any, file: str) -> None:
        self._torch = torch
        self._module = module
        self._device = device
        self._floating = _floating_type(module)
        schema = module.forward.schema
        self.signature: Final = Signature(
            TorchScriptRuntime.name, tuple(_inputs(schema, file)), tuple(_outputs(schema))
        )

    def answer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        torch = self._torch
        with torch.inference_mode():
            tensors = {name: self._tensor(name, array) for name, array in inputs.items()}
            found = named(torch, self._module(**tensors))
            return {name: to_array(torch, tensor) for name, tensor in found}

    def _tensor(self, name: str, array: Array) -> Any:
        if array.dtype.kind not in "biuf":
            raise InvalidInputError(f"input {name!r}: expected numbers, found: BYTES")
        dtype = self._floating if array.dtype.kind == "f" else None
        return to_tensor(self._torch, array, dtype=dtype, device=self._device)


def _floating_type(module: Any) -> Any:
    """Return the type of the module's first floating parameter or buffer, or None."""
    for tensors in (module.parameters(), module.buffers()):
        for tensor in tensors:
            if tensor.is_floating_point():
                return tensor.dtype
    return None


def _inputs(schema: Any, file: str) -> list[TensorSpec]:
    """Return the tensors that ``forward`` takes; what has a default keeps it."""
    specs = []
    for argument in schema.arguments[1:]:  # the first is the module itself
        if argument.type.kind() == "TensorType":
            specs.append(TensorSpec(argument.name, None, ()))
        elif not argument.has_default_value():
            raise LoadFailedError(
                f"{file}: forward takes {argument.name!r} of type {argument.type}; expected tensors, or a default value"
            )
    return specs


def _outputs(schema: Any) -> list[TensorSpec]:
    """Return what ``forward`` is known to give: the names in dictionaries and named tuples are known once it has answered."""
    kind = schema.returns[0].type
    if kind.kind() == "TensorType":
        return [TensorSpec("output_0", None, ())]
    fields = kind.elements() if kind.kind() == "TupleType" else ()
    if str(kind).startswith("Tuple[") and all(field.kind() == "TensorType" for field in fields):
        return [TensorSpec(f"output_{index}", None, ()) for index in range(len(fields))]
    return []
