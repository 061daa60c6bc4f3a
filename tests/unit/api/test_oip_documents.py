"""Configuration and statistics in Triton's shapes."""

from __future__ import annotations

import pytest

from hotset.api.oip_documents import config_type, configuration, statistics
from hotset.payload import DTYPES, Signature, TensorSpec
from hotset.status import Executions, VersionCounts, VersionState, VersionStatus

SIGNATURE = Signature("onnxruntime", (TensorSpec("x", None, (-1, 3)),), (TensorSpec("y", "BYTES", (-1,)),))


def test_a_first_size_that_varies_everywhere_is_the_batch() -> None:
    found = configuration("paris", SIGNATURE, max_batch=64)
    assert (found["name"], found["platform"], found["max_batch_size"]) == ("paris", "onnxruntime", 64)
    assert found["input"] == [{"name": "x", "data_type": "TYPE_FP64", "dims": [3]}]
    assert found["output"] == [{"name": "y", "data_type": "TYPE_STRING", "dims": []}]


@pytest.mark.parametrize("shape", [(4,), (4, -1), ()])
def test_else_there_is_none(shape: tuple[int, ...]) -> None:
    signature = Signature("onnxruntime", SIGNATURE.inputs, (TensorSpec("y", "FP32", shape),))
    found = configuration("paris", signature, max_batch=64)
    assert found["max_batch_size"] == 0
    assert [it["dims"] for it in (*found["input"], *found["output"])] == [[-1, 3], list(shape)]


def test_code_that_declares_nothing() -> None:
    found = configuration("paris", Signature("python"), max_batch=64)
    assert (found["max_batch_size"], found["input"], found["output"]) == (0, [], [])


def test_every_datatype_has_a_name() -> None:
    assert {config_type(datatype) for datatype in DTYPES} == {
        "TYPE_STRING",
        *(f"TYPE_{datatype}" for datatype in DTYPES if datatype != "BYTES"),
    }


def test_statistics_say_what_was_counted_and_nothing_else() -> None:
    version = VersionStatus("paris", 3, VersionState.READY, "memory", memory_bytes=4096, last_used_s=2.0)
    counts = VersionCounts(answered=7, answered_s=1.0, waited_s=0.25, failed=1, failed_s=0.5)
    executions = (Executions(1, 1, 0.125), Executions(3, 2, 0.1))
    found = statistics(version, counts, executions, now_s=1000.0)
    stats = found.pop("inference_stats")
    assert found == {
        "name": "paris",
        "version": "3",
        "last_inference": 998_000,
        "inference_count": 7,
        "execution_count": 3,
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": 0, "ns": 0},
                "compute_infer": {"count": count, "ns": ns},
                "compute_output": {"count": 0, "ns": 0},
            }
            for size, count, ns in ((1, 1, 125_000_000), (3, 2, 100_000_000))
        ],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": 4096}],
    }
    assert {name: (it["count"], it["ns"]) for name, it in stats.items()} == {
        "success": (7, 1_000_000_000),
        "fail": (1, 500_000_000),
        "queue": (7, 575_000_000),
        "compute_input": (0, 0),
        "compute_infer": (7, 425_000_000),
        "compute_output": (0, 0),
        "cache_hit": (0, 0),
        "cache_miss": (0, 0),
    }


@pytest.mark.parametrize("last_used_s", [None, 5.0])
def test_a_version_that_was_never_asked(last_used_s: float | None) -> None:
    version = VersionStatus("paris", 3, VersionState.UNAVAILABLE, "disk", last_used_s=last_used_s)
    found = statistics(version, VersionCounts(), now_s=1000.0)
    assert (found["last_inference"], found["memory_usage"]) == (0, [])
