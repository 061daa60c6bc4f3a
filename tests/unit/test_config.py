"""Settings: every form of every value, from every place, and what is said when one does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hotset.config import TABLE, Settings, kind_of, load_settings
from hotset.config_docs import group_of, help_of, json_schema, show
from hotset.config_sources import flag_of, variable_of
from hotset.config_values import CacheSize, Devices, Preload
from hotset.errors import ConfigError, ErrorKind
from hotset.keys import ModelRef
from hotset.tokens import TokenSource
from hotset.units import format_bytes, format_duration

_NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,12}(/[a-z]{1,5})?", fullmatch=True)
_TEXT = st.from_regex(r"[A-Za-z0-9./:_-]{1,30}", fullmatch=True)
_COUNTS = st.integers(min_value=1, max_value=10**6)
_SECONDS = st.integers(min_value=1, max_value=10**6).map(lambda ms: ms / 1000)

CACHE_SIZES = st.one_of(
    _COUNTS.map(lambda count: (count, CacheSize(models=count))),
    _COUNTS.map(lambda count: (f"{count}MiB", CacheSize(bytes=count * 1024**2))),
    st.tuples(_COUNTS, _COUNTS).map(
        lambda both: ({"models": both[0], "bytes": f"{both[1]}kB"}, CacheSize(both[0], both[1] * 1000))
    ),
)
PRELOADS = st.one_of(
    st.just(("all", Preload(everything=True))),
    _COUNTS.map(lambda count: (count, Preload(recent=count))),
    st.lists(_NAMES, max_size=3).map(
        lambda names: ([f"{name}@3" for name in names], Preload(tuple(ModelRef(name, 3) for name in names)))
    ),
)

_TOKENS = st.one_of(
    _TEXT.map(lambda path: (f"./{path}", TokenSource(path=f"./{path}"))),
    st.lists(st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True), min_size=1, max_size=3).map(
        lambda lines: (lines, TokenSource(lines=tuple(lines)))
    ),
)


def _values_of(name: str) -> st.SearchStrategy[tuple[Any, Any]]:
    """Return pairs: what is written in YAML, and the value that it means."""
    kind = kind_of(name)
    if kind.show is format_duration:
        return _SECONDS.map(lambda seconds: (format_duration(seconds), pytest.approx(seconds)))
    if kind.show is format_bytes:
        return _COUNTS.map(lambda count: (f"{count}KiB", count * 1024))
    if "enum" in kind.schema:
        return st.sampled_from(kind.schema["enum"]).map(lambda word: (word, word))
    match kind.schema.get("type"):
        case ["string", "array"]:
            return _TOKENS
        case "array":
            return st.lists(_TEXT, max_size=3).map(lambda words: (words, tuple(words)))
        case ["number", "string"]:
            shares = st.integers(round(kind.schema["minimum"] * 100) + 1, round(kind.schema["maximum"] * 100))
            return shares.map(lambda part: (f"{part}%", pytest.approx(part / 100)))
        case "boolean":
            return st.booleans().map(lambda on: (on, on))
        case "integer":
            numbers = st.integers(kind.schema["minimum"], kind.schema.get("maximum", 10**9))
            return numbers.map(lambda number: (number, number))
        case "string":
            return _TEXT.map(lambda word: (word, word))
        case "object":
            return st.dictionaries(_NAMES, _TEXT, min_size=1, max_size=3).map(lambda both: (both, both))
    if name == "devices":
        return st.sampled_from(
            [("auto", Devices()), ("none", Devices(()))]
        )  # a list has to fit the processes
    return CACHE_SIZES if name.endswith("cache_size") else PRELOADS


@st.composite
def _given_settings(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    names = draw(
        st.sets(st.sampled_from(sorted(set(TABLE) - {"models", "model_dir", "sagemaker", "cortex"})))
    )
    names.add(draw(st.sampled_from(["models", "model_dir"])))
    names -= {"disk_model_cache_size", "load_failure_backoff_max", "load_failure_backoff"}
    names -= {"tls_cert", "tls_key", "admin_port"}  # they have to fit others
    names -= {"memory_low", "memory_high", "memory_critical", "max_bodies_size"}
    pairs = {name: draw(_values_of(name)) for name in sorted(names)}
    if "models" in pairs or "on_missing" in pairs:
        pairs.pop("discovery", None)  # not all values go together
    return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}


def _as_text(value: Any) -> str:
    return (
        value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0]
    )


@given(_given_settings())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_setting_survives_yaml_the_environment_and_flags(
    tmp_path: Path, pair: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    written, meant = pair
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(written))
    words = {name: _as_text(value) for name, value in written.items()}
    from_file = load_settings(file, {}, {})
    from_environment = load_settings(None, {variable_of(name): word for name, word in words.items()}, {})
    from_flags = load_settings(None, {}, words)
    for settings_ in (from_file, from_environment, from_flags):
        for name in TABLE:
            expected = meant.get(name, TABLE[name].default)
            assert getattr(settings_, name) == expected, name


@pytest.mark.parametrize("name", sorted(set(TABLE) - {"models", "model_dir"}))
def test_each_default_is_read_back_from_its_own_text(name: str) -> None:
    default = TABLE[name].default
    if show(name, default):
        assert kind_of(name).read(show(name, default)) == default


@pytest.mark.parametrize("name", sorted(TABLE))
def test_each_setting_has_a_group_help_and_a_type(name: str) -> None:
    assert group_of(name)
    assert help_of(name).endswith(".")
    assert len(help_of(name)) < 240
    assert kind_of(name).name
    json.dumps(kind_of(name).schema)


def test_flags_go_before_the_environment_before_the_file_before_defaults(tmp_path: Path) -> None:
    file = _write(tmp_path, "model_dir: ./file\nport: 1\nname_depth: 2\nhost: file\n")
    env = {"HOTSET_MODEL_DIR": "./env", "HOTSET_PORT": "2"}
    settings_ = load_settings(file, env, {"model_dir": "./flag", "port": None})
    assert (settings_.model_dir, settings_.port, settings_.name_depth) == ("./flag", 2, 2)
    assert (settings_.host, settings_.max_queue) == ("file", 1024)


def test_giving_model_dir_replaces_models_from_below(tmp_path: Path) -> None:
    file = _write(tmp_path, "models: {paris: ./paris}\n")
    settings_ = load_settings(file, {"HOTSET_MODEL_DIR": "./all"}, {})
    assert (settings_.model_dir, settings_.models) == ("./all", None)
    settings_ = load_settings(file, {"HOTSET_MODEL_DIR": "./all"}, {"models": "{rome: ./rome}"})
    assert (settings_.model_dir, settings_.models) == (None, {"rome": "./rome"})


@pytest.mark.parametrize(
    ("yaml_text", "line"),
    [
        ("sync_interval: soon", "sync_interval: found 'soon', expected a duration such as 10s, or 0: off"),
        ("request_timeout: 0", "request_timeout: found 0, expected a duration such as 10s, and more than 0"),
        ("request_timeout: -1s", "request_timeout: found '-1s', expected a duration such as 10s"),
        ("request_timeout: true", "request_timeout: found True, expected a duration such as 10s"),
        ("port: 70000", "port: found 70000, expected a whole number from 0 to 65535"),
        ("port: 1.5", "port: found 1.5, expected a whole number from 0 to 65535"),
        ("port: yes", "port: found True, expected a whole number from 0 to 65535"),
        ("on_missing: explode", "on_missing: found 'explode', expected one of: lookup, error"),
        ("max_body_size: huge", "max_body_size: found 'huge', expected a size such as 64MiB"),
        ("predictor: 3", "predictor: found 3, expected a path"),
        ("predictor_config: [1]", "predictor_config: found [1], expected a mapping such as {key: value}"),
        ("metrics_model_label: maybe", "metrics_model_label: found 'maybe', expected true or false"),
        ("model_cache_size: {models: 0}", "model_cache_size.models: found 0, expected a whole number from 1"),
        ("model_cache_size: {bytes: x}", "model_cache_size.bytes: found 'x', expected a size such as 64MiB"),
        ("model_cache_size: 0", "model_cache_size: found 0, expected a count of models such as 100"),
        ("model_cache_size: {gb: 1}", "model_cache_size: found {'gb': 1}, expected a count of models"),
        ("preload: [paris, 3]", "preload[1]: found 3, expected a model's name, or name@version"),
        ("preload: {a: b}", "preload: found {'a': 'b'}, expected a list of names or name@version"),
        ("preload: [../x]", "preload[0]: found '../x', expected a model's name"),
    ],
)
def test_a_wrong_value_is_refused_with_place_found_and_expected(
    tmp_path: Path, yaml_text: str, line: str
) -> None:
    file = _write(tmp_path, f"model_dir: x\n{yaml_text}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(file, {}, {})
    assert str(caught.value).startswith(f"{file}: {line}")
    assert caught.value.kind is ErrorKind.INVALID_CONFIG


def test_a_key_given_inside_a_mapping_is_checked_too(tmp_path: Path) -> None:
    file = _write(tmp_path, "models: {no: ./norway, ../x: ./y, rome: 3, paris: ./paris}\n")
    assert [line.split(": found")[0] for line in _problems(file)] == [
        f"{file}: models.False",
        f"{file}: models.../x",
        f"{file}: models.rome",
    ]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    file = _write(tmp_path, "sync_intervall: 10s\nsettle_time: soon\n")
    problems = _problems(file, {"HOTSET_PORT": "http", "HOTSET_PROT": "1"}, {"request_timeout": "never"})
    assert problems == [
        f"{file}: sync_intervall: found an unknown setting; did you mean sync_interval?",
        "HOTSET_PROT: found an unknown setting; did you mean HOTSET_PORT?",
        f"{file}: settle_time: found 'soon', expected a duration such as 10s, or 0: at once",
        "HOTSET_PORT: found 'http', expected a whole number from 0 to 65535",
        "--request-timeout: found 'never', expected a duration such as 10s",
        "model_dir: found nothing, expected where the models are, such as s3://bucket/models (or a list in models)",
    ]


def test_an_unknown_key_with_no_neighbour_points_to_the_list(tmp_path: Path) -> None:
    assert "hotset config docs" in _problems(_write(tmp_path, "model_dir: x\nzzz: 1\n"))[0]


def test_exactly_one_of_model_dir_and_models_is_given(tmp_path: Path) -> None:
    both = _write(tmp_path, "model_dir: x\nmodels: {paris: y}\n")
    assert _problems(both) == ["model_dir, models: found both, expected one of them"]
    assert _problems(None) == [
        "model_dir: found nothing, expected where the models are, such as s3://bucket/models (or a list in models)"
    ]
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    ("memory", "disk", "fits"),
    [
        ("10", "10", True),
        ("10", "9", False),
        ("1GiB", "1GiB", True),
        ("1GiB", "1GB", False),
        ("10", "1GiB", True),
        ("{models: 10, bytes: 1GiB}", "{models: 20, bytes: 1MiB}", False),
    ],
)
def test_the_disk_tier_holds_at_least_what_the_memory_tier_holds(memory: str, disk: str, fits: bool) -> None:
    flags = {"model_dir": "x", "model_cache_size": memory, "disk_model_cache_size": disk}
    if fits:
        load_settings(None, {}, flags)
    else:
        assert _problems(None, flags=flags)[0].startswith("disk_model_cache_size: found ")


def test_processes_of_their_own_need_processes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="isolation: found own with processes_per_replica 0, expected 1 or"):
        load_settings(None, {}, {"model_dir": "x", "isolation": "own", "processes_per_replica": 0})


def test_the_longest_backoff_is_not_shorter_than_the_first() -> None:
    flags = {"model_dir": "x", "load_failure_backoff": "10m"}
    assert _problems(None, flags=flags)[0].startswith("load_failure_backoff_max: found 300 seconds")


def test_empty_values_count_as_not_given(tmp_path: Path) -> None:
    file = _write(tmp_path, "model_dir: x\npredictor:\n")
    assert load_settings(file, {"HOTSET_PREDICTOR": "", "HOTSET_NONSENSE": ""}, {}).predictor is None


def test_variables_that_kubernetes_sets_for_a_service_named_hotset_are_ignored() -> None:
    env = {
        "HOTSET_MODEL_DIR": "x",
        "HOTSET_PORT": "tcp://10.0.0.1:8500",
        "HOTSET_SERVICE_HOST": "10.0.0.1",
        "HOTSET_SERVICE_PORT_HTTP": "8500",
        "HOTSET_PORT_8500_TCP": "tcp://10.0.0.1:8500",
        "HOTSET_PORT_8500_TCP_ADDR": "10.0.0.1",
        "HOTSET_URL": "http://elsewhere",
        "HOTSET_CONFIG": "settings.yaml",
        "HOTSETTER": "1",
    }
    assert load_settings(None, env, {}).port == 8500


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- a\n- b\n", "found a list, expected settings such as model_dir: ./models"),
        (b"model_dir: [\n", "not YAML: "),
        (b"port: 1\nport: 2\n", "the key 'port' stands twice"),
        (b"port: \xff\n", "found the byte 0xff, expected UTF-8 text"),
        (b"!!python/object:os.system {}\n", "not YAML: could not determine a constructor"),
        (b"{[a]: 1}\n", "not YAML: "),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    assert said in _problems(file)[0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "none.yaml"
    assert _problems(file)[0] == f"{file}: cannot be read: No such file or directory"


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_settings(_write(tmp_path, ""), {}, {"model_dir": "x"}) == Settings(model_dir="x")


def test_a_name_with_an_at_sign_is_not_cut_unless_a_version_follows() -> None:
    preload = kind_of("preload").read("a@b,a@b@3,paris@latest,paris@v7")
    assert preload.refs == (
        ModelRef("a@b"),
        ModelRef("a@b", 3),
        ModelRef("paris"),
        ModelRef("paris", 7),
    )


def test_settings_are_frozen() -> None:
    settings_ = Settings(model_dir="x")
    with pytest.raises(ValidationError):
        settings_.port = 1  # type: ignore[misc]


def test_the_schema_for_editors_has_every_setting_and_no_other() -> None:
    schema = json_schema()
    assert list(schema["properties"]) == list(TABLE)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["sync_interval"]["default"] == "10s"
    assert schema["properties"]["port"]["default"] == 8500
    assert schema["properties"]["metrics_model_label"]["default"] is False
    json.dumps(schema)


def test_flags_and_variables_are_named_after_the_setting() -> None:
    assert flag_of("model_cache_size") == "--model-cache-size"
    assert variable_of("model_cache_size") == "HOTSET_MODEL_CACHE_SIZE"


def test_importing_the_settings_imports_no_numpy() -> None:
    code = "import sys, hotset.config, hotset.config_docs; assert not {'numpy', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _write(folder: Path, content: str) -> Path:
    file = folder / "settings.yaml"
    file.write_text(content)
    return file


def _problems(
    file: Path | None, env: dict[str, str] | None = None, flags: dict[str, Any] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(file, env or {}, flags or {})
    return str(caught.value).splitlines()


SAGEMAKER = {"SAGEMAKER_MULTI_MODEL": "true"}


def test_a_platform_says_where_to_listen_and_that_it_brings_the_models() -> None:
    settings_ = load_settings(None, SAGEMAKER, {})
    assert (settings_.sagemaker, settings_.host, settings_.port) == (True, "0.0.0.0", 8080)
    assert load_settings(None, {**SAGEMAKER, "SAGEMAKER_BIND_TO_PORT": "9001"}, {}).port == 9001
    assert load_settings(None, {**SAGEMAKER, "HOTSET_PORT": "9002"}, {"port": None}).port == 9002
    assert load_settings(None, {**SAGEMAKER, "HOTSET_PORT": "9002"}, {"port": 9003}).port == 9003


def test_a_platform_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("port: 8500\nhost: 127.0.0.1\nmax_queue: 7\n")
    settings_ = load_settings(file, SAGEMAKER, {})
    assert (settings_.host, settings_.port, settings_.max_queue) == ("0.0.0.0", 8080, 7)


@pytest.mark.parametrize("env", [{"SAGEMAKER_MULTI_MODEL": "false"}, {"SAGEMAKER_BIND_TO_PORT": "9001"}])
def test_without_its_word_a_platform_changes_nothing(env: dict[str, str]) -> None:
    settings_ = load_settings(None, env, {"model_dir": "./models"})
    assert (settings_.sagemaker, settings_.port) == (False, 8500)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"model_dir": "s3://b/models"}, "sagemaker: found on together with model_dir"),
        ({"models": "{paris: ./paris/}"}, "sagemaker: found on together with models"),
        ({"discovery": "on_demand"}, "discovery: found on_demand"),
    ],
)
def test_a_platform_brings_the_models_alone(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_settings(None, SAGEMAKER, flags)


def test_what_a_platform_says_is_checked_and_named() -> None:
    with pytest.raises(ConfigError, match="SAGEMAKER_BIND_TO_PORT: found 'http'"):
        load_settings(None, {**SAGEMAKER, "SAGEMAKER_BIND_TO_PORT": "http"}, {})


@pytest.mark.parametrize(
    ("written", "places"),
    [
        ("auto", None),
        ("None", ()),
        (["cuda:1", "cuda:0"], (1, 0)),
        ("cuda:1, cuda:0", (1, 0)),
        ("[cuda:2]", (2,)),
        ([], ()),
    ],
)
def test_devices_are_a_list_or_a_word(written: Any, places: tuple[int, ...] | None):
    found = load_settings(None, {}, {"model_dir": "x", "devices": written, "processes_per_replica": 2})
    assert found.devices == Devices(places)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (["cuda"], r"devices\[0\]: found 'cuda', expected a device such as cuda:0"),
        ("gpu:0", r"devices\[0\]: found 'gpu:0', expected a device such as cuda:0"),
        (7, "devices: found 7, expected auto, none, or a list of devices"),
        (["cuda:0", "cuda:0"], "devices: found .*, expected each device once"),
        (
            ["cuda:0", "cuda:1", "cuda:2"],
            "devices: found 3 with processes_per_replica 2, expected a process for each",
        ),
    ],
)
def test_devices_that_do_not_fit_are_refused(written: Any, told: str):
    with pytest.raises(ConfigError, match=told):
        load_settings(None, {}, {"model_dir": "x", "devices": written, "processes_per_replica": 2})


def test_only_memory_is_on_devices():
    size = {"models": 2, "device_bytes": "20GiB"}
    assert load_settings(
        None, {}, {"model_dir": "x", "model_cache_size": size}
    ).model_cache_size == CacheSize(2, None, 20 << 30)
    with pytest.raises(ConfigError, match="disk-model-cache-size: found"):
        load_settings(None, {}, {"model_dir": "x", "disk_model_cache_size": size})


def test_all_bodies_have_room_for_one() -> None:
    given = {"model_dir": "./m", "max_body_size": "8MiB"}
    assert load_settings(None, {}, given).max_bodies_size is None
    assert load_settings(None, {}, {**given, "max_bodies_size": "8MiB"}).max_bodies_size == 8 << 20
    with pytest.raises(
        ConfigError, match="max_bodies_size: found 7MiB, expected at least max_body_size, which is 8MiB"
    ):
        load_settings(None, {}, {**given, "max_bodies_size": "7MiB"})
