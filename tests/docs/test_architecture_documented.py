"""docs/architecture.md shows the layers that import-linter checks, and names modules that exist."""

from __future__ import annotations

import re
import tomllib

from doc_pages import ROOT, text_of
from hotset.errors import ErrorKind

CONTRACTS = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
LAYERS = next(item["layers"] for item in CONTRACTS if item.get("containers") == ["hotset"])


def test_the_layers_are_those_of_the_contract() -> None:
    table = text_of("docs/architecture.md").partition("<!-- layers")[2]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines() if row.startswith("| `")]
    assert rows == [re.findall(r"\w+", layer) for layer in LAYERS]


def test_modules_named_in_the_pages_exist() -> None:
    for page in ("architecture.md", "concurrency.md"):
        for path in re.findall(
            r"`((?:api|catalog|residency|tiers|workers|codecs|store)/\w+\.py)`", text_of(f"docs/{page}")
        ):
            assert (ROOT / "src" / "hotset" / path).exists(), f"{page}: {path}"


def test_every_error_kind_has_a_use_in_the_docs() -> None:
    api = text_of("docs/api.md")
    assert all(f"`{kind}`" in api for kind in ErrorKind)
