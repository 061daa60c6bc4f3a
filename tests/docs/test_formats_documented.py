"""docs/formats.md: a row for every runtime, as it declares itself, and one for each of its options."""

from __future__ import annotations

import re

import pytest

from doc_pages import text_of
from hotset.runtimes.base import Runtime
from hotset.runtimes.options import RuntimeOptions
from hotset.runtimes.registry import RUNTIMES

PAGE = text_of("docs/formats.md")
ROWS = {
    cells[1]: cells
    for line in PAGE.partition("## model.yaml")[0].splitlines()
    if line.startswith("| `") and (cells := [cell.strip() for cell in line.strip("|").split("|")])
}


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda it: it.name)
def test_every_runtime_has_its_row(runtime: Runtime) -> None:
    files, _, extra, _ = ROWS[f"`{runtime.name}`"]
    assert re.findall(r"`([^`]+)`", files) == list(runtime.patterns)
    assert extra == (f"`{runtime.extra}`" if runtime.extra else "")


def test_no_row_is_of_anything_else() -> None:
    assert ROWS.keys() == {f"`{runtime.name}`" for runtime in RUNTIMES}


def test_what_is_said_of_code_is_so() -> None:
    for runtime in RUNTIMES:
        if runtime.name == "mlflow":  # as the model's flavor does
            continue
        said = ROWS[f"`{runtime.name}`"][3].partition(":")[0]
        needs = runtime.needs_pickle(None, ())  # type: ignore[arg-type]
        assert said.startswith("yes" if needs else "no"), runtime.name


def test_the_options_named_are_those_that_there_are(tmp_path: object) -> None:
    """A runtime tells what it knows where it is given something else."""
    section = PAGE.partition("### Options of the runtimes")[2].partition("\n## ")[0]
    for runtime in RUNTIMES:
        if runtime.name == "predictor":
            continue
        with pytest.raises(Exception, match=r"options\.no-such: found an unknown key") as caught:
            runtime.load(tmp_path, ["x"], RuntimeOptions(values={"no-such": 1}))  # type: ignore[arg-type]
        known = re.findall(r"\w+", str(caught.value).partition("expected one of: ")[2])
        for option in known:
            assert f"`{option}`" in section, f"{runtime.name}: {option}"
