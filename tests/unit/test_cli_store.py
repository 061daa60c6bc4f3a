"""``hotset publish`` and ``hotset index`` on a directory, as somebody types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hotset.catalog.index import INDEX_PATH
from hotset.cli import app
from hotset.signing.keys import read_checking_keys, signed_payload
from hotset.signing.manifest import SIGNATURE_FILE, read_manifest
from hotset.tokens import digest_of, read_tokens


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"HOTSET_NAME_DEPTH": ""})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "model.joblib").write_text("weights")
    return tmp_path / "source"


def test_publishing_says_what_went_where(store: Path, source: Path) -> None:
    result = run("publish", source, store / "paris" / "7")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"published paris@7: 1 files, 7B, at {store}/paris/7\n"
    assert (store / "paris" / "7" / "_SUCCESS").exists()
    result = run("publish", source, store / "paris", "--json")
    assert json.loads(result.stdout) == {
        "name": "paris",
        "version": 8,
        "url": f"{store}/paris/8",
        "files": 1,
        "bytes": 7,
        "indexed": False,
    }


def test_a_version_that_is_there_is_an_error_of_one_line(store: Path, source: Path) -> None:
    run("publish", source, store / "paris" / "7")
    result = run("publish", source, store / "paris" / "7")
    assert result.exit_code == 1
    assert result.stderr == (
        "hotset: paris@7 is in the store already; publish the next number, or give --overwrite\n"
    )
    assert run("publish", source, store / "paris" / "7", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [("3", "expected where the version goes"), ("absent/paris/1", "the directory does not exist")],
)
def test_a_wrong_target_is_an_error(source: Path, target: str, message: str) -> None:
    result = run("publish", source, target)
    assert result.exit_code == 1
    assert message in result.stderr


def test_names_may_be_deep(store: Path, source: Path) -> None:
    result = run("publish", source, store / "acme" / "paris", "--name-depth", "2")
    assert "published acme/paris@1" in result.stdout
    assert "1 models, 1 versions" in run("index", store, "--name-depth", 2).stdout


def test_an_index_is_made_kept_and_checked(store: Path, source: Path) -> None:
    assert run("index", store, "--check").stdout == "there is no index\n"
    run("publish", source, store / "paris")
    assert run("index", store).stdout == "indexed 1 models, 1 versions\n"
    assert "and in the index" in run("publish", source, store / "rome").stdout
    assert run("index", store, "--check").stdout == "the index says what the store has\n"
    assert "in the index" not in run("publish", source, store / "oslo", "--no-index").stdout
    result = run("index", store, "--check")
    assert (result.exit_code, result.stdout) == (1, "the index differs from the store for 1 models: oslo\n")
    assert json.loads(run("index", store, "--check", "--json").stdout) == {"differ": ["oslo"]}
    (store / "lima" / "1").mkdir(parents=True)
    (store / "lima" / "1" / "model").write_text("new and without a marker")
    result = run("index", store, "--json")
    assert json.loads(result.stdout) == {"models": 3, "versions": 4 - 1, "left_out": 1}
    assert "left out 1 versions that are too new" in run("index", store).stderr


def test_an_index_that_is_none_leaves_the_version_published(store: Path, source: Path) -> None:
    (store / INDEX_PATH).write_text("<html>")
    result = run("publish", source, store / "paris")
    assert result.exit_code == 1
    assert "paris@1 is published, but the index was not told" in result.stderr
    assert f"run `hotset index {store}`" in result.stderr
    result = run("index", store, "--check")
    assert (result.exit_code, "is of no use" in result.stderr) == (1, True)
    assert run("index", store).exit_code == 0


def test_check_compares_the_store_with_its_index(store: Path, source: Path) -> None:
    run("publish", source, store / "paris")
    run("index", store)
    check = ["config", "check", "--store"]
    for discovery, said in (
        ("list", "the store: 1 models"),
        ("on_demand", "the store's first page: 1 models"),
    ):
        env = {"HOTSET_MODEL_DIR": str(store), "HOTSET_DISCOVERY": discovery}
        assert said in CliRunner().invoke(app, check, env=env).stderr
    env = {"HOTSET_MODEL_DIR": str(store)}
    assert "the store's index: it says what the store has" in CliRunner().invoke(app, check, env=env).stderr
    run("publish", source, store / "rome", "--no-index")
    assert (
        "differs from the store for 1 models, such as rome" in CliRunner().invoke(app, check, env=env).stderr
    )


def test_labels_are_given_and_the_index_is_told(store: Path, source: Path) -> None:
    for _ in range(2):
        run("publish", source, store / "paris")
    assert (
        run("label", store / "paris", "stable=1", "canary=2").stdout
        == "labels of paris: canary: 2, stable: 1\n"
    )
    assert (store / "paris" / "labels.yaml").read_text() == "stable: 1\ncanary: 2\n"
    run("index", store)
    assert "the index is told" in run("label", store / "paris", "stable=2").stdout
    assert run("index", store, "--check").exit_code == 0
    result = run("label", store / "paris", "stable=", "canary=", "--json")
    assert json.loads(result.stdout) == {"name": "paris", "labels": {}, "indexed": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("paris", "stable=7"), "'paris' has no version 7, found: 1"),
        (("paris", "stable"), "such as stable=3, found: 'stable'"),
        (("paris/1", "stable=1"), "expected a model and no version of it"),
    ],
)
def test_wrong_labels_are_errors(store: Path, source: Path, words: tuple[str, str], message: str) -> None:
    run("publish", source, store / "paris")
    result = run("label", store / words[0], words[1])
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_key_signs_what_is_published_and_what_lies_in_a_directory(
    store: Path, source: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    line = run("keygen", key).stdout.strip()
    keys = read_checking_keys([line])
    result = run("publish", source, store / "paris" / "7", "--sign-key", key)
    assert result.exit_code == 0, result.stderr
    published = signed_payload((store / "paris" / "7" / SIGNATURE_FILE).read_bytes(), keys)
    assert run("sign", source, "paris", 7, "--key", key).stdout == "signed paris@7: 1 files\n"
    assert signed_payload((source / SIGNATURE_FILE).read_bytes(), keys) == published
    # What was signed before goes along as it is, or is signed anew.
    assert run("publish", source, store / "paris").exit_code == 0
    assert signed_payload((store / "paris" / "8" / SIGNATURE_FILE).read_bytes(), keys) == published
    assert run("publish", source, store / "paris", "--sign-key", key).exit_code == 0
    anew = signed_payload((store / "paris" / "9" / SIGNATURE_FILE).read_bytes(), keys)
    assert anew is not None
    assert read_manifest(anew).version == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["sign", "{absent}", "paris", "1", "--key", "{key}"],
            "expected the directory with the version's files",
        ),
        (["sign", "{source}", "a//b", "1", "--key", "{key}"], "an empty part in the model name"),
        (["sign", "{source}", "paris", "1", "--key", "{absent}"], "cannot read the key"),
        (["keygen", "{key}"], "cannot write the new key"),
    ],
)
def test_signing_what_does_not_fit(source: Path, tmp_path: Path, words: list[str], message: str) -> None:
    key = tmp_path / "key.pem"
    run("keygen", key)
    places = {"source": source, "key": key, "absent": tmp_path / "absent"}
    result = run(*(word.format(**places) for word in words))
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_token_goes_to_stderr_and_its_line_to_stdout() -> None:
    result = run(
        "token", "ci", "--scope", "predict", "--scope", "metrics", "--models", "acme/*", "--models", "paris"
    )
    (token,) = read_tokens(result.stdout.splitlines(), place="here")
    secret = result.stderr.strip().rpartition(" ")[2]
    assert token.digest == digest_of(secret.encode())
    assert (token.grant.name, token.grant.patterns) == ("ci", ("acme/*", "paris"))
    assert secret not in result.stdout
    assert run("token", "no/name").exit_code == 1
