"""Imports ahead of need: in a thread of a child, while nobody waits for them. Called by ``child.py`` and ``thread.py``.

A load that needs a module which is just being imported waits for the rest of that import, and not for all of it.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

from hotset.runtimes.reason import reason_of
from hotset.workers.reclaim import set_aside

_logger: Final = logging.getLogger(__name__)


def import_in_background(modules: Sequence[str], *, prepare: Callable[[], None] = lambda: None) -> None:
    """Import what is not imported yet, in a thread; ``prepare`` runs there first. What fails is the load's to tell."""
    missing = [module for module in modules if module not in sys.modules]
    if missing:
        threading.Thread(
            target=_import_all, args=(missing, prepare), name="hotset-import", daemon=True
        ).start()


def _import_all(modules: Sequence[str], prepare: Callable[[], None]) -> None:
    prepare()
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - a module may raise anything while it is imported
            _logger.debug("%s was not imported ahead: %s", module, reason_of(error))
    set_aside()
