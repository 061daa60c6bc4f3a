"""The command ``hotset``: serve, ask a running server, and check or describe the settings.

Every setting is a flag of ``serve``, made from the table in ``config``. Tables are for people and go to stdout;
``--json`` prints what the server answered. An error is one sentence on stderr and exit code 1; a wrong use of the
command is exit code 2.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from hotset import cli_check, cli_keys, cli_store, config_docs
from hotset.cli_tables import (
    models_table,
    plain,
    settings_table,
    status_table,
    tiers_table,
    versions_table,
    workers_table,
)
from hotset.client import DEFAULT_URL, Client, Prediction, to_json
from hotset.config import TABLE, Settings, kind_of, load_settings
from hotset.config_kinds import SWITCH, WrongValueError, duration
from hotset.config_sources import TOKEN_VARIABLE, flag_of
from hotset.config_values import read_ref
from hotset.errors import ConfigError, HotsetError, InvalidInputError
from hotset.keys import ModelRef, parse_ref
from hotset.status import ModelPage, ModelStatus
from hotset.workers.headstart import head_start

PIPE_WIDTH: Final = 200
"""Columns of a table that no terminal shows; rich's own guess would cut names off."""


class _Commands(TyperGroup):
    """Turns our errors into one sentence and exit code 1, wherever a command raised them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HotsetError as error:
            for line in str(error).splitlines():
                typer.echo(f"hotset: {plain(line)}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Commands,
    help="One endpoint, thousands of models; only the hot set stays in memory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Check and describe the settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="HOTSET_CONFIG", help="The settings' file, in YAML.")
]
Url = Annotated[str, typer.Option("--url", "-u", envvar="HOTSET_URL", help="The server to ask.")]
Timeout = Annotated[str, typer.Option("--timeout", help="How long to wait for the answer.")]
Json = Annotated[bool, typer.Option("--json", help="Print what the server answered, for programs.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model: paris, acme/paris, or paris@3.")]
Version = Annotated[str | None, typer.Option("--version", "-v", help="A version number or latest.")]


def main() -> None:
    """Run the command line; the entry point of the package."""
    app()


def _tables() -> Console:
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def _client(url: str, timeout: str) -> Client:
    try:
        timeout_s: float = duration().read(timeout)
    except WrongValueError as error:
        raise InvalidInputError(f"--timeout: {error}") from error
    env = os.environ
    return Client(
        url, timeout_s=timeout_s, token=env.get(TOKEN_VARIABLE), authorities=env.get("SSL_CERT_FILE")
    )


def _ref(name: str, version: str | None) -> ModelRef:
    """Return what is meant by ``paris``, ``paris@3`` or ``paris --version 3``."""
    if version is not None:
        return parse_ref(name, version)
    try:
        return read_ref(name)
    except WrongValueError as error:
        raise InvalidInputError(str(error)) from error


def serve(config: Path | None, location: str | None, **flags: Any) -> None:
    """Serve the models of a directory or a bucket until SIGTERM or Ctrl-C."""
    if location is not None and flags["model_dir"] is not None:
        _wrong_use(f"found two model directories: {location} and {flags['model_dir']}; expected one")
    flags["model_dir"] = location or flags["model_dir"]
    settings = load_settings(config, os.environ, flags)
    with head_start(wanted=settings.processes_per_replica > 0) as forks:
        # Imported here because it brings every framework-free part of the server, which no other command needs; and
        # meanwhile the fork server imports its own.
        from hotset import server

        server.run(settings, forks=forks)


def _wrong_use(message: str) -> NoReturn:
    typer.echo(f"hotset: {message}", err=True)
    raise typer.Exit(2)


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``serve`` the signature that typer makes flags of: one for each setting, read by the setting itself."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    location = Annotated[str | None, typer.Argument(metavar="[MODEL_DIR]", help="The same as --model-dir.")]
    parameters = [
        inspect.Parameter("config", keyword, default=None, annotation=ConfigFile),
        inspect.Parameter("location", keyword, default=None, annotation=location),
        *(inspect.Parameter(name, keyword, default=None, annotation=_flag(name)) for name in TABLE),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _flag(name: str) -> Any:
    shown = config_docs.show(name, TABLE[name].default)
    text = config_docs.help_of(name) + (f" Default: {shown}." if shown else "")
    panel = config_docs.group_of(name)
    return Annotated[
        str | None, typer.Option(flag_of(name), metavar=_metavar(name), help=text, rich_help_panel=panel)
    ]


def _metavar(name: str) -> str:
    """Return a short word for a setting's type: DURATION, NUMBER, console|json."""
    kind = kind_of(name)
    words = ("true", "false") if kind is SWITCH else kind.schema.get("enum", ())
    if words:
        return "|".join(words) if len(words) == 2 else "WORD"
    return re.split(r",| of | from | or ", kind.name)[0].upper()


app.command("serve")(_with_flags(serve))


@app.command()
def models(
    *,
    prefix: Annotated[str, typer.Argument(help="Only models whose names start with this.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    after: Annotated[str, typer.Option(help="Only models whose names sort behind this one.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    timeout: Timeout = "60s",
) -> None:
    """List the models that a server offers, and where they are."""
    with _client(url, timeout) as client:
        page = client.models(prefix=prefix, limit=limit, after=after)
        while every and page.next is not None:
            more = client.models(prefix=prefix, limit=1000, after=page.next)
            page = ModelPage((*page.models, *more.models), more.next)
    if as_json:
        typer.echo(to_json(page))
        return
    _tables().print(models_table(page.models))
    if page.next is not None:
        typer.echo(f"There are more: --after {plain(page.next)}, or --all", err=True)


@app.command()
def show(
    name: Name,
    version: Version = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    timeout: Timeout = "60s",
) -> None:
    """Show every version of one model, and where it is."""
    with _client(url, timeout) as client:
        model = client.model(_ref(name, version))
    _print_model(model, as_json=as_json)


def _print_model(model: ModelStatus, *, as_json: bool) -> None:
    if as_json:
        typer.echo(to_json(model))
    else:
        _tables().print(versions_table(model))


@app.command()
def predict(
    *,
    name: Name,
    version: Version = None,
    data: Annotated[
        str, typer.Option("--data", "-d", help="The payload: JSON, @FILE, or - for standard input.")
    ] = "-",
    content_type: Annotated[str, typer.Option(help="What the payload is.")] = "application/json",
    url: Url = DEFAULT_URL,
    timeout: Timeout = "60s",
) -> None:
    """Ask a model, and print its answer."""
    ref = _ref(name, version)
    body = _payload(data)
    with _client(url, timeout) as client:
        answer = client.predict(ref, body, content_type=content_type)
    _print_answer(ref, answer)


def _payload(data: str) -> bytes:
    if data == "-":
        if sys.stdin.isatty():
            _wrong_use("found no payload; expected --data '{…}', --data @file, or one on standard input")
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode("utf-8", "surrogateescape")
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise InvalidInputError(f"--data: cannot read {data[1:]}: {error.strerror}") from error


def _print_answer(ref: ModelRef, answer: Prediction) -> None:
    """Print the body to stdout as it is, and to stderr which version gave it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty() and not answer.body.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    if sys.stderr.isatty():
        typer.echo(f"{plain(ref.name)}@{answer.version}, {answer.seconds * 1000:.1f} ms", err=True)


def _add_verb(verb: str, text: str) -> None:
    def command(
        name: Name,
        version: Version = None,
        as_json: Json = False,
        url: Url = DEFAULT_URL,
        timeout: Timeout = "5m",
    ) -> None:
        ref = _ref(name, version)
        with (
            _client(url, timeout) as client,
            Console(stderr=True, markup=False).status(f"{verb} {plain(name)}"),
        ):
            model = client.verb(verb, ref)
        _print_model(model, as_json=as_json)

    app.command(verb, help=text)(command)


_add_verb("load", "Load a model, and return when it is in memory.")
_add_verb("unload", "Unload a model, and return when its memory is free.")
_add_verb("pin", "Load a model, and keep it in memory.")
_add_verb("unpin", "Let a pinned model be evicted again.")


@app.command()
def status(as_json: Json = False, url: Url = DEFAULT_URL, timeout: Timeout = "60s") -> None:
    """Show a server's store, sync, tiers and workers."""
    with _client(url, timeout) as client:
        page = client.status()
    if as_json:
        typer.echo(to_json(page))
        return
    console = _tables()
    console.print(status_table(page))
    for table in (tiers_table(page.server.tiers), workers_table(page.server.workers)):
        console.print()
        console.print(table)


app.command()(cli_store.publish)
app.command()(cli_store.label)
app.command()(cli_store.index)
app.command()(cli_check.check)
app.command()(cli_keys.token)
app.command()(cli_keys.keygen)
app.command()(cli_keys.sign)


@app.command()
def version() -> None:
    """Print the version of hotset."""
    typer.echo(f"hotset {distribution_version('hotset')}")


@config_app.command()
def check(
    file: Annotated[Path | None, typer.Argument(envvar="HOTSET_CONFIG", help="The settings' file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every setting, for programs.")] = False,
    store: Annotated[
        bool, typer.Option("--store", help="List the store too, and say what does not fit.")
    ] = False,
) -> None:
    """Say what is wrong with the settings in a file and in the environment; start nothing."""
    settings = load_settings(file, os.environ, {})
    if settings.predictor is not None:
        _check_predictor(settings, settings.predictor)
    if store:
        _check_store(settings)
    values = _shown(settings)
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    changed = {
        name: value for name, value in values.items() if getattr(settings, name) != TABLE[name].default
    }
    typer.echo(f"{'the environment' if file is None else file}: good")
    _tables().print(settings_table(changed))


def _check_predictor(settings: Settings, path: str) -> None:
    # Late, as in `serve`.
    from hotset.runtimes.handler_source import check_handler
    from hotset.runtimes.predictor_source import check_predictor

    if settings.cortex is not None:
        check_handler(Path(path), settings.predictor_config)
    else:
        check_predictor(Path(path))


def _check_store(settings: Settings) -> None:
    # Late, as in `serve`: the commands that only ask a server should not wait for what opens stores.
    from hotset.models import explain_misfit, layout_of, look

    found = asyncio.run(look(settings))
    listing, where = found.listing, "the store" if found.is_whole else "the store's first page"
    typer.echo(f"{where}: {len(listing.models)} models, {listing.models.version_count} versions", err=True)
    if found.index:
        typer.echo(f"the store's index: {found.index}", err=True)
    if listing.rejects:
        typer.echo(explain_misfit(layout_of(settings), listing.rejects), err=True)
    if not listing.models:
        raise ConfigError("the store holds no models that fit; see the trees above")


def _shown(settings: Settings) -> Mapping[str, str]:
    return {name: config_docs.show(name, getattr(settings, name)) for name in TABLE}


@config_app.command()
def schema() -> None:
    """Print a JSON Schema of the settings' file, for editors."""
    typer.echo(json.dumps(config_docs.json_schema(), indent=2, ensure_ascii=False))


@config_app.command()
def docs() -> None:
    """Print the documentation of every setting, in Markdown."""
    typer.echo(config_docs.markdown(), nl=False)


if __name__ == "__main__":
    main()
