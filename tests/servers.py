"""Real S3 servers as processes of their own, for any test: rclone's ``serve s3`` and moto's. Knows nothing of pytest.

Each is started on a port that the system chooses, awaited with a limit, and ended by its own process id.
"""

from __future__ import annotations

import ctypes
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
ACCESS_KEY = "HOTSETTESTACCESSKEY0"
SECRET_KEY = "hotset-test-secret-key-0123456789abcdef"
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that answers at ``endpoint``; buckets are made with ``make_bucket``."""

    endpoint: str
    process: subprocess.Popen[bytes]
    directory: Path | None = None

    @property
    def options(self) -> Mapping[str, str]:
        """What ``open_store`` takes as options."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "region": "us-east-1",
        }

    @property
    def environment(self) -> Mapping[str, str]:
        """The same as environment variables, for a server that is started as a process."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> str:
        """Make an empty bucket and return its URL."""
        if self.directory is not None:
            (self.directory / name).mkdir()
        else:
            request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
            with urllib.request.urlopen(request, timeout=10):
                pass
        return f"s3://{name}"


@contextmanager
def rclone_s3(
    directory: Path, *, dir_cache_time: str = "0s", key: tuple[str, str] = (ACCESS_KEY, SECRET_KEY)
) -> Iterator[S3Server]:
    """Serve ``directory``, each folder of it a bucket: what is written to the folder is in the bucket at once.

    Without its cache rclone reads each folder again for every object below it: two thousand objects take it ten
    seconds to list, and half a second with ``dir_cache_time="1s"``, at the price of an answer that may be so old.
    """
    command = [
        _program("rclone"),
        "serve",
        "s3",
        str(directory),
        *("--addr", "127.0.0.1:0"),
        *("--auth-key", ",".join(key)),
        *("--vfs-cache-mode", "off"),
        *("--dir-cache-time", dir_cache_time),
        *("--config", ""),
    ]
    with _started(command, rb"server on \[(http://127\.0\.0\.1:\d+)/?\]") as (process, endpoint):
        yield S3Server(endpoint=endpoint, process=process, directory=directory)


@contextmanager
def moto_s3() -> Iterator[S3Server]:
    """An S3 in memory that obeys ranges and ``If-Match``, and checks no signature."""
    command = [_program("moto_server"), "-H", "127.0.0.1", "-p", "0"]
    with _started(command, rb"Running on (http://127\.0\.0\.1:\d+)") as (process, endpoint):
        yield S3Server(endpoint=endpoint, process=process)


def _end_with_parent() -> None:
    """Have the system end this process when its parent is killed, which no ``finally`` would notice."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


@contextmanager
def _started(command: Sequence[str], ready: bytes) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    # A file and not a pipe: nobody reads on, and a full pipe would stop the server.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  (one system call, and no lock taken)
        )
        try:
            yield process, _await_endpoint(process, Path(f"/proc/self/fd/{output.fileno()}"), ready)
        finally:
            _stop(process)


def _await_endpoint(process: subprocess.Popen[bytes], output: Path, ready: bytes) -> str:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        text = output.read_bytes()
        match = re.search(ready, text)
        if match is not None:
            return match[1].decode()
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {text.decode()}")
        time.sleep(0.02)
    raise TimeoutError(f"{process.args!r} was not ready in {START_LIMIT_S} s: {output.read_bytes().decode()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
