"""How a child lives with its parent and its neighbours: it dies with the parent, leaves signals to it, and gives way.

Called by ``child.py`` at its start. Where the system lacks one of these (they are Linux's), the child does without:
end of file on its control channel ends it too.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
from pathlib import Path
from typing import Final

from hotset import logs
from hotset.logs import LogFormat

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15

_OOM_SCORE: Final = 500
_MOST_OOM_SCORE: Final = 1000

LOADING_SWITCH_S: Final = 0.0002
"""A thread that loads gives the interpreter up after this long, where a prediction waits for it."""


def die_with_parent() -> None:
    """Have the system kill this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_before_the_parent() -> None:
    """Have the system end this process rather than its parent where memory runs out: raising one's own score needs no privilege.

    By half of all memory, and not by all of it: a child beside other programs' processes is not always the one to go.
    """
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):  # not Linux, or not allowed
        path.write_text(str(min(_MOST_OOM_SCORE, int(path.read_text()) + _OOM_SCORE)))


def call_process(name: str) -> None:
    """Give this process a name of at most 15 characters for ``ps`` and ``top``: a forked child has the command line
    of its fork server."""
    _prctl(_PR_SET_NAME, name.encode())


def _prctl(option: int, value: int | bytes) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(option, value, 0, 0, 0)


def forget_randomness() -> None:
    """Seed NumPy's own generator anew, so that forked children do not draw the same numbers; Python's does it itself."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def leave_signals_to_parent() -> None:
    """Ignore what a terminal or a service manager sends to the whole group: the gateway drains and then closes us.

    SIGTERM gets a handler that does nothing, and is not ignored, because what is ignored stays so in programs that
    the user's code starts. What the user's code forks (as ``multiprocessing`` does) can be ended with it. And whoever
    started the gateway may have SIGCHLD ignored, and then the user's code is not told how what it starts ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def log_to_stderr(level: str, log_format: LogFormat) -> None:
    """Log to the stderr that the parent gave us; a crash in native code leaves its Python stacks there too."""
    logs.configure(level, log_format, sys.stderr)
    with contextlib.suppress(ValueError, OSError):  # no usable stderr
        faulthandler.enable()


def favour_predictions(loading: bool) -> None:
    """Make threads switch more often while a load runs: each wait of a prediction for the interpreter is shorter.

    Not always: with several predict threads, switching costs throughput.
    """
    sys.setswitchinterval(LOADING_SWITCH_S if loading else 0.005)
