"""The table of settings for readers: a JSON Schema for editors and the page docs/configuration.md.

Called by ``hotset config schema`` and ``hotset config docs``. Pure: both follow from the table in ``config``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from hotset.config import TABLE, kind_of
from hotset.config_sources import flag_of, variable_of
from hotset.config_values import Preload

_START: Final = """\
<!-- Written by `make docs` from the table in src/hotset/config_table.py; change that and not this page. -->

# Configuration

A setting is given on the command line, in the environment, or in a YAML file; where it is given twice, the command
line goes before the environment and the environment before the file. Only one setting is required: `model_dir`, or
`models` in its place.

```yaml
# settings.yaml
model_dir: s3://city-models/prod      # each <name>/<version>/… below it
predictor: predictor.py               # without it, the runtime is detected from each model's files
model_cache_size: 100                 # in memory
disk_model_cache_size: {models: 1000, bytes: 50GiB}
sync_interval: 30s
```

```bash
hotset serve --config settings.yaml
HOTSET_SYNC_INTERVAL=1m hotset serve --config settings.yaml
hotset serve s3://city-models/prod --model-cache-size 8GiB --port 8080
hotset config check settings.yaml     # says what is wrong, and starts nothing
hotset config schema > hotset.schema.json
```

`HOTSET_CONFIG` names the file in place of `--config`. For completion and checks in an editor, put
`# yaml-language-server: $schema=hotset.schema.json` on the first line of the file.

The forms of values are the same everywhere:

* A **duration** is `10s`, `500ms`, `1m30s`, `2h`, `1d` or a number of seconds.
* A **size** is `8GiB`, `512MiB`, `500MB` or a number of bytes; `GiB` is 1024³ bytes and `GB` 1000³.
* A **cache size** is a count of models (`100`), a size (`8GiB`), or `{models: 100, bytes: 8GiB}`, where both hold.
* A **mapping** or a **list** is written in YAML on the command line and in the environment too:
  `--models '{paris: s3://b/paris/, rome: ./rome/}'`. Names to preload may be joined by commas: `--preload paris,rome@3`.
* A **path** that is not absolute is relative to the directory in which the server is started, in the file as well.
* A key without a value, and an empty environment variable, count as not given.

`model_dir` and `models` are one choice: either of them given on the command line replaces the other from the
environment or the file, and so on down.

A wrong key or value is refused at start, all of them at once, each on a line:

```text
settings.yaml: sync_interval: found 'soon', expected a duration such as 10s, or 0: off
settings.yaml: model_cach_size: found an unknown setting; did you mean model_cache_size?
HOTSET_PORT: found 'http', expected a whole number from 0 to 65535
```

Credentials of a store are not settings: they come from where its own tools take them, such as `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_REGION` and `AWS_ENDPOINT_URL`.
"""


def group_of(name: str) -> str:
    """Return the heading under which a setting stands."""
    extra = TABLE[name].json_schema_extra
    return str(extra["group"]) if isinstance(extra, dict) else ""


def help_of(name: str) -> str:
    """Return what a setting does, in one or two sentences."""
    return TABLE[name].description or ""


def show(name: str, value: Any) -> str:
    """Return a setting's value as people write it; empty if it has none."""
    if value is None or value in ({}, (), Preload()):
        return ""
    return kind_of(name).show(value)


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema of the settings' file, with sizes and durations in their forms for people."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hotset settings",
        "type": "object",
        "properties": {name: _property(name) for name in TABLE},
        "additionalProperties": False,
        "not": {"required": ["model_dir", "models"]},
    }


def _property(name: str) -> dict[str, Any]:
    schema = {"description": help_of(name), **kind_of(name).schema}
    default = TABLE[name].default
    shown = show(name, default)
    if shown:
        plain = isinstance(default, bool | int | float | str) and (
            isinstance(default, bool) or shown == str(default)
        )
        schema["default"] = default if plain else shown
    return schema


def markdown() -> str:
    """Return the whole of docs/configuration.md."""
    return _START + "".join(_tables())


def _tables() -> Iterator[str]:
    heading = ""
    for name in TABLE:
        if group_of(name) != heading:
            heading = group_of(name)
            yield f"\n## {heading}\n\n| setting | type | default | environment | flag | |\n|---|---|---|---|---|---|\n"
        yield _row(name)


def _row(name: str) -> str:
    shown = show(name, TABLE[name].default)
    default = f"`{shown}`" if shown else "none"
    return f"| `{name}` | {kind_of(name).name} | {default} | `{variable_of(name)}` | `{flag_of(name)}` | {help_of(name)} |\n"
