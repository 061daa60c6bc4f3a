"""The one table of settings: name, type, default and help. YAML, environment, command line and docs all read from it.

Called by the command line and by embedders, once, at start. It reads the settings' file and nothing else: no
``os.environ``, no network, no look at whether the things named exist. A wrong key or value is refused, all of them
in one ``ConfigError``, each on a line with where it stands, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from hotset.config_cortex import from_cortex
from hotset.config_kinds import (
    LOCATION,
    PATH,
    SIZE,
    SIZE_OR_NONE,
    SWITCH,
    Kind,
    WrongValueError,
    choice,
    duration,
    number,
    share,
    text,
)
from hotset.config_sources import Given, from_environment, from_file, from_flags, from_platform
from hotset.config_values import (
    AUTH,
    DEVICES,
    DISK_SIZE,
    MAPPING,
    MEMORY_SIZE,
    MODELS,
    PRELOAD,
    TEXTS,
    CacheSize,
    Devices,
    Preload,
)
from hotset.errors import ConfigError
from hotset.keys import MAX_NAME_BYTES
from hotset.tokens import TokenSource
from hotset.units import format_bytes

_MODELS: Final[JsonDict] = {"group": "Models"}
_TIERS: Final[JsonDict] = {"group": "Tiers"}
_LOADING: Final[JsonDict] = {"group": "Fetching and loading"}
_WORKERS: Final[JsonDict] = {"group": "Workers"}
_SERVER: Final[JsonDict] = {"group": "Server"}
_SECURITY: Final[JsonDict] = {"group": "Security"}
_WATCHING: Final[JsonDict] = {"group": "Logs and metrics"}


class Settings(BaseModel):
    """All settings of one replica, checked. Frozen; safe to share. Its fields are the table, in the order of the docs."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_dir: Annotated[str | None, LOCATION] = Field(
        None,
        description="Where the models are, each at `<name>/<version>/…` below it: a directory, `s3://`, `gs://` or `az://`."
        " New models and versions are found while the server runs.",
        json_schema_extra=_MODELS,
    )
    models: Annotated[dict[str, str] | None, MODELS] = Field(
        None,
        description="A static list instead of `model_dir`: fixed at start, one version of each, no sync.",
        json_schema_extra=_MODELS,
    )
    sagemaker: Annotated[bool, SWITCH] = Field(
        False,
        description="Be a container of a SageMaker multi-model endpoint: the platform alone loads and unloads models. On where"
        " `SAGEMAKER_MULTI_MODEL` is `true`, with `host` `0.0.0.0` and as `port` that of `SAGEMAKER_BIND_TO_PORT`, or 8080.",
        json_schema_extra=_MODELS,
    )
    cortex: Annotated[str | None, PATH] = Field(
        None,
        description="A `cortex.yaml`: its handler is run as it is, with the models and sizes that it names. Where it holds"
        " several APIs, `cortex.yaml#name`. Other settings given here win over what it says.",
        json_schema_extra=_MODELS,
    )
    begin_again: Annotated[bool, SWITCH] = Field(
        True,
        description="Whether a request whose handler asks for one model too many while memory is full is begun again, with room"
        " for all of them; the handler is called a second time then. With `false` it is answered 503.",
        json_schema_extra=_MODELS,
    )
    name_depth: Annotated[int, number(1, 16)] = Field(
        1,
        description="How many directories make a model's name: with 2, names are like `acme/paris`.",
        json_schema_extra=_MODELS,
    )
    predictor: Annotated[str | None, PATH] = Field(
        None,
        description="The Python file with your `Predictor` class. Without it, the runtime is detected from each model's files.",
        json_schema_extra=_MODELS,
    )
    predictor_config: Annotated[dict[str, Any], MAPPING] = Field(
        {},
        description="Given to `Predictor.__init__` as its argument `config`.",
        json_schema_extra=_MODELS,
    )
    allow_pickle: Annotated[bool, SWITCH] = Field(
        True,
        description="Whether a model may bring code that runs when it is loaded: a pickle, or its own `predictor.py`. With"
        " `false` such a version is refused before any of it runs.",
        json_schema_extra=_MODELS,
    )
    discovery: Annotated[Literal["list", "on_demand"], choice("list", "on_demand")] = Field(
        "list",
        description="How models are found: `list` knows all of the store, from its index or by listing it; `on_demand` looks"
        " only for what is asked for, so that the cost follows the models in use, however many the store has.",
        json_schema_extra=_MODELS,
    )
    index_check_interval: Annotated[float, duration(zero="only on suspicion")] = Field(
        3600.0,
        description="How often a store is listed all the same where it has an index (`_index.json`), to find what the index lacks.",
        json_schema_extra=_MODELS,
    )
    on_missing: Annotated[Literal["lookup", "error"], choice("lookup", "error")] = Field(
        "lookup",
        description="What to do when a model is asked for that the last sync did not find: look in the store once, or answer 404.",
        json_schema_extra=_MODELS,
    )
    negative_cache_ttl: Annotated[float, duration(zero="look every time")] = Field(
        30.0,
        description="How long a name that the store does not have is remembered, so that asking again costs the store nothing.",
        json_schema_extra=_MODELS,
    )
    sync_interval: Annotated[float, duration(zero="off")] = Field(
        10.0,
        description="How often the store is listed for new, changed and deleted models. 0 turns the sync off.",
        json_schema_extra=_MODELS,
    )
    settle_time: Annotated[float, duration(zero="at once")] = Field(
        10.0,
        description="A version counts once its files have not changed for this long, as their times say or as seen by the"
        " sync, or once it holds a `_SUCCESS` file newer than all others; so a half-done upload is never served.",
        json_schema_extra=_MODELS,
    )

    model_cache_size: Annotated[CacheSize | None, MEMORY_SIZE] = Field(
        None,
        description="How much is kept in memory: a count of models, bytes, or `{models: 100, bytes: 8GiB, device_bytes: 20GiB}`, the last"
        " of each device."
        " By default bytes, from the memory limit.",
        json_schema_extra=_TIERS,
    )
    memory_limit: Annotated[int | None, SIZE] = Field(
        None,
        description="How much memory the server and its children may take together. By default what the control group allows"
        " (the smallest limit up to the root of its hierarchy), or all of the machine's. More than that counts as that.",
        json_schema_extra=_TIERS,
    )
    memory_high: Annotated[float, share(0.05, 1)] = Field(
        0.9,
        description="Above this share of `memory_limit`, the least recently used models leave, until `memory_low` is reached."
        " What counts is real memory, not what models weigh.",
        json_schema_extra=_TIERS,
    )
    memory_low: Annotated[float, share(0.05, 1)] = Field(
        0.85,
        description="See `memory_high`.",
        json_schema_extra=_TIERS,
    )
    memory_critical: Annotated[float, share(0.05, 1)] = Field(
        0.95,
        description="Above this share of `memory_limit`, no model is loaded: requests that need it are answered 503 with"
        " `Retry-After`. Models in memory answer.",
        json_schema_extra=_TIERS,
    )
    memory_stall: Annotated[float, share(0.01, 1, zero="stalls do not count")] = Field(
        0.3,
        description="Models also leave, an eighth at a time, while something waits for memory for this share of the time, as the"
        " system's pressure stall information tells, and more than half of `memory_limit` is taken.",
        json_schema_extra=_TIERS,
    )
    disk_model_cache_size: Annotated[CacheSize | None, DISK_SIZE] = Field(
        None,
        description="How much is kept on disk, in the same forms; at least `model_cache_size`. By default bytes, from the free space.",
        json_schema_extra=_TIERS,
    )
    disk_path: Annotated[str, PATH] = Field(
        ".hotset",
        description="The directory of the disk tier, this replica's own. It is kept and used again after a restart.",
        json_schema_extra=_TIERS,
    )
    min_churn_age: Annotated[float, duration(zero="off")] = Field(
        0.0,
        description="What was used less than this ago does not leave memory to make room for another model: loads wait, or are"
        " refused with 503, instead of pushing out what is asked for next. Not with `sagemaker` and `cortex`.",
        json_schema_extra=_TIERS,
    )
    preload: Annotated[Preload, PRELOAD] = Field(
        Preload(),
        description="What is loaded before the server is ready: names or `name@version`, a number N for the N most recently used,"
        " or `all`.",
        json_schema_extra=_TIERS,
    )

    parallel_fetches: Annotated[int, number(1)] = Field(
        8,
        description="How many models are fetched from the store at the same time.",
        json_schema_extra=_LOADING,
    )
    parallel_loads: Annotated[int, number(1)] = Field(
        2,
        description="How many models are loaded into memory at the same time.",
        json_schema_extra=_LOADING,
    )
    load_timeout: Annotated[float, duration()] = Field(
        300.0,
        description="How long one load or unload may take. Past it, it counts as failed, and the child process that hangs in"
        " it is replaced.",
        json_schema_extra=_LOADING,
    )
    load_failure_backoff: Annotated[float, duration()] = Field(
        5.0,
        description="How long a model that could not be loaded is not tried again. It doubles with each failure.",
        json_schema_extra=_LOADING,
    )
    load_failure_backoff_max: Annotated[float, duration()] = Field(
        300.0,
        description="The longest that a model that could not be loaded is not tried again.",
        json_schema_extra=_LOADING,
    )

    processes_per_replica: Annotated[int, number(0, 1024)] = Field(
        1,
        description="How many child processes hold models and predict. With 0, models live in threads of the server itself.",
        json_schema_extra=_WORKERS,
    )
    threads_per_process: Annotated[int, number(1, 1024)] = Field(
        1,
        description="How many predictions each process runs at the same time.",
        json_schema_extra=_WORKERS,
    )
    isolation: Annotated[Literal["auto", "shared", "own"], choice("auto", "shared", "own")] = Field(
        "auto",
        description="`auto`: models share processes, and one more than `processes_per_replica`, where loads disturb least; large"
        " ones get a process of their own, which ends with their unload. `shared`: neither. `own`: each model gets one.",
        json_schema_extra=_WORKERS,
    )
    own_process_above: Annotated[int, SIZE] = Field(
        256 * 1024 * 1024,
        description="With `isolation: auto`, a model that is expected to weigh more than this in memory gets a process of its own;"
        " one whose framework keeps a device's memory until its process ends does whatever it weighs.",
        json_schema_extra=_WORKERS,
    )
    max_own_processes: Annotated[int, number(1, 4096)] = Field(
        64,
        description="How many processes may hold one model alone. Past it, large models share; with `isolation: own`, no more"
        " models than this are in memory.",
        json_schema_extra=_WORKERS,
    )
    devices: Annotated[Devices, DEVICES] = Field(
        Devices(),
        description="The CUDA devices that processes are bound to, one each, in turn: `auto` is as many of those there are as"
        " `processes_per_replica`. Their memory is counted device by device. Needs the extra `cuda`. `none`: nothing is bound"
        " or counted.",
        json_schema_extra=_WORKERS,
    )
    spread_hot_models: Annotated[bool, SWITCH] = Field(
        True,
        description="Load a model whose requests queue up into other processes too, while there is free room in memory."
        " Needs `processes_per_replica` of 2 or more.",
        json_schema_extra=_WORKERS,
    )
    max_batch_size: Annotated[int, number(1)] = Field(
        64,
        description="How many waiting requests of one model are predicted at once, where the model takes rows or your code"
        " has `predict_batch`. Nothing waits for a batch to fill. 1 turns it off.",
        json_schema_extra=_WORKERS,
    )
    max_queue: Annotated[int, number(1)] = Field(
        1024,
        description="How many requests may be inside this replica, waiting or being predicted. Past it, the answer is 503 with `Retry-After`.",
        json_schema_extra=_WORKERS,
    )
    max_concurrency_per_model: Annotated[int, number(0)] = Field(
        0,
        description="How many of them may be for one model; past it, the answer is the same. 0: four times as many as there are"
        " places free, or as many while it is not in memory; so however many models are flooded, there is room for the others.",
        json_schema_extra=_WORKERS,
    )
    start_timeout: Annotated[float, duration()] = Field(
        60.0,
        description="How long a child process may take to start, your `Predictor.__init__` included.",
        json_schema_extra=_WORKERS,
    )

    host: Annotated[str, text("host name or address", "a host name or address such as 0.0.0.0")] = Field(
        "127.0.0.1",
        description="The address to listen on. `0.0.0.0` makes the server reachable from other machines.",
        json_schema_extra=_SERVER,
    )
    port: Annotated[int, number(0, 65535)] = Field(
        8500,
        description="The port to listen on. With 0, a free one is chosen and logged.",
        json_schema_extra=_SERVER,
    )
    grpc_port: Annotated[int, number(0, 65535)] = Field(
        0,
        description="The port for gRPC (Open Inference Protocol, health, reflection). 0 turns it off. Needs the extra `grpc`.",
        json_schema_extra=_SERVER,
    )
    request_timeout: Annotated[float, duration()] = Field(
        60.0,
        description="How long a request may take; a client may ask for less. A load that takes longer answers 503 and goes on.",
        json_schema_extra=_SERVER,
    )
    drain_timeout: Annotated[float, duration(zero="do not wait")] = Field(
        30.0,
        description="After SIGTERM the server ends within this time. Requests in flight may go on for all of it but the last fifth,"
        " which is two seconds at most.",
        json_schema_extra=_SERVER,
    )
    max_body_size: Annotated[int, SIZE] = Field(
        64 * 1024 * 1024,
        description="The largest body of a request. A larger one is refused with 413.",
        json_schema_extra=_SERVER,
    )
    max_bodies_size: Annotated[int | None, SIZE] = Field(
        None,
        description="Memory of the server for bodies that it does not share with children, and for what has come of those that are not"
        " whole, all together. Past it: 503. By default 256MiB, or `max_body_size` if that is more.",
        json_schema_extra=_SERVER,
    )
    shared_memory_size: Annotated[int, SIZE_OR_NONE] = Field(
        256 * 1024 * 1024,
        description="Memory for large bodies (128 KiB and more) on their way to the child processes, and as much in each of"
        " these for its answers. Taken as needed. While it is full, large uploads wait. 0: bodies go over sockets.",
        json_schema_extra=_SERVER,
    )

    auth: Annotated[TokenSource | None, AUTH] = Field(
        None,
        description="Who may ask: a file with a line for each bearer token, or the lines themselves, made by `hotset token`; they"
        " hold hashes. Without it whoever reaches the port may predict; the admin verbs answer only on the same machine.",
        json_schema_extra=_SECURITY,
    )
    tls_cert: Annotated[str | None, PATH] = Field(
        None,
        description="The certificate chain for HTTPS and for gRPC, in PEM. Renewed files count within seconds, without a restart.",
        json_schema_extra=_SECURITY,
    )
    tls_key: Annotated[str | None, PATH] = Field(
        None,
        description="The key of `tls_cert`, in PEM and without a password.",
        json_schema_extra=_SECURITY,
    )
    signing_keys: Annotated[tuple[str, ...], TEXTS] = Field(
        (),
        description="Public keys, as `hotset keygen` prints them, or files with such: only versions that one of them has signed"
        " are loaded. `hotset publish --sign-key` and `hotset sign` sign. Needs the extra `signing`.",
        json_schema_extra=_SECURITY,
    )
    max_header_size: Annotated[int, SIZE] = Field(
        64 * 1024,
        description="The largest head of a request, its first line and headers together; for gRPC, of its metadata.",
        json_schema_extra=_SECURITY,
    )
    max_name_length: Annotated[int, number(1, MAX_NAME_BYTES)] = Field(
        MAX_NAME_BYTES,
        description="How many bytes of UTF-8 the name of a model may have that somebody asks for.",
        json_schema_extra=_SECURITY,
    )
    max_json_depth: Annotated[int, number(8, 900)] = Field(
        200,
        description="How deep lists and objects of a JSON body may nest, at whatever door.",
        json_schema_extra=_SECURITY,
    )
    max_tensor_elements: Annotated[int, number(65536)] = Field(
        64 * 1024 * 1024,
        description="How many elements a tensor of a request may have, whatever its bytes.",
        json_schema_extra=_SECURITY,
    )
    sagemaker_roots: Annotated[tuple[str, ...], TEXTS] = Field(
        ("/opt/ml",),
        description="With `sagemaker`, the directories below which the platform may name models to load; links are followed first.",
        json_schema_extra=_SECURITY,
    )
    admin_port: Annotated[int, number(0, 65535)] = Field(
        0,
        description="A port of its own for the admin verbs, `/metrics` and `/status`, which then answer nowhere else. It serves"
        " no predictions. 0 turns it off.",
        json_schema_extra=_SECURITY,
    )

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], choice("debug", "info", "warning", "error")
    ] = Field(
        "info",
        description="The least important messages that are logged: `debug`, `info`, `warning` or `error`.",
        json_schema_extra=_WATCHING,
    )
    log_format: Annotated[Literal["console", "json"], choice("console", "json")] = Field(
        "console",
        description="Lines for people, or one JSON object a line.",
        json_schema_extra=_WATCHING,
    )
    metrics_model_label: Annotated[bool, SWITCH] = Field(
        False,
        description="Count requests for each model too, with the model's name as a label.",
        json_schema_extra=_WATCHING,
    )
    metrics_max_models: Annotated[int, number(1)] = Field(
        1000,
        description="How many models get a label of their own; all others are counted together as `_other`.",
        json_schema_extra=_WATCHING,
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        conflicts = [
            *_source_conflicts(
                has_dir=self.model_dir is not None,
                has_models=self.models is not None,
                sagemaker=self.sagemaker,
            ),
            *_discovery_conflicts(self),
            *_size_conflicts(self.model_cache_size, self.disk_model_cache_size),
            *_backoff_conflicts(self.load_failure_backoff, self.load_failure_backoff_max),
            *_isolation_conflicts(self),
            *_device_conflicts(self.devices, self.processes_per_replica),
            *_port_conflicts(self),
            *_memory_conflicts(self),
            *_body_conflicts(self),
        ]
        if conflicts:
            raise ValueError("\n".join(conflicts))
        return self


def _source_conflicts(*, has_dir: bool, has_models: bool, sagemaker: bool) -> Iterable[str]:
    if sagemaker and (has_dir or has_models):
        given = "model_dir" if has_dir else "models"
        yield f"sagemaker: found on together with {given}, expected one of them; the platform brings the models itself"
    if sagemaker:
        return
    if has_dir and has_models:
        yield "model_dir, models: found both, expected one of them"
    if not has_dir and not has_models:
        yield "model_dir: found nothing, expected where the models are, such as s3://bucket/models (or a list in models)"


def _discovery_conflicts(settings: Settings) -> Iterable[str]:
    """Yield what needs to know all models, which ``on_demand`` never does."""
    if settings.discovery != "on_demand":
        return
    if settings.models is not None or settings.sagemaker:
        yield "discovery: found on_demand with a static list in models, expected model_dir; a list is known anyway"
    if settings.on_missing != "lookup":
        yield "on_missing: found error with discovery on_demand, expected lookup; else no model is ever found"
    if settings.preload.everything:
        yield "preload: found all with discovery on_demand, expected names or a number; all would be the whole store"


def _size_conflicts(memory: CacheSize | None, disk: CacheSize | None) -> Iterable[str]:
    """Yield where the disk tier would hold less than the memory tier; different units cannot be compared."""
    if memory is None or disk is None:
        return
    pairs = ((memory.models, disk.models), (memory.bytes, disk.bytes))
    if any(hot is not None and cold is not None and cold < hot for hot, cold in pairs):
        yield f"disk_model_cache_size: found {disk}, expected at least model_cache_size, which is {memory}"


def _backoff_conflicts(first: float, longest: float) -> Iterable[str]:
    if longest < first:
        yield (
            f"load_failure_backoff_max: found {longest:g} seconds, expected at least load_failure_backoff,"
            f" which is {first:g} seconds"
        )


def _memory_conflicts(settings: Settings) -> Iterable[str]:
    low, high, critical = settings.memory_low, settings.memory_high, settings.memory_critical
    if not low < high <= critical:
        yield (
            "memory_low, memory_high, memory_critical:"
            f" found {low:g}, {high:g} and {critical:g}, expected each above the one before"
        )


def _body_conflicts(settings: Settings) -> Iterable[str]:
    most = settings.max_bodies_size
    if most is not None and most < settings.max_body_size:
        yield (
            f"max_bodies_size: found {format_bytes(most)}, expected at least max_body_size, which is"
            f" {format_bytes(settings.max_body_size)}"
        )


def _port_conflicts(settings: Settings) -> Iterable[str]:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        yield "tls_cert, tls_key: found one of them, expected both or none"
    if settings.admin_port and settings.admin_port in {settings.port, settings.grpc_port}:
        yield f"admin_port: found {settings.admin_port}, expected a port that is not `port` or `grpc_port`"
    if settings.admin_port and settings.sagemaker:
        yield "admin_port: found one together with sagemaker, expected none; the platform knows only one port"


def _device_conflicts(devices: Devices, processes: int) -> Iterable[str]:
    count = len(devices.places or ())
    if count > processes:
        yield (
            f"devices: found {count} with processes_per_replica {processes}, expected a process for each: raise"
            " processes_per_replica, or name fewer devices"
        )


def _isolation_conflicts(settings: Settings) -> Iterable[str]:
    """Yield what cannot be where every model is to have a process of its own."""
    if settings.isolation != "own":
        return
    if settings.processes_per_replica == 0:
        yield "isolation: found own with processes_per_replica 0, expected 1 or more; threads of one process isolate nothing"
    if settings.cortex is not None:
        yield "isolation: found own with cortex, expected auto or shared; a handler's models have to be where it runs"


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
            _source_conflicts(
                has_dir="model_dir" in given, has_models="models" in given, sagemaker="sagemaker" in given
            )
        )
    return None
