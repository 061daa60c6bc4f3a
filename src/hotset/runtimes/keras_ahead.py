"""Importing this imports Keras on TensorFlow as its adapter does. Done ahead of need, in the background of a child.

Not in a fork server: the import starts threads, and a process with threads must not be forked.
"""

from __future__ import annotations

from hotset.runtimes.keras_runtime import framework

framework()
