"""The seam between hotset and a framework: a ``Runtime`` turns files into a servable, and a servable answers.

There are two kinds of servable. A ``TensorServable`` takes and gives named arrays: every framework adapter. A
``PayloadServable`` takes what the client sent and gives back anything: the user's own code. Both are called from
several threads at once; ``close`` is called once, after the last call has returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from hotset.payload import InferRequest, InferResponse, Signature
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions


@dataclass(frozen=True, slots=True)
class CallMeta:
    """Of one request: who is asked, and what the client sent beside the body. Header names are lower case."""

    model_name: str
    model_version: int
    content_type: str = ""
    query_string: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class TensorServable(Protocol):
    """A loaded model that maps named arrays to named arrays. Thread-safe.

    One that has a true attribute ``rows_are_independent`` knows that each row of its outputs depends on that row of its
    inputs alone; without it, requests are never joined. One that can be loaded again without its files has a method
    ``take_recipe``, which returns its ``Recipe`` (or None) once, and keeps it no longer.
    """

    @property
    def signature(self) -> Signature: ...

    def infer(self, request: InferRequest) -> InferResponse:
        """Return the outputs asked for.

        Raises:
            InvalidInputError: an input is missing, unknown, or of a wrong type or shape; the message names it.
        """
        ...

    def close(self) -> None: ...


class Recipe(Protocol):
    """Loads a small model again, without its files. Thread-safe, and it changes nothing that it keeps."""

    @property
    def bytes(self) -> int:
        """What is kept for it."""
        ...

    def load(self) -> TensorServable:
        """Return the model anew. It has nothing in common with any other that is written to.

        Raises:
            Exception: whatever the framework raises.
        """
        ...


class PayloadServable(Protocol):
    """A loaded model behind the user's own ``predict``. Thread-safe as far as that code is."""

    @property
    def signature(self) -> Signature: ...

    @property
    def wants(self) -> frozenset[str]:
        """The arguments that ``predict`` takes; ``headers`` and ``query_params`` are sent only where wanted."""
        ...

    def predict(self, payload: Any, meta: CallMeta) -> Any: ...

    def close(self) -> None: ...


Servable: TypeAlias = TensorServable | PayloadServable


class Runtime(Protocol):
    """One framework. Stateless; its framework is imported by ``load`` and not before.

    One whose framework gives the memory of some kinds of devices back only when its process ends names them in an attribute
    ``keeps_memory_on``: a model that it loads there gets a process of its own.
    """

    @property
    def name(self) -> str:
        """What ``model.yaml`` calls it, and what a loaded model says that it was loaded with."""
        ...

    @property
    def extra(self) -> str:
        """The extra that installs its framework, as in ``pip install 'hotset[onnx]'``; empty where none is needed."""
        ...

    @property
    def patterns(self) -> tuple[str, ...]:
        """How its files are named (``*.onnx``), for messages; ``detect`` is what decides."""
        ...

    @property
    def size_factor(self) -> float:
        """Bytes in memory to expect for each byte of files, before the first load has measured it."""
        ...

    @property
    def devices(self) -> tuple[str, ...]:
        """The kinds of devices that it can be told to use: ``("cpu",)``, or ``("cpu", "cuda")``.

        With ``cuda``, ``load`` has to look whether there is one (``options.no_device`` makes the error).
        """
        ...

    def detect(self, files: Sequence[str]) -> bool:
        """Whether a version with these files (relative paths, ``/`` between parts) is for this runtime.

        By names alone, and no: where one cannot tell. ``model.yaml`` is never among ``files``, and can name the
        runtime of what is not detected.
        """
        ...

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        """Whether to load this version is to run code from it: to unpickle it, or to import it.

        With ``allow_pickle: false`` what says yes is never loaded. It must not run any of that code to find out.
        """
        ...

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> Servable:
        """Load from the directory ``path``. Options that the runtime does not have are refused (``options.read``).

        Raises:
            LoadFailedError: the files are corrupt, or the framework is not installed (naming the extra:
                ``reason.not_installed``), or the options or the device do not fit.
        """
        ...


def keeping_devices(runtime: Runtime) -> tuple[str, ...]:
    """Return the kinds of devices whose memory comes back only when the runtime's process ends."""
    found: tuple[str, ...] = getattr(runtime, "keeps_memory_on", ())
    return found
