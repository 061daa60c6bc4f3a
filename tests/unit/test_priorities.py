"""What threads ask the system for. Each in a process of its own: a thread cannot take it back."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from hotset import priorities

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="priorities are asked of Linux alone")

ASK = """
import ctypes, json, os, struct, threading
from hotset import priorities

def slice_s():
    attributes = ctypes.create_string_buffer(48)
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    assert ctypes.CDLL(None).syscall(number, 0, attributes, 48, 0) == 0
    return struct.unpack("=IIQiIQQQ", attributes.raw)[5] / 1e9

def nice():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

seen = {"before": [nice(), slice_s()]}
if BATCH:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
priorities.go_first()
seen["first"] = [nice(), slice_s()]

def load():
    seen["inherited"] = [nice(), slice_s()]
    priorities.give_way()
    seen["loading"] = [nice(), slice_s()]

thread = threading.Thread(target=load)
thread.start()
thread.join()
seen["after"] = [nice(), slice_s()]
seen["policy"] = os.sched_getscheduler(0)
print(json.dumps(seen))
"""


def asked(*, batch: bool = False, nice: int = 0) -> dict[str, list[float]]:
    command = ["nice", "-n", str(nice), sys.executable, "-c", f"BATCH = {batch}\n{ASK}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


def test_a_thread_that_loads_gives_way_and_the_others_do_not() -> None:
    seen = asked()
    own = seen["before"][0]
    assert seen["first"][0] == seen["inherited"][0] == seen["after"][0] == own
    assert seen["loading"][0] == max(own, priorities.LOADING_NICE)


def test_a_lower_priority_that_the_server_was_started_with_stays() -> None:
    seen = asked(nice=12)
    assert {it[0] for name, it in seen.items() if name not in {"policy", "loading"}} == {seen["before"][0]}


@pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (6, 12)
    or platform.machine() not in {"x86_64", "aarch64"},
    reason="Linux knows slices since 6.12",
)
def test_slices_are_asked_for_and_inherited() -> None:
    seen = asked()
    assert seen["first"][1] == seen["inherited"][1] == seen["after"][1] == priorities.PROMPT_SLICE_S
    assert seen["loading"][1] == priorities.LOADING_SLICE_S


def test_another_policy_that_the_server_was_started_with_stays() -> None:
    import os

    assert asked(batch=True)["policy"] == os.SCHED_BATCH
