"""What a model takes of a worker's device: measured across its load, given back at its end, by fakes and in a real child."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import leaks
from hotset.config import load_settings
from hotset.devices import Bound
from hotset.errors import ConfigError, HotsetError, LoadFailedError
from hotset.keys import DiskFile, parse_ref
from hotset.nvml import Nvml
from hotset.payload import Signature
from hotset.replica import Replica
from hotset.runtimes.modelyaml import ModelOptions
from hotset.runtimes.options import CPU, Device, RuntimeOptions
from hotset.testing import FakeDriver, FakeMeter, FakeStore
from hotset.workers import light
from hotset.workers.base import LoadSpec
from hotset.workers.cuda import CudaMeter
from hotset.workers.devicehost import DeviceHost
from hotset.workers.devices import Growth, WorkerDevice, bind
from hotset.workers.heap import HeapMeter
from hotset.workers.kit import Choice, Kit
from hotset.workers.standard import OneRuntime
from worker_fakes import FakeRuntime, FakeTensorServable, RawCodec

SECOND = Bound(1, "GPU-b", "hotset.testing:FakeMeter")


@pytest.fixture(autouse=True)
def nothing_taken() -> None:
    FakeMeter.taken = FakeMeter.kept = 0


# Which device, and how much of it


def test_a_process_is_bound_before_anything_asks_what_there_is():
    environment: dict[str, str] = {"CUDA_VISIBLE_DEVICES": "3"}
    bind(SECOND, environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": "GPU-b"}


def test_a_meter_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"makes a meter, found 'hotset\.nowhere:Meter'"):
        bind(Bound(0, "GPU-a", "hotset.nowhere:Meter"), {})


def choice(device: Device) -> Choice:
    options = ModelOptions(runtime_options=RuntimeOptions(device))
    return Choice(FakeRuntime(lambda _path: pytest.fail("not loaded")), [], options)


@pytest.mark.parametrize("device", [Device("cuda"), Device("cuda", 1)])
def test_within_a_process_its_device_is_the_first(device: Device):
    here = WorkerDevice(SECOND, FakeMeter("GPU-b")).here(choice(device))
    assert here.options.runtime_options.device == Device("cuda", 0)


def test_another_device_is_refused_and_the_processor_stays_the_processor():
    bound = WorkerDevice(SECOND, FakeMeter("GPU-b"))
    on_cpu = choice(CPU)
    assert bound.here(on_cpu) is on_cpu
    with pytest.raises(
        LoadFailedError, match=r"found cuda:0, expected cuda:1, which this worker has, or cuda"
    ):
        bound.here(choice(Device("cuda", 0)))


def test_growth_while_two_loads_overlap_is_shared_and_its_sum_is_right():
    now = [100]
    growth = Growth(lambda: now[0])
    one = growth.begin()
    now[0] += 10
    two = growth.begin()
    now[0] += 20
    assert growth.end(one) == 20
    now[0] += 5
    assert growth.end(two) == 15


# A host that is bound


class OnDevice:
    """A model that takes device memory; its ``close`` gives it back, at once or through a cycle."""

    signature = Signature("fake")
    wants = frozenset({"payload"})

    def __init__(self, bytes_: int, *, in_cycle: bool = False) -> None:
        self.bytes = bytes_
        self.tensor: Any = Tensor(bytes_)
        if in_cycle:
            self.tensor.itself = self.tensor

    def predict(self, payload: bytes, _meta: object) -> bytes:
        return payload

    def close(self) -> None:
        self.tensor = None


class Tensor:
    def __init__(self, bytes_: int) -> None:
        self.bytes = bytes_
        self.itself: Tensor | None = None
        FakeMeter.take(bytes_)

    def __del__(self) -> None:
        FakeMeter.drop(self.bytes)


def host_of(make: Any, *, device: Device = CPU) -> DeviceHost:
    runtime, asked = FakeRuntime(make), ModelOptions(runtime_options=RuntimeOptions(device))
    source = SimpleNamespace(choice_for=lambda _spec, files: Choice(runtime, files, asked))
    kit = Kit(OneRuntime(runtime) if device is CPU else source, lambda _name: RawCodec())
    second = WorkerDevice(SECOND, FakeMeter("GPU-b"))
    return DeviceHost(second, kit, meter=HeapMeter(), max_batch=1, max_body_bytes=1000)


def spec(tmp_path: Path, handle: int = 1) -> LoadSpec:
    file = tmp_path / "model.bin"
    if not file.exists():
        file.write_bytes(b"x" * 10)
    files = (DiskFile("model.bin", 10, file.stat().st_mtime_ns),)
    return LoadSpec(handle, "paris", 1, str(tmp_path), weight=5000, files=files)


def unload(host: DeviceHost, handle: int) -> None:
    retired: list[Any] = []
    host.retire(handle, retired.append)
    host.release(retired[0])


@pytest.mark.parametrize("in_cycle", [False, True])
def test_a_load_says_what_it_takes_and_an_unload_leaves_nothing(tmp_path: Path, in_cycle: bool):
    host = host_of(lambda _path: OnDevice(700, in_cycle=in_cycle))
    gc.disable()
    try:
        reply = host.load(spec(tmp_path))
        assert (reply.device_bytes, reply.is_light) == (700, False)
        assert FakeMeter.taken == 700
        unload(host, 1)
        assert (FakeMeter.taken, FakeMeter.kept) == (0, 0)
    finally:
        gc.enable()


def test_a_model_of_the_processor_takes_nothing(tmp_path: Path):
    host = host_of(lambda _path: OnDevice(0))
    assert host.load(spec(tmp_path)).device_bytes == 0
    FakeMeter.kept = 9
    unload(host, 1)
    assert FakeMeter.kept == 9  # nothing was asked to be given back for its sake


def test_a_load_that_fails_leaves_nothing(tmp_path: Path):
    def fails(_path: Path) -> Any:
        OnDevice(700)
        raise ValueError("broken")

    host = host_of(fails)
    with pytest.raises(LoadFailedError, match="broken"):
        host.load(spec(tmp_path))
    assert (FakeMeter.taken, FakeMeter.kept) == (0, 0)
    host = host_of(lambda _path: OnDevice(5))
    assert host.load(spec(tmp_path)).device_bytes == 5


def test_a_light_model_that_takes_device_memory_is_never_loaded_in_between(tmp_path: Path):
    host = host_of(lambda _path: OnDevice(7))
    for handle in (1, 2):
        host.load(spec(tmp_path, handle))
        assert not host.is_light(spec(tmp_path, handle))
        unload(host, handle)


def test_a_light_model_that_names_its_device_is_loaded_there_each_time(tmp_path: Path, monkeypatch: Any):
    """Regression: the second load of one that was found to take nothing was told the device once more, and refused."""
    monkeypatch.setattr(light, "LIGHT_LOAD_S", 60.0)
    monkeypatch.setattr(light, "LIGHT_WAIT_S", 60.0)
    host = host_of(lambda _path: FakeTensorServable(), device=Device("cuda", 1))
    assert host.load(spec(tmp_path)).is_light
    assert host.load(spec(tmp_path, 2)).is_light


# What CUDA says


class FakeCuda:
    """PyTorch's and the driver's books of one process."""

    def __init__(self) -> None:
        self.opened = False
        self.allocated = self.reserved = self.others = 0
        self.tells = True

    def is_initialized(self) -> bool:
        return self.opened

    def memory_allocated(self, _device: int) -> int:
        return self.allocated

    def memory_reserved(self, _device: int) -> int:
        return self.reserved

    def empty_cache(self) -> None:
        self.reserved = self.allocated

    def taken_by(self, _pid: int, _id: str) -> int | None:
        return self.reserved + self.others if self.tells else None

    def taken(self, _id: str) -> int:
        return 1000 + self.reserved + self.others


def meter(cuda: FakeCuda, *, has_torch: bool = True) -> CudaMeter:
    torch = SimpleNamespace(cuda=cuda) if has_torch else SimpleNamespace()
    return CudaMeter("GPU-a", driver=cuda, torch=torch)


def test_pytorchs_tensors_count_to_the_byte_and_not_its_cache_or_the_context():
    cuda = FakeCuda()
    it = meter(cuda)
    assert it.in_use() == 0
    cuda.opened, cuda.allocated, cuda.reserved, cuda.others = True, 30, 100, 500
    assert not it.settle()
    assert it.in_use() == 30
    cuda.allocated = 0
    assert it.in_use() == 0
    it.give_back()
    assert cuda.reserved == 0


def test_what_other_libraries_take_counts_once_the_device_was_opened():
    cuda = FakeCuda()
    it = meter(cuda, has_torch=False)
    assert it.in_use() == 0
    cuda.others = 520  # a context, and the first model
    assert it.settle()
    assert it.in_use() == 0
    cuda.others += 40
    assert it.in_use() == 40
    assert not it.settle()
    cuda.others -= 40
    assert it.in_use() == 0
    it.give_back()


def test_where_the_driver_does_not_tell_processes_apart_the_whole_device_counts():
    cuda = FakeCuda()
    cuda.tells = False
    it = meter(cuda)
    cuda.opened, cuda.others = True, 500
    it.settle()
    cuda.others += 60
    assert it.in_use() == 60


def test_a_driver_that_knows_the_process_only_once_it_has_opened_the_device():
    cuda = FakeCuda()
    cuda.tells = False
    it = meter(cuda, has_torch=False)
    it.settle()  # a model of the processor: others are on the device
    cuda.tells, cuda.others = True, 510
    assert it.in_use() == 0
    assert it.settle()
    cuda.others += 30
    assert it.in_use() == 30


def test_where_the_device_is_opened_by_a_load_its_files_say_what_it_takes():
    cuda = FakeCuda()
    bound = WorkerDevice(SECOND, meter(cuda, has_torch=False))
    mark = bound.begin()
    cuda.others = 500
    assert bound.end(mark, estimate=33) == 33
    mark = bound.begin()
    cuda.others += 44
    assert bound.end(mark, estimate=33) == 44


def test_without_a_driver_there_are_no_devices():
    driver = Nvml()
    if driver.devices():
        pytest.skip("there is one")
    assert driver.device("GPU-a") is None
    assert driver.taken_by(1, "GPU-a") is None
    assert driver.taken("GPU-a") == 0
    driver.close()


# A real replica with real children, on a fake device

PREDICTOR = """
import json, os
from hotset.testing import FakeMeter


class OutOfMemoryError(RuntimeError):
    __module__ = "torch"


class Tensor:
    def __init__(self, bytes_):
        self.bytes = bytes_
        FakeMeter.take(bytes_)

    def __del__(self):
        FakeMeter.drop(self.bytes)


class Predictor:
    def load_model(self, disk_path):
        return Tensor(int(open(os.path.join(disk_path, "bytes")).read()))

    def predict(self, model, payload):
        if FakeMeter.taken > payload["limit"]:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 138.00 MiB.")
        return {"sees": os.environ["CUDA_VISIBLE_DEVICES"], "taken": FakeMeter.taken, "kept": FakeMeter.kept}
"""


@pytest.mark.slow
async def test_a_replica_with_children_on_two_devices(tmp_path: Path):
    store = FakeStore()
    for number in range(6):
        store.put(f"m{number}/1/bytes", b"400")
    (tmp_path / "predictor.py").write_text(PREDICTOR)
    given = {
        "model_dir": "unused",
        "disk_path": str(tmp_path / "disk"),
        "predictor": str(tmp_path / "predictor.py"),
        "processes_per_replica": 2,
        "isolation": "shared",
        "model_cache_size": "{models: 50, device_bytes: 1000}",
        "settle_time": 0,
        "sync_interval": 0,
        "shared_memory_size": 0,
    }
    replica = Replica(load_settings(None, {}, given), store=store, driver=FakeDriver(10**9, 10**9))
    leaks.managers.add(replica.manager)
    await replica.start()
    try:
        await replica.sync.first_pass.wait()

        async def ask(name: str, limit: int = 10**9) -> dict[str, Any]:
            answer = await replica.dataplane.infer(
                parse_ref(name, None),
                protocol="test",
                codec="native",
                body=json.dumps({"limit": limit}).encode(),
            )
            found: dict[str, Any] = json.loads(answer.encoded.body)
            return found

        seen = [await ask(f"m{number}") for number in range(6)]
        assert {it["sees"] for it in seen} == {"GPU-0", "GPU-1"}
        assert max(it["taken"] for it in seen) == 800
        assert replica.memory.usage.device_bytes == (800, 800)
        assert {it.device_bytes for it in replica.disk.records()} == {400}
        together = await asyncio.gather(*(ask(f"m{number}") for number in range(6)))
        assert max(it["taken"] for it in together) <= 1000
        replica.memory.check_invariants()
        # One too many for a prediction: what lies idle beside it leaves, and it is answered.
        await ask("m5")
        assert (await ask("m5", limit=400))["taken"] == 400
        with pytest.raises(HotsetError) as caught:
            await ask("m5", limit=100)
        assert caught.value.kind == "out_of_memory"
    finally:
        await replica.stop()
    assert replica.memory.usage == (0, 0, ())
