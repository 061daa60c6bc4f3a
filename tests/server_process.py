"""``hotset serve`` as a real process, for any test: started on a free port, awaited with a limit, ended by its own id.

Knows nothing of pytest. Its log is JSON, in a file, so that a test can read what happened as events.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

START_LIMIT_S = 90.0
STOP_LIMIT_S = 45.0
POLL_S = 0.01
_LINE_BEGINS = '{"time":'


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What the server answered; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def version(self) -> int:
        return int(self.headers["x-model-version"])


@dataclass(slots=True)
class ServerProcess:
    """A running server. ``request`` opens a connection of its own each time; for load there is ``load_client``."""

    process: subprocess.Popen[bytes]
    log: Path
    disk_path: Path
    host: str = "127.0.0.1"
    port: int = 0
    known_children: dict[int, psutil.Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    # Asking

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 90.0,
    ) -> HttpAnswer:
        """Ask once; ``body`` goes as JSON unless it is bytes."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            given = {"Content-Type": "application/json"} | dict(headers or {})
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return HttpAnswer(answer.status, names, answer.read())
        finally:
            connection.close()

    def predict(self, model: str, body: object = None, **options: Any) -> HttpAnswer:
        """Ask a model; ``model`` may be ``name/versions/3``."""
        return self.request("POST", f"/models/{model}/predict", {} if body is None else body, **options)

    def status(self) -> Any:
        return self.request("GET", "/status").json

    def tier(self, name: str) -> Any:
        return next(tier for tier in self.status()["server"]["tiers"] if tier["tier"] == name)

    def models(self) -> dict[str, Any]:
        """Return every model of the catalog by name."""
        found: dict[str, Any] = {}
        after = ""
        while True:
            page = self.request("GET", f"/models?limit=1000&after={after}").json
            found |= {model["name"]: model for model in page["models"]}
            if page["next"] is None:
                return found
            after = page["next"]

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels; 0 if there are none."""
        text = self.request("GET", "/metrics").body.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def fetches(self) -> int:
        return int(self.metric("hotset_fetch_seconds_count"))

    @property
    def loads(self) -> int:
        return int(self.metric("hotset_load_seconds_count"))

    # Watching

    def lines(self) -> list[dict[str, Any]]:
        """Return every whole line of the log, also behind what a child that crashes has begun to write to the same file."""
        whole, _, _ = self.log.read_text("utf-8", "replace").rpartition("\n")
        starts = ((line, line.find(_LINE_BEGINS)) for line in whole.splitlines())
        return [json.loads(line[start:]) for line, start in starts if start >= 0]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("event") == name]

    def children(self) -> list[psutil.Process]:
        """Return the server's children that run now, those that hold models: not the fork server."""
        try:
            found = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self.known_children |= {child.pid: child for child in found}
        return [child for child in found if _is_worker(child)]

    def process_tree(self) -> list[psutil.Process]:
        """Return all processes below the server's own, the fork server too."""
        return psutil.Process(self.pid).children(recursive=True)

    def left_behind(self, limit_s: float = 10.0) -> list[psutil.Process]:
        """Return the children seen so far that still run ``limit_s`` from now; at once if none does."""
        _, alive = psutil.wait_procs(list(self.known_children.values()), timeout=limit_s)
        return alive

    def wait_until(self, condition: Any, *, limit_s: float, what: str) -> None:
        """Ask again and again until ``condition()`` is true."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {limit_s:g} s: {what}\n{self.tail()}")
            time.sleep(POLL_S)

    def wait_ready(self, limit_s: float = START_LIMIT_S) -> None:
        self.wait_until(self._is_ready, limit_s=limit_s, what="the server is ready")

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    # Ending

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.children()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_S)

    def kill(self) -> None:
        """Send SIGKILL and wait for the end, and for that of the children."""
        self.children()
        self.process.kill()
        self.process.wait()
        left = self.left_behind()
        if left:
            raise RuntimeError(f"children outlived their killed server: {left}")

    def _is_ready(self) -> bool:
        if not self.port:
            self.port = self._logged_port()
            if not self.port:
                return False
        try:
            return self.request("GET", "/health/ready", timeout_s=5.0).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _logged_port(self) -> int:
        for line in self.lines():
            message = str(line.get("message", ""))
            if line.get("logger") == "hotset.server" and message.startswith("serving "):
                return int(message.rpartition(":")[2])
        return 0


def _is_worker(process: psutil.Process) -> bool:
    """A forked child has the command line of its fork server, and a name of its own."""
    try:
        is_forked = "hotset.workers.forkserver" in process.cmdline()
        return process.status() != psutil.STATUS_ZOMBIE and (
            process.name() == "hotset-child" or not is_forked
        )
    except psutil.NoSuchProcess:
        return False


def start_server(
    disk_path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
    enter: Callable[[], None] | None = None,
    **settings: object,
) -> ServerProcess:
    """Start a server and return at once. ``settings`` are hotset's own, by name; ``enter`` is called in the new process."""
    flags = {"port": 0, "disk_path": disk_path, "log_format": "json", **settings}
    command = [sys.executable, "-m", "hotset", "serve"]
    if config is not None:
        command += ["--config", str(config)]
    for name, value in flags.items():
        text = value if isinstance(value, str | int | float | Path) else json.dumps(value)
        command += [f"--{name.replace('_', '-')}", str(text)]
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("HOTSET_", "AWS_"))
    }
    descriptor, log = tempfile.mkstemp(prefix="server-", suffix=".log", dir=disk_path.parent)
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=inherited | dict(environment or {}),
            preexec_fn=enter,  # noqa: PLW1509 - this is no program of many threads
        )
    return ServerProcess(process, Path(log), disk_path)


@contextmanager
def running_server(
    disk_path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
    await_ready: bool = True,
    enter: Callable[[], None] | None = None,
    **settings: object,
) -> Iterator[ServerProcess]:
    """Yield a ready server; afterwards it and its children are gone, whatever the test did."""
    server = start_server(disk_path, environment=environment, config=config, enter=enter, **settings)
    try:
        if await_ready:
            server.wait_ready()
        yield server
    finally:
        end(server)


def end(server: ServerProcess) -> None:
    """End a server in an orderly way, or by force after the limit. Safe to call twice."""
    server.children()
    try:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(STOP_LIMIT_S)
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        for child in server.left_behind():
            child.kill()
