"""Triton with its Python backend, which is a process for each model, and explicit control of what is loaded.

The server comes in the wheel of nvidia-pytriton. Its processes find their packages by ``python3`` on the path.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from environments import HERE
from models import FEATURES, ROW
from peer import Launch, Loads, PeerRequest, Place, Row

BATCH: Final = 64
CANNOT: Final = {
    Row.CHURN: "never unloads by itself and refuses a model that is not loaded: no room for 20 of 200",
}
ONE_ROW: Final = f"""\
backend: "python"
max_batch_size: 0
input [{{ name: "x", data_type: TYPE_FP64, dims: [-1, {FEATURES}] }}]
output [{{ name: "y", data_type: TYPE_FP64, dims: [-1, 1] }}]
"""
BATCHED: Final = f"""\
backend: "python"
max_batch_size: {BATCH}
input [{{ name: "x", data_type: TYPE_FP64, dims: [{FEATURES}] }}]
output [{{ name: "y", data_type: TYPE_FP64, dims: [1] }}]
dynamic_batching {{ }}
"""


@dataclass(frozen=True, slots=True)
class Triton:
    """``batched`` is dynamic batching without delay; ``count`` are the processes of each model."""

    key: str
    title: str
    batched: bool
    count: int = 1
    environment: str = "triton"
    most: int = 50
    cannot: Mapping[Row, str] = field(default_factory=lambda: CANNOT)

    def launch(self, place: Place) -> Launch:
        packages = place.python.parent.parent / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        wheel = packages / "pytriton" / "tritonserver"
        repository, backends = place.folder / "repository", place.folder / "backends"
        _write_backend(wheel, backends / "python")
        for name in place.names:
            self._write_model(repository / name, place.file(name))
        options = {
            "model-repository": repository,
            "backend-directory": backends,
            "model-control-mode": "explicit",
            "http-address": "127.0.0.1",
            "http-port": place.port,
            "allow-grpc": 0,
            "allow-metrics": 0,
        }
        loaded = (f"--load-model={name}" for name in place.loaded)
        libraries = (packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
        return Launch(
            (
                str(wheel / "bin" / "tritonserver"),
                *(f"--{name}={value}" for name, value in options.items()),
                *loaded,
            ),
            {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))},
        )

    def _write_model(self, folder: Path, file: Path) -> None:
        group = f"instance_group [{{ kind: KIND_CPU, count: {self.count} }}]\n"
        folder.mkdir(parents=True)
        (folder / "config.pbtxt").write_text((BATCHED if self.batched else ONE_ROW) + group)
        _write_version(folder / "1", file)

    def request(self, model: str) -> PeerRequest:
        tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP64", "data": list(ROW)}
        return PeerRequest(f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}))

    def value(self, answer: Any) -> float:
        return float(answer["outputs"][0]["data"][0])

    def loads(self, models: list[str]) -> Loads:
        pairs = (
            PeerRequest(f"/v2/repository/models/{it}/{verb}", "{}")
            for it in models
            for verb in ("load", "unload")
        )
        return Loads(tuple(pairs), of_each=0.5)

    def publish(self, place: Place, model: str, file: Path, version: int) -> PeerRequest:
        _write_version(place.folder / "repository" / model / str(version), file)
        return PeerRequest(f"/v2/repository/models/{model}/load", "{}")


def _write_backend(wheel: Path, folder: Path) -> None:
    """Put the backend and the stub for this Python where Triton looks for both."""
    stub = wheel / "python_backend_stubs" / f"3.{sys.version_info.minor}" / "triton_python_backend_stub"
    if not stub.exists():
        raise RuntimeError(f"the wheel has no Python backend for 3.{sys.version_info.minor}")
    folder.mkdir(parents=True)
    for file in (*(wheel / "backends" / "python").iterdir(), stub):
        if file.is_file():
            shutil.copy(file, folder)


def _write_version(folder: Path, file: Path) -> None:
    folder.mkdir()
    os.link(file, folder / "model.joblib")
    shutil.copy(HERE / "triton" / "model.py", folder / "model.py")


CHOSEN: Final = (Triton("triton", "Triton, Python backend", batched=True),)
CANDIDATES: Final = (
    Triton("triton-plain", "Triton, no batching", batched=False),
    CHOSEN[0],
    Triton("triton-2", "Triton, dynamic batching, 2 processes a model", batched=True, count=2),
)
