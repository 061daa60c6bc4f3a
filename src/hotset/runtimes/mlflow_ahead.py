"""Importing this imports MLflow as its adapter does. Done ahead of need, in a fork server or in the background of a child.

It takes longer than a small model's load, and starts no threads.
"""

from __future__ import annotations

from hotset.runtimes.mlflow_runtime import framework

framework()
