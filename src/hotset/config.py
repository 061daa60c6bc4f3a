"""The settings of one replica, checked: from the file, the environment, the command line and what a platform says.

Called by the command line and by embedders, once, at start. It reads the settings' file and nothing else: no
``os.environ``, no network, no look at whether the things named exist. A wrong key or value is refused, all of them
in one ``ConfigError``, each on a line with where it stands, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError, model_validator
from pydantic.fields import FieldInfo

from hotset.config_conflicts import conflicts, source_conflicts
from hotset.config_cortex import from_cortex
from hotset.config_kinds import Kind, WrongValueError
from hotset.config_sources import Given, from_environment, from_file, from_flags, from_platform
from hotset.config_table import SettingsTable
from hotset.errors import ConfigError


class Settings(SettingsTable):
    """All settings of one replica, checked. Frozen; safe to share."""

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        found = list(conflicts(self))
        if found:
            raise ValueError("\n".join(found))
        return self


TABLE: Final[Mapping[str, FieldInfo]] = Settings.model_fields
"""Every setting by name, in the order of the docs."""


def kind_of(name: str) -> Kind:
    """Return the kind of a setting's values."""
    return next(item for item in TABLE[name].metadata if isinstance(item, Kind))


def load_settings(file: Path | None, env: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Return the settings: flags before environment before what a platform says before file before defaults.

    ``flags`` are by the settings' names, None where not given. An empty variable and an empty key in the file count
    as not given. ``model_dir`` and ``models`` are one choice: giving one of them replaces the other from below.

    Raises:
        ConfigError: with one line for each thing that is wrong.
    """
    problems: list[str] = []
    given: dict[str, Given] = {}
    layers: list[dict[str, Given]] = [
        from_file(file, TABLE, problems),
        from_platform(env),
        from_environment(env, TABLE, problems),
        from_flags(flags),
    ]
    cortex = next((layer["cortex"] for layer in reversed(layers) if "cortex" in layer), None)
    if cortex is not None:
        layers.insert(0, from_cortex(cortex, problems))
    for layer in layers:
        for one, other in (("model_dir", "models"), ("models", "model_dir")):
            if one in layer and other not in layer:
                given.pop(other, None)
        given.update(layer)
    settings = _validated(given, problems)
    if settings is None or problems:
        raise ConfigError("\n".join(problems))
    return settings


def _validated(given: Mapping[str, Given], problems: list[str]) -> Settings | None:
    try:
        return Settings(**{name: item.value for name, item in given.items()})
    except ValidationError as error:
        found = error.errors(include_url=False)
    for item in found:
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, WrongValueError):
            place = given[str(item["loc"][0])].place
            problems.extend(f"{place}{wrong.path}: {wrong}" for wrong in (cause, *cause.others))
        else:
            problems.extend(str(cause or item["msg"]).splitlines())
    if any(item["loc"] for item in found):
        # pydantic did not come to compare the settings with each other; what needs no values is said all the same.
        problems.extend(
            source_conflicts(
                has_dir="model_dir" in given, has_models="models" in given, sagemaker="sagemaker" in given
            )
        )
    return None
