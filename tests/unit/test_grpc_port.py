"""The gRPC port: off unless it is asked for, and refused in words where it cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hotset.config import Settings, load_settings
from hotset.errors import ConfigError
from hotset.grpc_port import check_grpc

LOOK = """
import sys
import hotset.server
for package in ("grpc", "google.protobuf", "hotset.messages.pool", "hotset.api.grpc.listener"):
    assert package not in sys.modules, package
"""


def settings(**given: object) -> Settings:
    return load_settings(None, {}, {"model_dir": "/models", **given})


def test_it_is_off_unless_it_is_asked_for() -> None:
    assert settings().grpc_port == 0
    check_grpc(settings())


@pytest.mark.parametrize("package", ["grpc", "google.protobuf", "google"])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if package == "google":
        monkeypatch.delitem(sys.modules, "google.protobuf", raising=False)
    with pytest.raises(ConfigError, match=r"grpc_port: found 8501.*pip install 'hotset\[grpc\]'"):
        check_grpc(settings(grpc_port=8501))
    check_grpc(settings())


def test_with_the_extra() -> None:
    check_grpc(settings(grpc_port=8501))


def test_a_server_without_it_imports_nothing_of_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_command_refuses_it_at_once(tmp_path: Path) -> None:
    run = (
        "import sys; sys.modules['grpc'] = None; sys.argv = sys.argv[:1] + sys.argv[2:]; "
        "from hotset.cli import main; main()"
    )
    command = [sys.executable, "-c", run, "-", "serve", "--model-dir", tmp_path, "--grpc-port", "8501"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "gRPC is not installed" in done.stderr
    assert not list(tmp_path.iterdir())
