"""Importing this imports Keras on TensorFlow as its adapter does. Done ahead of need, in a fork server.

No thread starts and no device is opened by it: TensorFlow makes its pools of threads when it first computes, in each child.
"""

from __future__ import annotations

from hotset.runtimes.keras_runtime import framework

framework()
