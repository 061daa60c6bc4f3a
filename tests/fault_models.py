"""Models that do what a test orders while they load or predict: crash, hang, exit, fill the memory. Each answers its own name.

An order is a file, so the stream of requests stays the same whatever happens, and an order for one time is carried out once:
whoever deletes its file carries it out.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PREDICTOR = '''
"""Answers {"is": name, "version": number}, after whatever the files in the directory of orders say."""
import ctypes
import json
import os
import pathlib
import signal
import socket
import time


class Predictor:
    def load_model(self, disk_path):
        model = json.loads((pathlib.Path(disk_path) / "value.json").read_text())
        obey(model, "load")
        model["ballast"] = b"x" * model.get("bytes", 0)
        time.sleep(model.get("load_s", 0))
        return model

    def predict(self, model):
        time.sleep(model.get("predict_s", 0))
        obey(model, "predict")
        return {"is": model["is"], "version": model["version"]}


def obey(model, verb):
    directory = model["orders"]
    if not os.path.exists(directory):
        return
    for name in sorted(os.listdir(directory)):
        wanted, asked, what, *_, times = name.split(",")
        if wanted != model["is"] or asked != verb:
            continue
        if times != "always":
            try:
                os.unlink(os.path.join(directory, name))
            except FileNotFoundError:
                continue
        WAYS[what]()


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(600)


def leave():
    os._exit(3)


def hang():
    while True:
        time.sleep(600)


def hold_the_interpreter():
    ctypes.PyDLL(None).sleep(600)


def rise():
    raise ValueError("as ordered")


def run_out_of_memory():
    raise MemoryError("as ordered")


def fill_memory():
    kept = []
    while True:
        kept.append(bytearray(os.urandom(4096) * 256))


def half_a_frame():
    """Write the beginning of a frame of 1,000 bytes to every socket of this process, and end."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                os.write(int(name), (1000).to_bytes(4, "little") + b"half")
        except OSError:
            continue
    os._exit(0)


WAYS = {
    "crash": crash,
    "exit": leave,
    "hang": hang,
    "hold": hold_the_interpreter,
    "raise": rise,
    "exhaust": run_out_of_memory,
    "fill": fill_memory,
    "half": half_a_frame,
}
'''


@dataclass(frozen=True, slots=True)
class FaultModels:
    """Models below ``root``, all of one predictor file beside it, and the orders for them."""

    root: Path
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def predictor(self) -> Path:
        path = self.root.parent / "predictor.py"
        if not path.exists():
            path.write_text(PREDICTOR)
        return path

    @property
    def orders(self) -> Path:
        return self.root.parent / "orders"

    @property
    def settings(self) -> Mapping[str, object]:
        """What ``running_server`` takes to serve them at once."""
        return {"model_dir": self.root, "predictor": self.predictor, "settle_time": 0}

    def write(self, name: str, version: int = 1, **more: object) -> None:
        """Write a version, or change it in one step. ``load_s`` and ``predict_s`` are how long it sleeps; ``bytes`` what it weighs."""
        directory = self.root / name / str(version)
        directory.mkdir(parents=True, exist_ok=True)
        value = {"is": name, "version": version, "orders": str(self.orders), **more}
        written = self.root.parent / "value.json"
        written.write_text(json.dumps(value))
        written.replace(directory / "value.json")

    def write_many(self, count: int, **more: object) -> list[str]:
        names = [f"m{number}" for number in range(count)]
        for name in names:
            self.write(name, **more)
        return names

    def order(self, name: str, verb: str, what: str, *, times: int | None = 1) -> None:
        """Have a model do this so many times while it is asked to ``load`` or ``predict``; None: until ``relent``."""
        self.orders.mkdir(exist_ok=True)
        for _ in range(times or 1):
            often = "always" if times is None else "once"
            (self.orders / f"{name},{verb},{what},{next(self._numbers)},{often}").touch()

    def carried_out(self) -> bool:
        """Whether nothing that was ordered for some times is still to be done."""
        return not any(self.orders.glob("*,once"))

    def relent(self) -> None:
        """Take all orders back."""
        for order in self.orders.glob("*"):
            order.unlink(missing_ok=True)
