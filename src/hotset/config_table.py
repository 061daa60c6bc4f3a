"""The one table of settings: name, type, default and help. YAML, environment, command line and docs all read from it.

``config`` makes the settings of a server of it. Nothing is looked at here: not whether settings fit together, nor whether
the things named exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hotset.config_kinds import (
    LOCATION,
    PATH,
    SIZE,
    SIZE_OR_NONE,
    SWITCH,
    choice,
    duration,
    number,
    share,
    text,
)
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
from hotset.keys import MAX_NAME_BYTES
from hotset.tokens import TokenSource


@dataclass(frozen=True, slots=True)
class _Group:
    """Settings that stand together in the docs. Called for each, with its default and its help."""

    title: str

    def __call__(self, default: Any, description: str) -> Any:
        return Field(default, description=description, json_schema_extra={"group": self.title})


_models: Final = _Group("Models")
_tiers: Final = _Group("Tiers")
_loading: Final = _Group("Fetching and loading")
_workers: Final = _Group("Workers")
_server: Final = _Group("Server")
_security: Final = _Group("Security")
_watching: Final = _Group("Logs and metrics")


class SettingsTable(BaseModel):
    """Every setting, in the order of the docs. Frozen; safe to share."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_dir: Annotated[str | None, LOCATION] = _models(
        None,
        "Where the models are, each at `<name>/<version>/…` below it: a directory, `s3://`, `gs://` or `az://`."
        " New models and versions are found while the server runs.",
    )
    models: Annotated[dict[str, str] | None, MODELS] = _models(
        None,
        "A static list instead of `model_dir`: fixed at start, one version of each, no sync.",
    )
    sagemaker: Annotated[bool, SWITCH] = _models(
        False,
        "Be a container of a SageMaker multi-model endpoint: the platform alone loads and unloads models. On where"
        " `SAGEMAKER_MULTI_MODEL` is `true`, with `host` `0.0.0.0` and as `port` that of `SAGEMAKER_BIND_TO_PORT`, or 8080.",
    )
    cortex: Annotated[str | None, PATH] = _models(
        None,
        "A `cortex.yaml`: its handler is run as it is, with the models and sizes that it names. Where it holds"
        " several APIs, `cortex.yaml#name`. Other settings given here win over what it says.",
    )
    begin_again: Annotated[bool, SWITCH] = _models(
        True,
        "Whether a request whose handler asks for one model too many while memory is full is begun again, with room"
        " for all of them; the handler is called a second time then. With `false` it is answered 503.",
    )
    name_depth: Annotated[int, number(1, 16)] = _models(
        1,
        "How many directories make a model's name: with 2, names are like `acme/paris`.",
    )
    predictor: Annotated[str | None, PATH] = _models(
        None,
        "The Python file with your `Predictor` class. Without it, the runtime is detected from each model's files.",
    )
    predictor_config: Annotated[dict[str, Any], MAPPING] = _models(
        {},
        "Given to `Predictor.__init__` as its argument `config`.",
    )
    allow_pickle: Annotated[bool, SWITCH] = _models(
        True,
        "Whether a model may bring code that runs when it is loaded: a pickle, or its own `predictor.py`. With"
        " `false` such a version is refused before any of it runs.",
    )
    discovery: Annotated[Literal["list", "on_demand"], choice("list", "on_demand")] = _models(
        "list",
        "How models are found: `list` knows all of the store, from its index or by listing it; `on_demand` looks"
        " only for what is asked for, so that the cost follows the models in use, however many the store has.",
    )
    index_check_interval: Annotated[float, duration(zero="only on suspicion")] = _models(
        3600.0,
        "How often a store is listed all the same where it has an index (`_index.json`), to find what the index lacks.",
    )
    on_missing: Annotated[Literal["lookup", "error"], choice("lookup", "error")] = _models(
        "lookup",
        "What to do when a model is asked for that the last sync did not find: look in the store once, or answer 404.",
    )
    negative_cache_ttl: Annotated[float, duration(zero="look every time")] = _models(
        30.0,
        "How long a name that the store does not have is remembered, so that asking again costs the store nothing.",
    )
    sync_interval: Annotated[float, duration(zero="off")] = _models(
        10.0,
        "How often the store is listed for new, changed and deleted models. 0 turns the sync off.",
    )
    settle_time: Annotated[float, duration(zero="at once")] = _models(
        10.0,
        "A version counts once its files have not changed for this long, as their times say or as seen by the"
        " sync, or once it holds a `_SUCCESS` file newer than all others; so a half-done upload is never served.",
    )

    model_cache_size: Annotated[CacheSize | None, MEMORY_SIZE] = _tiers(
        None,
        "How much is kept in memory: a count of models, bytes, or `{models: 100, bytes: 8GiB, device_bytes: 20GiB}`, the last"
        " of each device."
        " By default bytes, from the memory limit.",
    )
    memory_limit: Annotated[int | None, SIZE] = _tiers(
        None,
        "How much memory the server and its children may take together. By default what the control group allows"
        " (the smallest limit up to the root of its hierarchy), or all of the machine's. More than that counts as that.",
    )
    memory_high: Annotated[float, share(0.05, 1)] = _tiers(
        0.9,
        "Above this share of `memory_limit`, the least recently used models leave, until `memory_low` is reached."
        " What counts is real memory, not what models weigh.",
    )
    memory_low: Annotated[float, share(0.05, 1)] = _tiers(
        0.85,
        "See `memory_high`.",
    )
    memory_critical: Annotated[float, share(0.05, 1)] = _tiers(
        0.95,
        "Above this share of `memory_limit`, no model is loaded: requests that need it are answered 503 with"
        " `Retry-After`. Models in memory answer.",
    )
    memory_stall: Annotated[float, share(0.01, 1, zero="stalls do not count")] = _tiers(
        0.3,
        "Models also leave, an eighth at a time, while something waits for memory for this share of the time, as the"
        " system's pressure stall information tells, and more than half of `memory_limit` is taken.",
    )
    disk_model_cache_size: Annotated[CacheSize | None, DISK_SIZE] = _tiers(
        None,
        "How much is kept on disk, in the same forms; at least `model_cache_size`. By default bytes, from the free space.",
    )
    disk_path: Annotated[str, PATH] = _tiers(
        ".hotset",
        "The directory of the disk tier, this replica's own. It is kept and used again after a restart.",
    )
    min_churn_age: Annotated[float, duration(zero="off")] = _tiers(
        0.0,
        "What was used less than this ago does not leave memory to make room for another model: loads wait, or are"
        " refused with 503, instead of pushing out what is asked for next. Not with `sagemaker` and `cortex`.",
    )
    preload: Annotated[Preload, PRELOAD] = _tiers(
        Preload(),
        "What is loaded before the server is ready: names or `name@version`, a number N for the N most recently used,"
        " or `all`.",
    )

    parallel_fetches: Annotated[int, number(1)] = _loading(
        8,
        "How many models are fetched from the store at the same time.",
    )
    parallel_loads: Annotated[int, number(1)] = _loading(
        2,
        "How many models are loaded into memory at the same time.",
    )
    load_timeout: Annotated[float, duration()] = _loading(
        300.0,
        "How long one load or unload may take. Past it, it counts as failed, and the child process that hangs in"
        " it is replaced.",
    )
    load_failure_backoff: Annotated[float, duration()] = _loading(
        5.0,
        "How long a model that could not be loaded is not tried again. It doubles with each failure.",
    )
    load_failure_backoff_max: Annotated[float, duration()] = _loading(
        300.0,
        "The longest that a model that could not be loaded is not tried again.",
    )

    processes_per_replica: Annotated[int, number(0, 1024)] = _workers(
        1,
        "How many child processes hold models and predict. With 0, models live in threads of the server itself.",
    )
    threads_per_process: Annotated[int, number(1, 1024)] = _workers(
        1,
        "How many predictions each process runs at the same time.",
    )
    isolation: Annotated[Literal["auto", "shared", "own"], choice("auto", "shared", "own")] = _workers(
        "auto",
        "`auto`: models share processes, and one more than `processes_per_replica`, where loads disturb least; large"
        " ones get a process of their own, which ends with their unload. `shared`: neither. `own`: each model gets one.",
    )
    own_process_above: Annotated[int, SIZE] = _workers(
        256 * 1024 * 1024,
        "With `isolation: auto`, a model that is expected to weigh more than this in memory gets a process of its own;"
        " one whose framework keeps a device's memory until its process ends does whatever it weighs.",
    )
    max_own_processes: Annotated[int, number(1, 4096)] = _workers(
        64,
        "How many processes may hold one model alone. Past it, large models share; with `isolation: own`, no more"
        " models than this are in memory.",
    )
    devices: Annotated[Devices, DEVICES] = _workers(
        Devices(),
        "The CUDA devices that processes are bound to, one each, in turn: `auto` is as many of those there are as"
        " `processes_per_replica`. Their memory is counted device by device. Needs the extra `cuda`. `none`: nothing is bound"
        " or counted.",
    )
    spread_hot_models: Annotated[bool, SWITCH] = _workers(
        True,
        "Load a model whose requests queue up into other processes too, while there is free room in memory."
        " Needs `processes_per_replica` of 2 or more.",
    )
    max_batch_size: Annotated[int, number(1)] = _workers(
        64,
        "How many waiting requests of one model are predicted at once, where the model takes rows or your code"
        " has `predict_batch`. Nothing waits for a batch to fill. 1 turns it off.",
    )
    max_queue: Annotated[int, number(1)] = _workers(
        1024,
        "How many requests may be inside this replica, waiting or being predicted. Past it, the answer is 503 with `Retry-After`.",
    )
    max_concurrency_per_model: Annotated[int, number(0)] = _workers(
        0,
        "How many of them may be for one model; past it, the answer is the same. 0: four times as many as there are"
        " places free, or as many while it is not in memory; so however many models are flooded, there is room for the others.",
    )
    start_timeout: Annotated[float, duration()] = _workers(
        60.0,
        "How long a child process may take to start, your `Predictor.__init__` included.",
    )
    ping_timeout: Annotated[float, duration()] = _workers(
        30.0,
        "How long a child process may give no sign of life while native code computes in it; then it is replaced. If it does"
        " nothing meanwhile: a third of that; if a signal stopped it: two seconds.",
    )

    host: Annotated[str, text("host name or address", "a host name or address such as 0.0.0.0")] = _server(
        "127.0.0.1",
        "The address to listen on. `0.0.0.0` makes the server reachable from other machines.",
    )
    port: Annotated[int, number(0, 65535)] = _server(
        8500,
        "The port to listen on. With 0, a free one is chosen and logged.",
    )
    grpc_port: Annotated[int, number(0, 65535)] = _server(
        0,
        "The port for gRPC (Open Inference Protocol, health, reflection). 0 turns it off. Needs the extra `grpc`.",
    )
    grpc_max_rpcs: Annotated[int, number(1)] = _server(
        2048,
        "How many RPCs may be open at once on the gRPC port, each stream being one. Past it: `RESOURCE_EXHAUSTED`.",
    )
    grpc_max_connections: Annotated[int, number(1)] = _server(
        1024,
        "How many connections there may be to the gRPC port; clients send many RPCs over one. Past it they are closed.",
    )
    request_timeout: Annotated[float, duration()] = _server(
        60.0,
        "How long a request may take; a client may ask for less. A load that takes longer answers 503 and goes on.",
    )
    drain_timeout: Annotated[float, duration(zero="do not wait")] = _server(
        30.0,
        "After SIGTERM the server ends within this time. Requests in flight may go on for all of it but the last fifth,"
        " which is two seconds at most.",
    )
    max_body_size: Annotated[int, SIZE] = _server(
        64 * 1024 * 1024,
        "The largest body of a request. A larger one is refused with 413.",
    )
    max_bodies_size: Annotated[int | None, SIZE] = _server(
        None,
        "Memory of the server for bodies that it does not share with children, and for what has come of those that are not"
        " whole, all together. Past it: 503. By default 256MiB, or `max_body_size` if that is more.",
    )
    shared_memory_size: Annotated[int, SIZE_OR_NONE] = _server(
        256 * 1024 * 1024,
        "Memory for large bodies (128 KiB and more) on their way to the child processes, and as much in each of"
        " these for its answers. Taken as needed. While it is full, large uploads wait. 0: bodies go over sockets.",
    )

    auth: Annotated[TokenSource | None, AUTH] = _security(
        None,
        "Who may ask: a file with a line for each bearer token, or the lines themselves, made by `hotset token`; they"
        " hold hashes. Without it whoever reaches the port may predict; the admin verbs answer only on the same machine.",
    )
    tls_cert: Annotated[str | None, PATH] = _security(
        None,
        "The certificate chain for HTTPS and for gRPC, in PEM. Renewed files count within seconds, without a restart.",
    )
    tls_key: Annotated[str | None, PATH] = _security(
        None,
        "The key of `tls_cert`, in PEM and without a password.",
    )
    signing_keys: Annotated[tuple[str, ...], TEXTS] = _security(
        (),
        "Public keys, as `hotset keygen` prints them, or files with such: only versions that one of them has signed"
        " are loaded. `hotset publish --sign-key` and `hotset sign` sign. Needs the extra `signing`.",
    )
    max_header_size: Annotated[int, SIZE] = _security(
        64 * 1024,
        "The largest head of a request, its first line and headers together; for gRPC, of its metadata.",
    )
    max_name_length: Annotated[int, number(1, MAX_NAME_BYTES)] = _security(
        MAX_NAME_BYTES,
        "How many bytes of UTF-8 the name of a model may have that somebody asks for.",
    )
    max_json_depth: Annotated[int, number(8, 900)] = _security(
        200,
        "How deep lists and objects of a JSON body may nest, at whatever door.",
    )
    max_tensor_elements: Annotated[int, number(65536)] = _security(
        64 * 1024 * 1024,
        "How many elements a tensor of a request may have, whatever its bytes.",
    )
    sagemaker_roots: Annotated[tuple[str, ...], TEXTS] = _security(
        ("/opt/ml",),
        "With `sagemaker`, the directories below which the platform may name models to load; links are followed first.",
    )
    admin_port: Annotated[int, number(0, 65535)] = _security(
        0,
        "A port of its own for the admin verbs, `/metrics` and `/status`, which then answer nowhere else. It serves"
        " no predictions. 0 turns it off.",
    )

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], choice("debug", "info", "warning", "error")
    ] = _watching(
        "info",
        "The least important messages that are logged: `debug`, `info`, `warning` or `error`.",
    )
    log_format: Annotated[Literal["console", "json"], choice("console", "json")] = _watching(
        "console",
        "Lines for people, or one JSON object a line.",
    )
    metrics_model_label: Annotated[bool, SWITCH] = _watching(
        False,
        "Count requests for each model too, with the model's name as a label.",
    )
    metrics_max_models: Annotated[int, number(1)] = _watching(
        1000,
        "How many models get a label of their own; all others are counted together as `_other`.",
    )
