"""What the Open Inference Protocol says of models, as plain data in the shapes of Triton's JSON: configuration, statistics, the index.

Pure; called by the doors of the protocol, which differ only in how they write it. There is no figure here that was not
counted: a key that clients expect, and of which nothing is known, is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from hotset.payload import ANY_NUMBER, Signature, TensorSpec
from hotset.status import Executions, ModelPage, VersionCounts, VersionState, VersionStatus

_NS: Final = 1e9
_NOTHING: Final = {"count": 0, "ns": 0}


def configuration(name: str, signature: Signature, *, max_batch: int) -> dict[str, Any]:
    """Return a model's configuration.

    Where every input and output has a first size that may vary, that is the batch: it is left out of ``dims``, and
    ``max_batch`` is how many rows are predicted at once at most. Else ``max_batch_size`` is 0, and ``dims`` are whole.
    """
    specs = (*signature.inputs, *signature.outputs)
    is_batched = bool(specs) and all(spec.shape and spec.shape[0] == -1 for spec in specs)
    return {
        "name": name,
        "platform": signature.platform,
        "backend": signature.platform,
        "version_policy": {"all": {}},
        "max_batch_size": max_batch if is_batched else 0,
        "input": [_tensor(spec, is_batched=is_batched) for spec in signature.inputs],
        "output": [_tensor(spec, is_batched=is_batched) for spec in signature.outputs],
        "model_transaction_policy": {"decoupled": signature.decoupled},
    }


def _tensor(spec: TensorSpec, *, is_batched: bool) -> dict[str, Any]:
    return {
        "name": spec.name,
        "data_type": config_type(spec.datatype),
        "dims": list(spec.shape[1:] if is_batched else spec.shape),
    }


def config_type(datatype: str | None) -> str:
    """Return the name that a datatype has in configurations."""
    datatype = datatype or ANY_NUMBER
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def statistics(
    version: VersionStatus, counts: VersionCounts, executions: Sequence[Executions] = (), *, now_s: float
) -> dict[str, Any]:
    """Return the statistics of one version; ``now_s`` is the time of day.

    ``compute_infer`` is what its executions took: decoding, predicting and encoding, which are not timed one by one. Each
    request counts with the whole of the execution that answered it. ``queue`` is the rest: the wait until the version was
    in memory, for a worker, and for the way there and back.
    """
    answered = counts.answered
    executed = sum(it.size * it.count for it in executions)
    executed_s = sum(it.size * it.seconds for it in executions)
    queued_s = max(counts.waited_s, counts.answered_s - executed_s)
    is_used = version.last_used_s is not None and answered + counts.failed > 0
    return {
        "name": version.name,
        "version": str(version.version),
        "last_inference": round((now_s - (version.last_used_s or 0.0)) * 1e3) if is_used else 0,
        "inference_count": answered,
        "execution_count": sum(it.count for it in executions),
        "inference_stats": {
            "success": _duration(answered, counts.answered_s),
            "fail": _duration(counts.failed, counts.failed_s),
            "queue": _duration(answered, queued_s),
            "compute_input": _NOTHING,
            "compute_infer": _duration(executed, executed_s),
            "compute_output": _NOTHING,
            "cache_hit": _NOTHING,
            "cache_miss": _NOTHING,
        },
        "batch_stats": [_batches(it) for it in executions],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": version.memory_bytes}]
        if version.memory_bytes
        else [],
    }


def _batches(executions: Executions) -> dict[str, Any]:
    return {
        "batch_size": executions.size,
        "compute_input": _NOTHING,
        "compute_infer": _duration(executions.count, executions.seconds),
        "compute_output": _NOTHING,
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * _NS)}


def index_rows(page: ModelPage, *, only_ready: bool) -> Iterator[dict[str, str]]:
    """Yield what the index of the model repository says of each version."""
    for model in page.models:
        for version in model.versions:
            if only_ready and version.state is not VersionState.READY:
                continue
            yield {
                "name": version.name,
                "version": str(version.version),
                "state": version.state.value,
                "reason": _reason(version),
            }


def _reason(version: VersionStatus) -> str:
    """Return why a version is in its state; one that is only not in memory is ``unloaded``, as Triton has it."""
    if version.state is VersionState.UNAVAILABLE and version.failure is None:
        return version.reason.replace("not in memory", "unloaded", 1)
    return version.reason
