"""Load and unload as KServe's clients send them: the model is the first field, and the answer has two."""

from __future__ import annotations

from pathlib import Path

import grpc
from checks import run_all

SERVICE = "/inference.GRPCInferenceService/"
SPARE = b"\x0a\x05spare"
SPARE_AND_TRUE = SPARE + b"\x10\x01"


def check_load_and_unload(address: str, _directory: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
            assert channel.unary_unary(SERVICE + method)(SPARE) == SPARE_AND_TRUE


if __name__ == "__main__":
    run_all(dict(globals()))
