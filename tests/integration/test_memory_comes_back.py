"""400 loads and unloads of models of 5 MB with room for 3: what the system counts of the processes stays bounded."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from model_files import write_predictor, write_value
from server_process import ServerProcess, running_server

CYCLES = 400
MODELS = 12
ROOM = 3
MODEL_BYTES = 5_000_000
WARM_CYCLES = 40
LIMIT_S = 20.0

PREDICTOR = '''
import json
import pathlib

import numpy as np


class Predictor:
    """A model is an array of 2.5 MB and as much in Python's own objects: both kinds of memory have to come back."""

    def load_model(self, disk_path):
        number = json.loads((pathlib.Path(disk_path) / "value.json").read_text())
        rows = [{"id": row, "name": f"row {row} of {number}"} for row in range(10_000)]
        return number, np.full(312_500, float(number)), rows

    def predict(self, model):
        number, array, rows = model
        return {"number": number, "mean": float(array.mean()), "last": rows[-1]["name"]}
'''


def resident_bytes(server: ServerProcess) -> int:
    return sum(child.memory_info().rss for child in server.children())


@pytest.mark.slow
def test_resident_memory_after_400_cycles_is_what_it_was(tmp_path: Path, figure) -> None:
    models = tmp_path / "models"
    for number in range(MODELS):
        write_value(models, f"m{number}", 1, number)
    with running_server(
        tmp_path / "disk",
        model_dir=models,
        settle_time=0,
        predictor=write_predictor(tmp_path, PREDICTOR),
        model_cache_size=ROOM,
        disk_model_cache_size=MODELS,
        isolation="shared",
    ) as server:
        empty = resident_bytes(server)
        samples: list[int] = []
        for cycle, number in zip(range(CYCLES), itertools.cycle(range(MODELS)), strict=False):
            answer = server.predict(f"m{number}")
            assert answer.status == 200, answer.body
            assert answer.json == {"number": number, "mean": number, "last": f"row 9999 of {number}"}
            if cycle % 10 == 9:
                samples.append(resident_bytes(server))
        warm, late = max(samples[: WARM_CYCLES // 10]), max(samples[-WARM_CYCLES // 10 :])
        figure("loads", server.loads)
        figure("child, empty, MB", empty / 1e6)
        figure("child after 40 cycles, MB", warm / 1e6)
        figure("child after 400 cycles, MB", late / 1e6)
        figure("weights of one model as measured, MB", server.events("loaded")[-1]["bytes"] / 1e6)
        assert server.loads == CYCLES, "each request was to load anew"
        assert late < warm + ROOM * MODEL_BYTES
        for number in range(MODELS):
            assert server.request("POST", f"/models/m{number}/unload").status == 200
        # What is free is kept for the next load, until it has been quiet for a moment.
        end_s = time.monotonic() + LIMIT_S
        while resident_bytes(server) >= empty + ROOM * MODEL_BYTES and time.monotonic() < end_s:
            time.sleep(0.05)
        figure("child after all was unloaded, MB", resident_bytes(server) / 1e6)
        assert resident_bytes(server) < empty + ROOM * MODEL_BYTES
