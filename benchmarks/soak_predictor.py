"""The user's code that the soak's server runs. It answers what a version's files tell, and what a server must never let happen.

``soak.py`` writes ``SOURCE`` into a file, with the journal's place in it. Every load and unload is a line of the journal, in the
order in which they happened in all children together: ``load PID NUMBER NAME VERSION REVISION`` once a model is there, ``unload
PID NUMBER`` before it goes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

PARTS: Final = 3
"""Files of a version. All of them tell the same, but where a version is torn."""

_SOURCE: Final = '''"""Answers what the version's files tell, and holds a MiB, so that a leak would show."""
import itertools
import json
import os
import pathlib
import time

numbers = itertools.count()


def note(*words):
    journal = os.open({journal!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, (" ".join(map(str, words)) + "\\n").encode())
    os.close(journal)


class Predictor:
    def load_model(self, disk_path):
        parts = [json.loads(file.read_text()) for file in sorted(pathlib.Path(disk_path).iterdir())]
        told = parts[0]
        time.sleep(told["load_s"])
        if told["version"] is None:
            raise ValueError("broken")
        is_torn = len(parts) != {parts} or any(part != told for part in parts)
        number = next(numbers)
        note("load", os.getpid(), number, told["name"], told["version"], told["revision"])
        return dict(told, number=number, torn=is_torn, unloaded=False, ballast=bytearray(1 << 20))

    def predict(self, model):
        was_unloaded = model["unloaded"]
        time.sleep(model["predict_s"])
        told = dict((part, model[part]) for part in ("name", "version", "revision", "torn"))
        return dict(told, unloaded=was_unloaded or model["unloaded"])

    def unload_model(self, model):
        model["unloaded"] = True
        note("unload", os.getpid(), model["number"])
'''


def source(journal: Path) -> str:
    """Return the code, with the place of its journal."""
    return _SOURCE.format(journal=str(journal), parts=PARTS)
