"""What figures depend on: processor, system, versions, and what else the machine did. Printed with every run."""

from __future__ import annotations

import os
import platform
import resource
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

PACKAGES: Final = (
    "hotset",
    "uvicorn",
    "uvloop",
    "httptools",
    "msgspec",
    "numpy",
    "scikit-learn",
    "joblib",
    "obstore",
)


def described() -> dict[str, str]:
    """Return the machine and the versions, in words."""
    memory = psutil.virtual_memory().total / (1 << 30)
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores, {memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, {platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


class Others:
    """What part of all processors went to processes that this run did not start, since it was made.

    Where it is much, absolute figures are of little use, and ratios of short rounds are not to be trusted.
    """

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._busy_s = _busy_s()
        self._own_s = _own_s()

    def share(self) -> float:
        passed_s = (time.monotonic() - self._started_s) * (os.cpu_count() or 1)
        others_s = (_busy_s() - self._busy_s) - (_own_s() - self._own_s)
        return max(0.0, others_s / max(passed_s, 1e-9))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "steal", 0.0))


def _own_s() -> float:
    """Return the processor time of this process and of all that it started and that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def load_average() -> str:
    """Return how many processes ran or wanted to, over 1, 5 and 15 minutes."""
    return ", ".join(f"{it:.1f}" for it in os.getloadavg())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
