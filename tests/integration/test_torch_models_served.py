"""PyTorch models through a real server: imported once, before its children are forked, and evicted like any other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from graph_makers import TORCH_EXPORT, TORCHSCRIPT
from server_process import running_server

MAKE = f"""
import pathlib, sys
import numpy as np
LARGE = False
ROOT = pathlib.Path(sys.argv[1])
for city, source in {{"paris": {TORCH_EXPORT!r}, "rome": {TORCHSCRIPT!r}}}.items():
    MODEL = ROOT / city / "1"
    MODEL.mkdir(parents=True)
    exec(source)
np.save(ROOT.parent / "rows.npy", question["rows"])
np.save(ROOT.parent / "fare.npy", fare)
"""


@pytest.mark.slow
def test_both_formats_are_served_by_one_child_that_was_forked_with_pytorch(tmp_path: Path) -> None:
    models = tmp_path / "models"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MAKE, str(models)],
        check=True, timeout=150, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    rows, fare = np.load(tmp_path / "rows.npy"), np.load(tmp_path / "fare.npy")
    inputs = {"rows": rows.tolist(), "zone": list(range(5))}
    with (
        running_server(
            tmp_path / "disk",
            model_dir=models,
            settle_time=0,
            model_cache_size=1,
            processes_per_replica=1,
            isolation="shared",
        ) as server,
        httpx.Client(base_url=server.url, timeout=120) as http,
    ):
        for _ in range(3):
            for city, output in (("paris", "fare"), ("rome", "output_0")):
                answer = http.post(f"/models/{city}/predict", json={"inputs": inputs})
                assert answer.status_code == 200, answer.text
                np.testing.assert_allclose(answer.json()["outputs"][output], fare, rtol=1e-5)
        assert len(server.events("evicted")) == 5
        tensor = {"name": "rows", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
        wrong = http.post("/v2/models/paris/infer", json={"inputs": [tensor]})
        assert wrong.status_code == 400
        assert "input 'rows': expected the shape [-1, 3], found: [1, 2]" in wrong.text
        (forks,) = (it for it in psutil.Process(server.pid).children() if it.name() == "hotset-forks")
        assert any("libtorch" in file.path for file in forks.memory_maps())
        assert server.terminate() == 0
        assert server.left_behind() == []
