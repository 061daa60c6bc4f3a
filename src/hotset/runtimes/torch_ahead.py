"""Importing this imports PyTorch, and what it imports itself when it reads a program. Done ahead of need, in a fork server.

No thread starts and no device is opened by it; each child sets its own threads, with its first load.
"""

from __future__ import annotations

import importlib
from contextlib import suppress

importlib.import_module("torch")
with suppress(ImportError):  # a version of PyTorch that has it elsewhere
    importlib.import_module("torch.export.pt2_archive._package")
