"""Importing this imports ONNX Runtime as its adapter does. Done ahead of need, in a fork server.

With its telemetry off, which the adapter sees to, the import starts no thread; each session makes its own.
"""

from __future__ import annotations

from hotset.runtimes.onnx_runtime import framework

framework()
