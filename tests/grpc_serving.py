"""What the tests of the gRPC port serve: models that answer what they were asked, at once, when they are let, or not at all."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

_LOWEST = 10_000
_GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")

PREDICTOR = '''
"""Answers what it was asked, at once or when it is let; the model's file says how."""
import json
import pathlib
import time


class Predictor:
    def load_model(self, disk_path):
        return json.loads((pathlib.Path(disk_path) / "value.json").read_text())

    def predict(self, model, payload):
        if model["kind"] == "broken":
            raise ValueError("no good")
        if model["kind"] == "waiting":
            directory = pathlib.Path(model["directory"])
            (directory / "predicting").touch()
            end_s = time.monotonic() + 60
            while not (directory / "release").exists() and time.monotonic() < end_s:
                time.sleep(0.005)
        return payload
'''


def free_port() -> int:
    """Return a port that nobody has now, below those that the system gives to connections: thousands of which another test may
    open before the server binds it."""
    system = random.SystemRandom()  # pytest-randomly makes the usual one repeat itself
    given_out = int(_GIVEN_OUT.read_text().split()[0])
    while True:
        port = system.randrange(_LOWEST, given_out)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def write_models(root: Path, signals: Path) -> None:
    for path in ("echo/1", "echo/2", "spare/1", "broken/1", "waiting/1"):
        directory = root / path
        directory.mkdir(parents=True)
        content = {"kind": directory.parent.name, "directory": str(signals)}
        (directory / "value.json").write_text(json.dumps(content))
