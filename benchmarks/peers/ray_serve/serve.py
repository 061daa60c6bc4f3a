"""Starts Ray and Ray Serve on this machine, as ``python serve.py PORT``, and stops both on SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading

import ray
from deployment import Models
from ray import serve
from ray.serve.config import HTTPOptions

QUIET = {"enable_access_log": False}


def main(port: int) -> None:
    """Serve until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port), logging_config=QUIET)
    serve.run(Models.bind(), logging_config=QUIET)
    while not ended.wait(1.0):
        pass
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
