"""What figures depend on: processor, system, versions, and what else the machine did. Printed with every run."""

from __future__ import annotations

import os
import platform
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
