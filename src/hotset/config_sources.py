"""Where settings are given: the YAML file, the environment, the command line. Each becomes a layer of raw values.

Called by ``config.load_settings``. A layer remembers for every value how messages name its place. Values are not
read here, only keys: an unknown one goes to ``problems`` with the nearest known one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ENVIRONMENT_PREFIX: Final = "HOTSET_"
TOKEN_VARIABLE: Final = "HOTSET_TOKEN"  # noqa: S105 - it is where a token is, and none
OTHER_VARIABLES: Final = frozenset({"HOTSET_CONFIG", "HOTSET_URL", TOKEN_VARIABLE})
"""Variables of ours that are no settings: where the settings' file is, which server the client commands ask, and as whom."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and how messages name the place."""

    value: Any
    place: str


def variable_of(name: str) -> str:
    """Return the environment variable of a setting: ``HOTSET_SYNC_INTERVAL``."""
    return ENVIRONMENT_PREFIX + name.upper()


def flag_of(name: str) -> str:
    """Return the command-line flag of a setting: ``--sync-interval``."""
    return "--" + name.replace("_", "-")


def from_flags(flags: Mapping[str, Any]) -> dict[str, Given]:
    return {name: Given(value, flag_of(name)) for name, value in flags.items() if value is not None}


_YES: Final = frozenset({"true", "yes", "on", "1"})
SAGEMAKER_PORT: Final = "8080"


def from_platform(env: Mapping[str, str]) -> dict[str, Given]:
    """Return what a platform says in variables of its own: SageMaker, to a container for many models."""
    if env.get("SAGEMAKER_MULTI_MODEL", "").lower() not in _YES:
        return {}
    return {
        "sagemaker": Given("true", "SAGEMAKER_MULTI_MODEL"),
        "host": Given("0.0.0.0", "SAGEMAKER_MULTI_MODEL"),  # noqa: S104 - the platform asks from outside
        "port": Given(env.get("SAGEMAKER_BIND_TO_PORT") or SAGEMAKER_PORT, "SAGEMAKER_BIND_TO_PORT"),
    }


_KUBERNETES_NAME: Final = re.compile(
    r".*_(SERVICE_(HOST|PORT)(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_.+)?)\Z", re.ASCII
)
_KUBERNETES_VALUE: Final = re.compile(r"(tcp|udp|sctp)://", re.ASCII)


def from_environment(env: Mapping[str, str], known: Collection[str], problems: list[str]) -> dict[str, Given]:
    names = {variable_of(name): name for name in known}
    layer: dict[str, Given] = {}
    for variable, value in env.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in OTHER_VARIABLES or not value:
            continue
        # Kubernetes sets HOTSET_PORT=tcp://… and more in every pod beside a service that is called hotset.
        if _KUBERNETES_NAME.match(variable) or _KUBERNETES_VALUE.match(value):
            continue
        if variable in names:
            layer[names[variable]] = Given(value, variable)
        else:
            problems.append(f"{variable}: {_nearest(variable, names)}")
    return layer


def from_file(file: Path | None, known: Collection[str], problems: list[str]) -> dict[str, Given]:
    layer: dict[str, Given] = {}
    if file is None:
        return layer
    for key, value in _read(file, problems).items():
        if key not in known:
            problems.append(f"{file}: {key}: {_nearest(str(key), known)}")
        elif value is not None:
            layer[key] = Given(value, f"{file}: {key}")
    return layer


def _nearest(unknown: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(unknown, list(known), n=1, cutoff=0.6)
    if near:
        return f"found an unknown setting; did you mean {near[0]}?"
    return "found an unknown setting; expected one of those that `hotset config docs` lists"


def _read(file: Path, problems: list[str]) -> Mapping[Any, Any]:
    document: Mapping[Any, Any] = read_yaml(file, problems)
    return document


def read_yaml(file: Path, problems: list[str], *, kinds: tuple[type, ...] = (Mapping,)) -> Any:
    """Return what a file holds, if that is one of ``kinds``; else nothing, and why goes to ``problems``."""
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506
    except OSError as error:
        problems.append(f"{file}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        problems.append(f"{file}: found the byte 0x{error.object[error.start]:02x}, expected UTF-8 text")
    except yaml.YAMLError as error:
        problems.append(f"{file}: not YAML: {' '.join(str(error).split())}")
    else:
        if isinstance(document, kinds):
            return document
        if document is not None:
            problems.append(
                f"{file}: found a {type(document).__name__}, expected settings such as model_dir: ./models"
            )
    return {}


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key given twice instead of keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key != "<<" and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
