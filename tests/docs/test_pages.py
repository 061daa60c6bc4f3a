"""README and docs: their links lead somewhere, and their code is code that this version takes."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from doc_pages import PAGES, ROOT, Block, anchors, blocks, commands, links, name_of, text_of
from hotset.catalog import parse_labels
from hotset.cli import app
from hotset.config import load_settings
from hotset.instruments import DOCUMENTED
from hotset.runtimes.modelyaml import read_model_yaml
from hotset.runtimes.predictor_source import check_predictor
from hotset.runtimes.registry import names

SHELL = blocks("sh", "bash", "console")
EXTRAS = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert ROOT in (target, *target.parents), f"{name_of(page)} links out of the repository: {link}"
        if anchor:
            assert anchor in anchors(target), (
                f"{name_of(page)} links to {link}; there is: {sorted(anchors(target))}"
            )


def test_every_page_is_linked_from_the_readme_or_the_index_of_decisions() -> None:
    readme = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    index = ROOT / "docs" / "design" / "README.md"
    decisions = {(index.parent / link).resolve() for link in links(index)}
    assert set(PAGES) - {ROOT / "README.md"} <= readme | decisions


def test_blocks_are_in_known_languages() -> None:
    known = {"sh", "bash", "console", "yaml", "python", "text"}
    for page in PAGES:
        assert {block.language for block in blocks(*known, "", page=page)} <= known, name_of(page)
        assert text_of(name_of(page)).count("```") % 2 == 0


@pytest.mark.parametrize(
    "block", [it for it in blocks("yaml") if it.text.startswith("# model.yaml")], ids=str
)
def test_what_is_said_of_a_model_is_accepted(block: Block, tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(block.text)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "large.json").write_text("{}")
    options = read_model_yaml(tmp_path, ["samples/large.json"])
    assert options.runtime is None or options.runtime in names()


@pytest.mark.parametrize(
    "block", [it for it in blocks("yaml") if it.text.startswith("# labels.yaml")], ids=str
)
def test_files_of_labels_are_accepted(block: Block) -> None:
    assert parse_labels(block.text.encode())


@pytest.mark.parametrize(
    "block", [it for it in blocks("yaml") if it.text.startswith("# cortex.yaml")], ids=str
)
def test_files_of_cortex_are_accepted(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "cortex.yaml"
    file.write_text(block.text)
    assert load_settings(None, {}, {"cortex": str(file)}).predictor is not None


@pytest.mark.parametrize("block", [it for it in blocks("yaml") if it.text[0] != "#"], ids=str)
def test_settings_are_accepted(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(block.text)
    given = yaml.safe_load(block.text)
    assert set(given) <= set(load_settings(file, {}, {}).model_fields_set)


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_is_python_and_predictors_fit(block: Block, tmp_path: Path) -> None:
    names = {node.name for node in ast.parse(block.text).body if isinstance(node, ast.ClassDef)}
    if "Predictor" in names:
        file = tmp_path / "predictor.py"
        file.write_text(block.text)
        assert check_predictor(file).class_name == "Predictor"


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_are_known(block: Block) -> None:
    for words in commands(block):
        while re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        program, *arguments = words
        match program:
            case "hotset":
                parse(arguments)
            case "make":
                assert {word for word in arguments if "=" not in word} <= TARGETS
            case "python":
                assert (ROOT / arguments[0]).exists()
            case "pip":
                check_install(arguments)
            case _:
                assert program in {"curl", "export", "git", "cd"}, f"{block}: {program}"


def parse(arguments: list[str]) -> None:
    """Read a line as the command itself does, up to the point where it would run."""
    command: typer.core.TyperCommand | typer.core.TyperGroup = typer.main.get_command(app)  # type: ignore[assignment]
    context = None
    while isinstance(command, typer.core.TyperGroup):
        context = command.make_context("hotset", list(arguments), parent=context)
        _, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[assignment]
    assert command is not None
    command.make_context("hotset", list(arguments), parent=context)


def check_install(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    for extra in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert set(extra.split(",")) <= EXTRAS.keys()


def test_a_wrong_flag_would_be_noticed() -> None:
    with pytest.raises(Exception, match=r"[Nn]o such option"):
        parse(["serve", "./models", "--no-such-flag", "1"])


def test_metrics_named_anywhere_exist() -> None:
    known = {item.name for item in DOCUMENTED}
    suffixed = {
        f"{item.name}{end}" for item in DOCUMENTED if item.buckets for end in ("_count", "_sum", "_bucket")
    }
    for page in PAGES:
        for name in re.findall(r"\bhotset_[a-z_]+\b", text_of(name_of(page))):
            assert name in known | suffixed, f"{name_of(page)}: {name}"


def test_no_line_is_too_long_to_read_in_a_terminal() -> None:
    for page in PAGES:
        for number, line in enumerate(text_of(name_of(page)).splitlines(), 1):
            assert len(line) <= 160 or line.startswith("|"), f"{name_of(page)}:{number}"
