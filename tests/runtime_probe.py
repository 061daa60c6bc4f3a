"""Run as a program, by ``contract/test_runtimes_served.py``: ``runtime_probe.py CASE FOLDER``. In turn, each in a process that it
forks before any framework is imported, but for the last, which goes on in the first:

* ``make``: run the case's maker; save its models, what to ask them and what they say.
* ``without``: load the model where the framework cannot be imported; keep the error.
* ``serve``: load the model in a host with the standard kit, as a child does, ask it over the Open Inference Protocol, ask it
  wrongly, unload it, load the large one again and again; print a report as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from hotset.codecs.rawtensors import write_tensor
from hotset.errors import HotsetError
from hotset.payload import datatype_of
from hotset.workers.base import LoadSpec, PredictCall
from hotset.workers.heap import keep_freed_heap, trim_heap
from hotset.workers.host import Host
from hotset.workers.reclaim import collect_all
from hotset.workers.standard import standard_kit
from runtime_cases import CASES, Case

CYCLES = 8


def make(case: Case, folder: Path) -> None:
    for name, large in (("model", False), ("large", True)):
        model = folder / name
        model.mkdir(parents=True)
        made: dict[str, Any] = {"MODEL": model, "LARGE": large, "np": np, "__name__": "maker"}
        exec(compile(case.maker, "maker", "exec"), made)
        if not large:
            np.savez(folder / "question.npz", **made["question"])
            np.savez(folder / "answers.npz", **made["answers"])


def tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    data = [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    return {"name": name, "shape": array.shape, "datatype": datatype_of(array), "data": data}


def ask(host: Host, handle: int, inputs: list[Any], outputs: tuple[str, ...] = ()) -> dict[str, Any]:
    body: dict[str, Any] = {"inputs": inputs}
    if outputs:
        body["outputs"] = [{"name": name} for name in outputs]
    try:
        answer = host.predict(PredictCall(handle, "oip", json.dumps(body).encode()))
    except HotsetError as error:
        return {"error": str(error), "kind": str(error.kind)}
    return {"outputs": json.loads(bytes(answer.body))["outputs"]}


def ask_binary(
    host: Host, handle: int, arrays: dict[str, np.ndarray], outputs: tuple[str, ...]
) -> dict[str, Any]:
    """Ask with inputs as raw bytes: the model gets arrays that lie in the request, and cannot be written to."""
    inputs, parts = [], []
    for name, array in arrays.items():
        part = bytes(write_tensor(array, datatype_of(array), name))
        parts.append(part)
        inputs.append(tensor(name, array) | {"parameters": {"binary_data_size": len(part)}})
        del inputs[-1]["data"]
    head = json.dumps({"inputs": inputs, "outputs": [{"name": name} for name in outputs]}).encode()
    head += b" " * (-len(head) % 8)
    headers = (("inference-header-content-length", str(len(head))),)
    try:
        answer = host.predict(PredictCall(handle, "oip", head + b"".join(parts), headers=headers))
    except HotsetError as error:
        return {"error": str(error), "kind": str(error.kind)}
    return {"outputs": json.loads(bytes(answer.body))["outputs"]}


def unload(host: Host, handle: int) -> None:
    host.retire(handle, lambda held: host.release(held) if held is not None else None)
    host.reclaim(quiet=False)


def resident(process: psutil.Process) -> int:
    gc.collect()
    collect_all()
    trim_heap()
    return int(process.memory_info().rss)


def grown(host: Host, folder: Path) -> int:
    """How much memory stays after so many loads and unloads, beyond what the first ones took for good."""
    process = psutil.Process()
    before = 0
    for number in range(CYCLES + 2):
        host.load(LoadSpec(100 + number, "large", 1, str(folder / "large")))
        unload(host, 100 + number)
        if number == 1:
            before = resident(process)
    return resident(process) - before


def in_circles(host: Host, folder: Path) -> list[str]:
    """Return what of hotset's own the collector alone frees once a model is unloaded. What is in a circle waits for it, and
    with it the model, of which the collector sees three objects where it has megabytes."""
    collect_all()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    host.load(LoadSpec(99, "large", 1, str(folder / "large")))
    host.retire(99, lambda held: host.release(held) if held is not None else None)
    gc.collect()
    gc.set_debug(0)
    found = sorted({kind for it in gc.garbage if (kind := type(it).__module__).startswith("hotset.")})
    gc.garbage.clear()
    gc.enable()
    return found


def serve(case: Case, folder: Path) -> dict[str, Any]:
    host = Host(standard_kit(None, {}))
    with np.load(folder / "question.npz", allow_pickle=True) as saved:
        question = dict(saved)
    right = [tensor(name, array) for name, array in question.items()]
    reply = host.load(LoadSpec(1, "paris", 1, str(folder / "model")))
    report: dict[str, Any] = {
        "runtime": reply.runtime,
        "platform": reply.signature.platform,
        "inputs": [spec.name for spec in reply.signature.inputs],
        "outputs": [spec.name for spec in reply.signature.outputs],
        "bytes": reply.bytes,
        "answer": ask(host, 1, right, case.outputs),
        "wrong": [],
    }
    for wrong in case.wrong:
        mended = [one for one in right if one["name"] not in wrong.inputs]
        mended += [{"name": name, **value} for name, value in wrong.inputs.items() if value is not None]
        report["wrong"].append(ask(host, 1, mended))
    report["no_output"] = ask(host, 1, right, ("no-such-output",))
    report["binary"] = ask_binary(host, 1, question, case.outputs)
    report["again"] = ask(host, 1, right, case.outputs)
    unload(host, 1)
    report["after_unload"] = ask(host, 1, right)
    report["grown"] = grown(host, folder)
    report["in_circles"] = in_circles(host, folder)
    return report


def without(case: Case, folder: Path) -> None:
    keep_freed_heap()
    sys.modules.update(dict.fromkeys(case.without))
    found = {"error": "", "kind": ""}
    try:
        Host(standard_kit(None, {})).load(LoadSpec(1, "paris", 1, str(folder / "model")))
    except HotsetError as error:
        found = {"error": str(error), "kind": str(error.kind)}
    (folder / "without.json").write_text(json.dumps(found))


def apart(work: Callable[[Case, Path], None], case: Case, folder: Path) -> None:
    """Do it in a process of its own, and end as it does if it fails."""
    if (pid := os.fork()) == 0:
        status = 1
        try:
            work(case, folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)  # frameworks may leave threads behind
    _, ended = os.waitpid(pid, 0)
    if ended:
        sys.exit(f"{work.__name__} ended with status {os.waitstatus_to_exitcode(ended)}")


def main(name: str, place: str) -> None:
    case, folder = CASES[name], Path(place)
    apart(make, case, folder)
    apart(without, case, folder)
    # As a child does before anything else. Without it each thread has a heap of its own, and a trim does not give back the
    # free end of those: up to three freed models of 6 MB were counted, now and then, while what malloc had given out was constant.
    keep_freed_heap()
    report = serve(case, folder)
    report["without"] = json.loads((folder / "without.json").read_text())
    print(json.dumps(report), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
