"""A ``cortex.yaml`` as settings: every key that is read, and every one that does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hotset.config import Settings, load_settings
from hotset.errors import ConfigError


def read(directory: Path, document: Any, *, name: str = "", **flags: Any) -> Settings:
    file = directory / "cortex.yaml"
    file.write_text(yaml.safe_dump(document))
    return load_settings(None, {}, {"cortex": f"{file}{name}", **flags})


def api(**handler: Any) -> dict[str, Any]:
    models = {} if handler.keys() & {"models", "multi_model_reloading"} else {"models": {"dir": "models"}}
    return {"name": "cities", "kind": "RealtimeAPI", "handler": {"path": "handler.py", **models, **handler}}


def test_every_key_that_is_read(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        [
            {
                "name": "cities",
                "kind": "RealtimeAPI",
                "predictor": {
                    "type": "tensorflow",
                    "path": "src/handler.py",
                    "config": {"currency": "EUR"},
                    "models": {
                        "dir": "s3://bucket/models",
                        "signature_key": "predict",
                        "cache_size": 3,
                        "disk_cache_size": 30,
                    },
                    "processes_per_replica": 2,
                    "threads_per_process": 4,
                    "server_side_batching": {"max_batch_size": 16, "batch_interval": "10ms"},
                    "python_path": "src",
                    "env": {"DEBUG": 1},
                    "log_level": "debug",
                    "image": "quay.io/mine",
                    "dependencies": {"pip": "requirements.txt"},
                },
                "compute": {"cpu": 1},
                "autoscaling": {"max_replica_concurrency": 100, "min_replicas": 2},
                "networking": {"endpoint": "/cities"},
            }
        ],
    )
    assert settings.model_dir == "s3://bucket/models"
    assert settings.predictor == str(tmp_path / "src" / "handler.py")
    assert settings.predictor_config == {
        "name": "cities",
        "type": "tensorflow",
        "directory": str(tmp_path),
        "config": {"currency": "EUR"},
        "names": [],
        "env": {"DEBUG": "1"},
        "signatures": {},
        "only": None,
        "signature": "predict",
        "python_path": str(tmp_path / "src"),
        "batches": False,
    }
    assert settings.model_cache_size is not None
    assert settings.model_cache_size.models == 3
    assert settings.disk_model_cache_size is not None
    assert settings.disk_model_cache_size.models == 30
    assert (settings.processes_per_replica, settings.threads_per_process) == (2, 4)
    assert (settings.max_batch_size, settings.max_queue, settings.log_level) == (16, 100, "debug")


def test_models_by_their_paths(tmp_path: Path) -> None:
    paths = [
        {"name": "paris", "path": "gs://bucket/paris/", "signature_key": "fare"},
        {"name": "rome", "path": "./rome"},
    ]
    settings = read(tmp_path, api(models={"paths": paths}))
    assert settings.models == {"paris": "gs://bucket/paris/", "rome": str(tmp_path / "rome")}
    assert settings.predictor_config["names"] == ["paris", "rome"]
    assert settings.predictor_config["signatures"] == {"paris": "fare"}


def test_one_model_has_the_name_of_its_api(tmp_path: Path) -> None:
    settings = read(tmp_path, api(multi_model_reloading={"path": "s3://bucket/paris"}))
    assert settings.models == {"cities": "s3://bucket/paris"}
    assert settings.predictor_config["only"] == "cities"


def test_one_of_several_apis_is_chosen_by_its_name(tmp_path: Path) -> None:
    both = [{**api(), "name": "one"}, {**api(processes_per_replica=3), "name": "other"}, {"name": "task"}]
    assert read(tmp_path, both, name="#other").processes_per_replica == 3
    with pytest.raises(ConfigError, match=r"found these APIs with a handler: one, other; expected one"):
        read(tmp_path, both)


def test_other_settings_win(tmp_path: Path) -> None:
    settings = read(tmp_path, api(processes_per_replica=3), processes_per_replica="1", model_dir="elsewhere")
    assert (settings.processes_per_replica, settings.model_dir) == (1, "elsewhere")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "found these APIs with a handler: none"),
        ({**api(), "kind": "AsyncAPI"}, "kind: found AsyncAPI, expected RealtimeAPI"),
        (api(type="spark"), "handler.type: found spark, expected one of: python, tensorflow, onnx"),
        (api(protobuf_path="a.proto"), "handlers over gRPC are not served"),
        (api(cache=3), "handler: found the unknown cache, expected any of"),
        (
            api(models={"dir": "a", "path": "b"}),
            "found path, dir of path, paths and dir, expected one of them",
        ),
        (api(models={"cache_size": 1}), "found none of path, paths and dir"),
        (api(models={}), "found no models, expected one of path, paths and dir"),
        (api(models={"paths": {"paris": "a"}}), "found dict, expected a list"),
        (api(models={"paths": [{"path": "a"}]}), r"paths\[0\].name: found None, expected a text"),
        (api(models={"dir": 3}), "path: found 3, expected a text"),
        (api(config=[1]), "handler.config: found list, expected keys and values"),
        (api(processes_per_replica="many"), "processes_per_replica: found 'many'"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, document)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read"):
        load_settings(None, {}, {"cortex": str(tmp_path / "nowhere.yaml")})


def test_the_models_of_a_handler_are_where_it_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="isolation: found own with cortex, expected auto or shared"):
        read(tmp_path, api(), isolation="own")
