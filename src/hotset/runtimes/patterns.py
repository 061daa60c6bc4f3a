"""Which of a version's files is the model, for formats that share their suffix with much else (``.json``, ``.txt``).

Pure; called by the runtimes of such formats. A pattern is a name in lower case, where ``*`` stands for anything. A
file of any other name is taken where ``model.yaml`` names the runtime and it is the only one that can be meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from hotset.errors import LoadFailedError
from hotset.runtimes.modelfile import listing
from hotset.signing.manifest import SIGNATURE_FILE


def matching(files: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the files whose name fits one of the patterns, hidden ones left out."""
    return sorted(
        file
        for file in files
        if (name := PurePosixPath(file).name)[0] != "."
        and any(fnmatchcase(name.lower(), pattern) for pattern in patterns)
    )


def choose_matching(files: Sequence[str], patterns: Sequence[str]) -> str:
    """Return the one file that fits; of several, the one named ``model``; if none fits, the only one that could.

    That is the only one with the suffix of a pattern, or else the only one of all.

    Raises:
        LoadFailedError: there is none, or it cannot be told which of several.
    """
    suffixes = {PurePosixPath(pattern).suffix for pattern in patterns}
    seen = [file for file in files if PurePosixPath(file).name[0] != "." and file != SIGNATURE_FILE]
    alike = [file for file in seen if PurePosixPath(file).suffix.lower() in suffixes]
    fitting = matching(files, patterns)
    preferred = [file for file in fitting if PurePosixPath(file).stem == "model"]
    for found in (fitting, preferred, alike, seen):
        if len(found) == 1:
            return found[0]
        if fitting and found is preferred:
            raise LoadFailedError(
                f"several model files, and not exactly one named model: {listing(fitting)}; keep one of them"
            )
    raise LoadFailedError(f"no model file; expected {' or '.join(patterns)}, found: {listing(files)}")
