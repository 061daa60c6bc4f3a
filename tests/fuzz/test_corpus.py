"""What fuzzing begins with, and what it once found, without the fuzzer: each input is read, or refused as documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


def found(name: str) -> list[Path]:
    return sorted((CORPUS / name).glob("*"))


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_known_breaks_nothing(name: str) -> None:
    target = TARGETS[name]
    assert target.seeds
    for data in (b"", b"\0", *target.seeds, *(path.read_bytes() for path in found(name))):
        target.run(data)
        target.run(data[: len(data) // 2])
        target.run(data + data)


def test_every_input_that_was_found_has_its_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} - set(TARGETS) <= {"README.md"}
