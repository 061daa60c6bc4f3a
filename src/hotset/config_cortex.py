"""A ``cortex.yaml`` as a layer of settings, below all others: what Cortex's users wrote, in hotset's own words.

Called by ``config.load_settings``. What says how Cortex should deploy a container (``compute``, ``autoscaling``,
``networking``, images) means nothing here and is passed over; what cannot be done is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hotset.config_sources import Given, read_yaml

KINDS: Final = ("python", "tensorflow", "onnx")
_SECTIONS: Final = ("handler", "predictor")
_MODEL_KEYS: Final = ("multi_model_reloading", "models")
_SOURCES: Final = ("path", "paths", "dir")
_KNOWN: Final = frozenset(
    {
        "type", "path", "config", *_MODEL_KEYS, "server_side_batching", "processes_per_replica", "threads_per_process",
        "python_path", "env", "log_level", "image", "tensorflow_serving_image", "shm_size", "dependencies",
    }
)  # fmt: skip
_KNOWN_OF_MODELS: Final = frozenset({*_SOURCES, "signature_key", "cache_size", "disk_cache_size"})


class _UnfitError(Exception):
    """A key that does not fit: where, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")


def from_cortex(given: Given, problems: list[str]) -> dict[str, Given]:
    """Return what the file says as settings; what does not fit goes to ``problems``."""
    name, _, api = str(given.value).partition("#")
    file = Path(name).expanduser().absolute()
    try:
        spec = _chosen_api(_apis(file, problems), api)
        return {key: Given(value, f"{name}: {key}") for key, value in _settings(spec, file.parent)}
    except _UnfitError as error:
        problems.append(f"{name}: {error}")
        return {}


def _apis(file: Path, problems: list[str]) -> Sequence[Mapping[str, Any]]:
    found: list[str] = []
    document = read_yaml(file, found, kinds=(Mapping, list))
    problems += found
    apis = document if isinstance(document, list) else [document]
    return [api for api in apis if isinstance(api, Mapping)]


def _chosen_api(apis: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Return the only API, or the one of that name."""
    able = [api for api in apis if any(section in api for section in _SECTIONS)]
    if name:
        able = [api for api in able if str(api.get("name")) == name]
    if len(able) != 1:
        names = ", ".join(str(api.get("name")) for api in able) or "none"
        raise _UnfitError(
            "name",
            f"found these APIs with a handler: {names}; expected one, or cortex.yaml#name to choose one",
        )
    kind = str(able[0].get("kind", "RealtimeAPI"))
    if kind not in {"RealtimeAPI", "SyncAPI"}:
        raise _UnfitError("kind", f"found {kind}, expected RealtimeAPI")
    return able[0]


def _settings(api: Mapping[str, Any], directory: Path) -> Iterator[tuple[str, Any]]:
    section = next(it for it in _SECTIONS if it in api)
    handler = _mapping(api[section], section)
    _refuse_unknown(handler, _KNOWN, section)
    kind = str(handler.get("type", "python")).lower()
    if kind not in KINDS:
        raise _UnfitError(f"{section}.type", f"found {kind}, expected one of: {', '.join(KINDS)}")
    name = str(api.get("name", "handler"))
    models = _models(handler, section)
    yield "predictor", str(_below(directory, _text(handler.get("path"), f"{section}.path")))
    yield (
        "predictor_config",
        {
            "name": name,
            "type": kind,
            "directory": str(directory),
            **_options(handler, _listed(models, section), section),
            "only": name if models.get("path") else None,
            "signature": models.get("signature_key"),
            "python_path": str(_below(directory, str(handler.get("python_path") or ""))),
            "batches": kind == "python" and bool(handler.get("server_side_batching")),
        },
    )
    yield from _places(name, models, section, directory)
    yield from _sizes(handler, models, section)
    concurrency = _mapping(api.get("autoscaling") or {}, "autoscaling")
    if "max_replica_concurrency" in concurrency:
        yield "max_queue", concurrency["max_replica_concurrency"]


def _models(handler: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    key = next((it for it in _MODEL_KEYS if handler.get(it)), None)
    if key is None:
        raise _UnfitError(
            f"{section}.multi_model_reloading",
            "found no models, expected one of path, paths and dir below it",
        )
    models = _mapping(handler[key], f"{section}.{key}")
    _refuse_unknown(models, _KNOWN_OF_MODELS, f"{section}.{key}")
    given = [it for it in _SOURCES if models.get(it)]
    if len(given) != 1:
        raise _UnfitError(
            f"{section}.{key}",
            f"found {', '.join(given) or 'none'} of path, paths and dir, expected one of them",
        )
    return models


def _places(name: str, models: Mapping[str, Any], section: str, directory: Path) -> Iterator[tuple[str, Any]]:
    if models.get("dir"):
        yield "model_dir", _location(models["dir"], directory)
    elif models.get("path"):
        yield "models", {name: _location(models["path"], directory)}
    else:
        listed = _listed(models, section)
        yield "models", {model: _location(item.get("path"), directory) for model, item in listed.items()}


def _listed(models: Mapping[str, Any], section: str) -> dict[str, Mapping[str, Any]]:
    listed: dict[str, Mapping[str, Any]] = {}
    paths = models.get("paths") or []
    if not isinstance(paths, list):
        raise _UnfitError(f"{section}.models.paths", f"found {type(paths).__name__}, expected a list")
    for number, item in enumerate(paths):
        where = f"{section}.models.paths[{number}]"
        found = _mapping(item, where)
        _refuse_unknown(found, frozenset({"name", "path", "signature_key"}), where)
        listed[_text(found.get("name"), f"{where}.name")] = found
    return listed


def _options(
    handler: Mapping[str, Any], listed: Mapping[str, Mapping[str, Any]], section: str
) -> dict[str, Any]:
    """Return what goes to the handler and its clients."""
    env = _mapping(handler.get("env") or {}, f"{section}.env")
    return {
        "config": dict(_mapping(handler.get("config") or {}, f"{section}.config")),
        "names": list(listed),
        "env": {str(key): str(value) for key, value in env.items()},
        "signatures": {
            key: item["signature_key"] for key, item in listed.items() if item.get("signature_key")
        },
    }


def _sizes(handler: Mapping[str, Any], models: Mapping[str, Any], section: str) -> Iterator[tuple[str, Any]]:
    batching = _mapping(handler.get("server_side_batching") or {}, f"{section}.server_side_batching")
    pairs = (
        ("model_cache_size", models.get("cache_size")),
        ("disk_model_cache_size", models.get("disk_cache_size")),
        ("processes_per_replica", handler.get("processes_per_replica")),
        ("threads_per_process", handler.get("threads_per_process")),
        ("max_batch_size", batching.get("max_batch_size")),
        ("log_level", handler.get("log_level")),
    )
    return ((key, value) for key, value in pairs if value is not None)


def _refuse_unknown(found: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = [str(key) for key in found if key not in known]
    if "protobuf_path" in unknown:
        raise _UnfitError(
            f"{where}.protobuf_path", "handlers over gRPC are not served; expected one over HTTP"
        )
    if unknown:
        raise _UnfitError(
            where, f"found the unknown {', '.join(unknown)}, expected any of: {', '.join(sorted(known))}"
        )


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _UnfitError(where, f"found {type(value).__name__}, expected keys and values")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _UnfitError(where, f"found {value!r}, expected a text")
    return value


def _location(value: Any, directory: Path) -> str:
    text = _text(value, "path")
    return text if "://" in text else str(_below(directory, text))


def _below(directory: Path, path: str) -> Path:
    """Return a path that is meant from the project's directory."""
    return directory / Path(path).expanduser()
