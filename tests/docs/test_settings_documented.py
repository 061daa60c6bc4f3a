"""docs/configuration.md is what the table of settings says, to the letter."""

from __future__ import annotations

from pathlib import Path

import yaml

from hotset.config import TABLE, load_settings
from hotset.config_docs import markdown
from hotset.config_sources import flag_of, variable_of

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_configuration_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run: make docs"


def test_every_setting_is_documented_with_its_variable_and_flag() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in TABLE:
        assert f"| `{name}` |" in page
        assert f"`{variable_of(name)}`" in page
        assert f"`{flag_of(name)}`" in page


def test_the_settings_file_of_the_page_is_accepted(tmp_path: Path) -> None:
    blocks = PAGE.read_text(encoding="utf-8").split("```yaml\n")[1:]
    for block in blocks:
        file = tmp_path / "settings.yaml"
        file.write_text(block.split("```")[0])
        assert yaml.safe_load(file.read_text())
        load_settings(file, {}, {})
