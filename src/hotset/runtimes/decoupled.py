"""Whether the user's ``predict`` says that it answers in parts. Called when a model of it is loaded, to declare it."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

_IN_PARTS: Final = re.compile(r"\b(Stream|(Async)?(Iterator|Generator))\b")


def answers_in_parts(predict: Any) -> bool:
    """Whether it has ``yield`` in it, or its annotation is that of something like it; it may return a whole answer all the same.

    One that says nothing of it may answer in parts too: that is seen when it does, and no sooner.
    """
    if inspect.isgeneratorfunction(predict) or inspect.isasyncgenfunction(predict):
        return True
    try:
        annotation = inspect.signature(predict).return_annotation
    except (TypeError, ValueError):
        return False
    return annotation is not inspect.Signature.empty and bool(_IN_PARTS.search(str(annotation)))
