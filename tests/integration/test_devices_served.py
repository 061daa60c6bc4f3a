"""A server on a machine with two devices, as far as it can tell: from outside, with its own driver code and real children."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from server_process import ServerProcess, running_server

FAKE = Path(__file__).parents[1] / "fake_nvml"
MIB = 1 << 20

PREDICTOR = """
import os, pathlib

ME = pathlib.Path(os.environ["FAKE_NVML"], os.environ["CUDA_VISIBLE_DEVICES"], str(os.getpid()))
CONTEXT = 300 << 20
taken = 0


def tell():
    new = ME.with_name(f".{os.getpid()}")
    new.write_text(str(CONTEXT + taken))
    new.replace(ME)


class Tensor:
    def __init__(self, bytes_):
        global taken
        taken += bytes_
        self.bytes = bytes_
        tell()

    def __del__(self):
        global taken
        taken -= self.bytes
        tell()


class Predictor:
    def load_model(self, disk_path):
        return Tensor(int((pathlib.Path(disk_path) / "bytes").read_text()) << 20)

    def predict(self, model):
        return {"device": os.environ["CUDA_VISIBLE_DEVICES"], "mib": taken >> 20}
"""


def metric(server: ServerProcess, device: str) -> float:
    return server.metric("hotset_device_bytes", device=device) / MIB


@pytest.mark.slow
def test_a_server_with_two_devices(tmp_path: Path):
    for device in ("GPU-aaaa", "GPU-bbbb"):
        (tmp_path / "nvml" / device).mkdir(parents=True)
    for number in range(6):
        folder = tmp_path / "models" / f"m{number}" / "1"
        folder.mkdir(parents=True)
        (folder / "bytes").write_text("400")
    (tmp_path / "predictor.py").write_text(PREDICTOR)
    settings: dict[str, Any] = {
        "model_dir": tmp_path / "models",
        "predictor": tmp_path / "predictor.py",
        "processes_per_replica": 2,
        "isolation": "shared",
        "settle_time": "0s",
        "model_cache_size": "{models: 50, device_bytes: 1000MiB}",
    }
    path = os.pathsep.join([str(FAKE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"FAKE_NVML": str(tmp_path / "nvml"), "PYTHONPATH": path}
    with running_server(tmp_path / "disk", environment=environment, **settings) as server:
        for _ in range(2):  # the first load of a process opens the device, and is weighed by its files
            answers = [server.predict(f"m{number}").json for number in range(6)]
        assert {answer["device"] for answer in answers} == {"GPU-aaaa", "GPU-bbbb"}
        devices = {it["device"]: it for it in server.tier("memory")["devices"]}
        assert {it["capacity_bytes"] for it in devices.values()} == {1000 * MIB}
        assert 0 < metric(server, "cuda:0") <= 1000
        assert 0 < metric(server, "cuda:1") <= 1000
        [version] = server.models()["m5"]["versions"]
        assert version["device_bytes"] == 400 * MIB
        for number in range(6):
            assert server.request("POST", f"/models/m{number}/unload").status == 200
        assert metric(server, "cuda:0") == metric(server, "cuda:1") == 0
        lines = [line["message"] for line in server.lines() if "cuda:" in str(line.get("message"))]
        assert any("cuda:1 is GPU-bbbb" in line for line in lines), server.tail()


def test_a_device_that_is_not_there_is_told_at_once(tmp_path: Path):
    with (
        pytest.raises(RuntimeError, match=r"found cuda:0, expected devices that are there"),
        running_server(tmp_path / "disk", model_dir=tmp_path, devices="cuda:0"),
    ):
        pass
