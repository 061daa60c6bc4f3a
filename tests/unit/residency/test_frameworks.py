"""Which frameworks are imported ahead, and by what they are known; the pool that is told is a list."""

from __future__ import annotations

import pytest

from hotset.catalog import ModelEntry, Snapshot, VersionEntry
from hotset.catalog.models import Models
from hotset.errors import StoreError
from hotset.events import Loaded
from hotset.keys import Fingerprint, ModelKey
from hotset.residency.frameworks import SAMPLES, Frameworks
from hotset.runtimes.ahead import Imports, imports_for_runtime
from hotset.testing import FakeStore

SKLEARN = imports_for_runtime("sklearn")
ONNX = imports_for_runtime("onnxruntime")


class Bench:
    def __init__(self) -> None:
        self.store = FakeStore()
        self.told: list[Imports] = []
        self.frameworks = Frameworks(self, store=self.store)

    def import_ahead(self, imports: Imports) -> None:
        self.told.append(imports)

    def is_shared(self, worker: int) -> bool:
        return worker < 9

    def snapshot(self, *files: str) -> Snapshot:
        """Put one model for each file into the store."""
        models = {}
        for number, file in enumerate(files):
            name = f"model-{number:02}"
            self.store.put(f"{name}/1/{file}", b"x")
            version = VersionEntry(ModelKey(name, 1), Fingerprint(f"{number:032x}"), f"{name}/1/", 1, 1, 0.0)
            models[name] = ModelEntry(name, (version,))
        return Snapshot(Models.of(models))


def loaded(runtime: str, worker: int = 1) -> Loaded:
    return Loaded(ModelKey("paris", 1), worker, runtime, 1, 0.1)


def test_what_is_loaded_into_a_process_of_its_own_is_imported_nowhere_else() -> None:
    bench = Bench()
    bench.frameworks.on_event(loaded("sklearn", worker=9))
    assert bench.told == []
    bench.frameworks.on_event(loaded("sklearn"))
    assert bench.told == [SKLEARN]


async def test_the_files_of_the_first_snapshot_tell() -> None:
    bench = Bench()
    await bench.frameworks.look_at(bench.snapshot("model.pkl"))
    assert bench.told == [SKLEARN]
    assert bench.frameworks.settled.is_set()


async def test_of_many_models_a_few_are_looked_at() -> None:
    bench = Bench()
    await bench.frameworks.look_at(bench.snapshot(*["model.pkl", "model.onnx", *["model.bin"] * 20]))
    assert bench.told == [SKLEARN, ONNX]
    assert bench.store.counts["list"] == SAMPLES


async def test_what_is_on_disk_is_enough() -> None:
    bench = Bench()
    bench.frameworks.see_files(["model.joblib"])
    assert bench.told == [SKLEARN]
    assert bench.frameworks.settled.is_set()
    await bench.frameworks.look_at(bench.snapshot("model.onnx"))
    assert bench.told == [SKLEARN]
    assert bench.store.counts["list"] == 0


async def test_each_is_told_once() -> None:
    bench = Bench()
    for runtime in ("sklearn", "sklearn", "onnxruntime", "predictor", "sklearn"):
        bench.frameworks.on_event(loaded(runtime))
    bench.frameworks.on_event("another event")
    assert bench.told == [SKLEARN, ONNX]


@pytest.mark.parametrize("files", [[], ["model.bin"]])
async def test_where_nothing_tells_that_is_settled_too(files: list[str]) -> None:
    bench = Bench()
    await bench.frameworks.look_at(bench.snapshot(*files))
    assert bench.told == []
    assert bench.frameworks.settled.is_set()


async def test_a_store_that_is_away_is_no_failure() -> None:
    bench = Bench()
    snapshot = bench.snapshot("model.pkl")
    bench.store.list_fault = StoreError("away")
    await bench.frameworks.look_at(snapshot)
    assert bench.told == []
    assert bench.frameworks.settled.is_set()
