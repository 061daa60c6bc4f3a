"""What a runtime is told beside the files: the device, and the options that are its own. Made from ``model.yaml``.

Called by ``modelyaml.py``, which makes it, and by the runtimes, which read it. It never reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from hotset.errors import LoadFailedError
from hotset.runtimes.strict import read_strictly

MODEL_YAML: Final = "model.yaml"
"""The file beside a version's others that says how to load them."""

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model computes: ``cpu``, or the ``cuda`` device of that index; None is any."""

    kind: str = "cpu"
    index: int | None = None

    def __str__(self) -> str:
        return self.kind if self.index is None else f"{self.kind}:{self.index}"


CPU: Final = Device()


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Frozen. ``values`` is what ``options:`` says in ``model.yaml``, as it was read from YAML."""

    device: Device = CPU
    values: Mapping[str, Any] = field(default_factory=dict)

    def read(self, kind: type[Read]) -> Read:
        """Return the runtime's own options as ``kind``, a ``msgspec.Struct`` that forbids unknown fields.

        Raises:
            LoadFailedError: they do not fit; with the path, what was found and what was expected.
        """
        return read_strictly(dict(self.values), kind, where=MODEL_YAML, below="options")

    def no_device(self, reason: str) -> LoadFailedError:
        """Return the error for a device that this machine, or this build of the framework, does not have."""
        return LoadFailedError(
            f"{MODEL_YAML}: device: found {self.device}, expected one that is there; {reason}: use cpu"
        )


NO_OPTIONS: Final = RuntimeOptions()
"""What a version without ``model.yaml`` is loaded with."""


class NoneOfItsOwn(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a runtime without options of its own reads them as: any is refused."""
