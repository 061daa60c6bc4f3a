"""``model.yaml``: what the owner of a version says of it, beside its files. All of it is optional, and so is the file.

Called by the workers before a load, where the file is there. Read strictly: an unknown key, a wrong value, a key given
twice or an alias is a failed load, with the path, what was found and what was expected. It imports no framework.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from hotset.errors import LoadFailedError
from hotset.payload import DTYPES
from hotset.runtimes.options import CPU, MODEL_YAML, NO_OPTIONS, Device, RuntimeOptions
from hotset.runtimes.reason import load_failure
from hotset.runtimes.strict import read_strictly, shown

MOST_BYTES: Final = 1 << 20
"""A larger ``model.yaml`` is refused; large samples belong into files of their own."""

MOST_DEEP: Final = 64
"""Levels of lists and mappings."""

_DEVICE: Final = re.compile(r"cpu|cuda(?::(?P<index>\d{1,3}))?")


@dataclass(frozen=True, slots=True)
class DeclaredTensor:
    """An input or output as its owner declares it; None is left to the framework."""

    name: str
    datatype: str | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A request to answer before the version counts as ready. ``where`` names it in messages."""

    where: str
    codec: str
    body: bytes


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """All that ``model.yaml`` says. Frozen. ``batching`` None: as the runtime says; ``most_rows`` None: as the server's."""

    runtime: str | None = None
    runtime_options: RuntimeOptions = NO_OPTIONS
    inputs: tuple[DeclaredTensor, ...] | None = None
    outputs: tuple[DeclaredTensor, ...] | None = None
    batching: bool | None = None
    most_rows: int | None = None
    samples: tuple[Sample, ...] = ()


NO_FILE: Final = ModelOptions()
"""What a version without ``model.yaml`` has."""


class _Tensor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    datatype: str | None = None
    shape: tuple[Annotated[int, msgspec.Meta(ge=-1)], ...] | None = None


class _Batching(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    max_batch_size: Annotated[int, msgspec.Meta(ge=1)]


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    runtime: str | None = None
    inputs: tuple[_Tensor, ...] | None = None
    outputs: tuple[_Tensor, ...] | None = None
    device: str = "cpu"
    batching: bool | _Batching | None = None
    warmup: tuple[Any, ...] = ()
    options: dict[str, Any] = {}


def read_model_yaml(path: Path, files: Sequence[str]) -> ModelOptions:
    """Return what ``model.yaml`` in the directory ``path`` says; ``files`` are the version's.

    Raises:
        LoadFailedError: it does not fit.
    """
    value = _yaml(_text(path / MODEL_YAML, MODEL_YAML, most=MOST_BYTES))
    said = read_strictly({} if value is None else value, _File, where=MODEL_YAML)
    return ModelOptions(
        runtime=said.runtime,
        runtime_options=RuntimeOptions(_device(said.device), said.options),
        inputs=_declared(said.inputs, "inputs"),
        outputs=_declared(said.outputs, "outputs"),
        batching=said.batching if not isinstance(said.batching, _Batching) else True,
        most_rows=said.batching.max_batch_size if isinstance(said.batching, _Batching) else None,
        samples=tuple(_sample(item, index, path, files) for index, item in enumerate(said.warmup)),
    )


def wrong(where: str, found: object, expected: str) -> LoadFailedError:
    """Return the error for a value of ``model.yaml`` that does not fit."""
    return LoadFailedError(f"{MODEL_YAML}: {where}: found {found}, expected {expected}")


def _text(path: Path, name: str, *, most: int | None = None) -> bytes:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise LoadFailedError(f"cannot read {name}: {error.strerror or error}") from error
    if most is not None and len(text) > most:
        raise LoadFailedError(f"{name}: found {len(text)} bytes, expected at most {most}")
    return text


def _yaml(text: bytes) -> object:
    yaml: Any = importlib.import_module("yaml")  # here, as most models have no such file
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        _refuse_deep(yaml, yaml.parse(text, loader))
        reading = loader(text)
        node = reading.get_single_node()
        if node is None:
            return None
        _refuse_doubles(node)
        return reading.construct_document(node)
    except yaml.YAMLError as error:
        raise load_failure(f"{MODEL_YAML} is no YAML:", error) from error
    except (ValueError, RecursionError) as error:  # what YAML takes for a date may be none
        raise load_failure(f"{MODEL_YAML} cannot be read:", error) from error


def _refuse_deep(yaml: Any, events: Iterable[Any]) -> None:
    """What reads YAML in C ends the process when it is nested very deep, and aliases can make gigabytes of a few lines."""
    depth = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise LoadFailedError(
                f"{MODEL_YAML}:{line}: found the alias *{event.anchor}, expected the value itself"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEEP:
            raise LoadFailedError(f"{MODEL_YAML}:{line}: found more than {MOST_DEEP} levels, expected fewer")


def _refuse_doubles(node: Any) -> None:
    """A key that is given twice means one of two things."""
    keys: set[str] = set()
    for item in node.value if isinstance(node.value, list) else ():
        key, value = item if isinstance(item, tuple) else (None, item)
        if key is not None:
            line = key.start_mark.line + 1
            if not isinstance(key.value, str):
                raise LoadFailedError(f"{MODEL_YAML}:{line}: found a key that is no text")
            if key.value in keys:
                raise LoadFailedError(f"{MODEL_YAML}:{line}: {key.value}: found twice, expected it once")
            keys.add(key.value)
        _refuse_doubles(value)


def _device(text: str) -> Device:
    fits = _DEVICE.fullmatch(text)
    if fits is None:
        raise wrong("device", shown(text), "cpu, cuda, or one of several as in cuda:1")
    if text == "cpu":
        return CPU
    return Device("cuda", None if fits["index"] is None else int(fits["index"]))


def _declared(tensors: tuple[_Tensor, ...] | None, where: str) -> tuple[DeclaredTensor, ...] | None:
    if tensors is None:
        return None
    if not tensors:
        raise wrong(where, "an empty list", "one tensor or more; leave it out to take the framework's")
    names: set[str] = set()
    for index, tensor in enumerate(tensors):
        if tensor.datatype is not None and tensor.datatype not in DTYPES:
            raise wrong(f"{where}[{index}].datatype", shown(tensor.datatype), f"one of: {', '.join(DTYPES)}")
        if tensor.name in names:
            raise wrong(f"{where}[{index}].name", shown(tensor.name), "another name than the ones before")
        names.add(tensor.name)
    return tuple(DeclaredTensor(tensor.name, tensor.datatype, tensor.shape) for tensor in tensors)


def _sample(item: object, index: int, path: Path, files: Sequence[str]) -> Sample:
    """A text names a file of the version; anything else is the request itself."""
    where = f"warmup[{index}]"
    if isinstance(item, str):
        if item not in files:
            raise wrong(where, shown(item), "one of the version's files, or a request")
        body = _text(path / item, item)
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise load_failure(f"{MODEL_YAML}: {where}: {item} is no JSON:", error) from error
        return Sample(f"{where} ({item})", _codec(value), body)
    try:
        return Sample(where, _codec(item), msgspec.json.encode(item))
    except (TypeError, ValueError, RecursionError) as error:
        raise load_failure(f"{MODEL_YAML}: {where} cannot be written as JSON:", error) from error


def _codec(request: object) -> str:
    """Open Inference if its inputs are a list of tensors that say their datatype; else hotset's own."""
    inputs = request.get("inputs") if isinstance(request, Mapping) else None
    is_oip = isinstance(inputs, list) and all(isinstance(it, Mapping) and "datatype" in it for it in inputs)
    return "oip" if inputs and is_oip else "native"
