"""The commands that write into a store: ``hotset publish``, ``hotset label`` and ``hotset index``. They ask no server.

``cli`` adds them to its own. Progress goes to stderr and only to a terminal; what was done is one line on stdout.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from hotset.cli_keys import signer
from hotset.errors import InvalidInputError, StoreError
from hotset.units import format_bytes

if TYPE_CHECKING:
    from hotset.publishing import Progress as Uploaded
    from hotset.publishing import Published, Target
    from hotset.store import WritableStore

Depth = Annotated[
    int,
    typer.Option(
        "--name-depth", min=1, max=16, envvar="HOTSET_NAME_DEPTH", help="How many directories make a name."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print what was done, for programs.")]


def publish(
    *,
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="The directory (or the one file) to publish.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="MODEL_DIR/NAME/VERSION, such as s3://bucket/models/paris/3; without the version, the next one.",
        ),
    ],
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the version if it is there, or finish one that was begun."),
    ] = False,
    index: Annotated[
        bool, typer.Option("--index/--no-index", help="Tell the store's index, if it has one.")
    ] = True,
    sign_key: Annotated[
        Path | None,
        typer.Option(
            "--sign-key", metavar="FILE", help="Sign the version with this key, of `hotset keygen`."
        ),
    ] = None,
    name_depth: Depth = 1,
    as_json: Json = False,
) -> None:
    """Upload a version so that servers see all of it or nothing: files first, the marker last, then the index."""
    # Late, as in `serve`: the commands that only ask a server should not wait for what opens stores.
    from hotset.clock import SystemClock
    from hotset.publishing import Publisher, parse_target
    from hotset.store import open_store

    wanted = parse_target(target, name_depth=name_depth)
    sign = None if sign_key is None else signer(sign_key)
    store = open_store(wanted.model_dir)

    async def run(show: Callable[[Uploaded], None]) -> tuple[Published, bool]:
        publisher = Publisher(store, clock=SystemClock(), report=show)
        done = await publisher.publish(source, wanted, overwrite=overwrite, sign=sign)
        told = index and await _tell_index(
            store, wanted, name_depth=name_depth, done=f"{done.key} is published"
        )
        return done, told

    with _shown(wanted.name) as show:
        done, told = asyncio.run(run(show))
    _print_published(done, in_index=told, as_json=as_json)


def label(
    *,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="MODEL_DIR/NAME, such as s3://bucket/models/paris.")
    ],
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="LABEL=VERSION...", help="Such as stable=3; without a version the label is taken away."
        ),
    ],
    ahead: Annotated[
        bool,
        typer.Option("--ahead", help="Also for a version that is not there yet: the label waits for it."),
    ] = False,
    index: Annotated[
        bool, typer.Option("--index/--no-index", help="Tell the store's index, if it has one.")
    ] = True,
    name_depth: Depth = 1,
    as_json: Json = False,
) -> None:
    """Give labels to versions of a model, all of them in one step; servers move each once its version is loaded."""
    # Late, as above.
    from hotset.publishing import parse_changes, parse_target, set_labels
    from hotset.store import open_store

    wanted, said = parse_target(target, name_depth=name_depth), parse_changes(changes)
    if wanted.folder is not None:
        raise InvalidInputError(f"expected a model and no version of it, found: {target!r}")
    store = open_store(wanted.model_dir)

    async def run() -> tuple[Mapping[str, int], bool]:
        now = await set_labels(store, wanted.name, said, ahead=ahead)
        told = index and await _tell_index(
            store, wanted, name_depth=name_depth, done="the labels are written"
        )
        return now, told

    now, told = asyncio.run(run())
    if as_json:
        typer.echo(json.dumps({"name": wanted.name, "labels": now, "indexed": told}))
        return
    shown = ", ".join(f"{word}: {number}" for word, number in now.items())
    noted = "; the index is told" if told else ""
    typer.echo(f"labels of {wanted.name}: {shown or 'none'}{noted}")


def index(
    *,
    model_dir: Annotated[str, typer.Argument(help="The model directory: a directory or a bucket.")],
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; say where the index and the store differ.")
    ] = False,
    name_depth: Depth = 1,
    as_json: Json = False,
) -> None:
    """Write the index of a store anew from what is in it, so that servers read it and need not list the store."""
    # Late, as above.
    from hotset.catalog import Layout
    from hotset.clock import SystemClock
    from hotset.publishing import check_index, rebuild_index
    from hotset.store import open_store

    store, layout, clock = open_store(model_dir), Layout(name_depth=name_depth), SystemClock()
    if check:
        _print_faults(asyncio.run(check_index(store, layout, clock=clock)), as_json=as_json)
        return
    with Console(stderr=True, markup=False).status("reading the store") as status:

        def show(models: int) -> None:
            if models % 1000 == 0:
                status.update(f"reading the store: {models} models")

        done = asyncio.run(rebuild_index(store, layout, clock=clock, report=show))
    if as_json:
        typer.echo(json.dumps({"models": done.models, "versions": done.versions, "left_out": done.left_out}))
        return
    typer.echo(f"indexed {done.models} models, {done.versions} versions")
    if done.left_out:
        typer.echo(
            f"left out {done.left_out} versions that are too new or still being published; run it again later",
            err=True,
        )


async def _tell_index(store: WritableStore, target: Target, *, name_depth: int, done: str) -> bool:
    """Write what the store has of a model into its index; False if it has none. ``done`` is what is said if that fails."""
    from hotset.catalog import Layout
    from hotset.clock import SystemClock
    from hotset.publishing import update_index

    try:
        return await update_index(store, Layout(name_depth=name_depth), target.name, clock=SystemClock())
    except StoreError as error:
        raise StoreError(
            f"{done}, but the index was not told, run `hotset index {target.model_dir}`: {error}"
        ) from error


def _print_published(done: Published, *, in_index: bool, as_json: bool) -> None:
    if as_json:
        fields = {"name": done.key.name, "version": done.key.version, "url": done.url}
        typer.echo(json.dumps({**fields, "files": done.files, "bytes": done.bytes, "indexed": in_index}))
        return
    noted = ", and in the index" if in_index else ""
    typer.echo(f"published {done.key}: {done.files} files, {format_bytes(done.bytes)}, at {done.url}{noted}")


def _print_faults(faults: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"differ": faults}))
    elif faults is None:
        typer.echo("there is no index")
    elif not faults:
        typer.echo("the index says what the store has")
    else:
        shown = ", ".join(faults[:20]) + (", …" if len(faults) > 20 else "")
        typer.echo(f"the index differs from the store for {len(faults)} models: {shown}")
    if faults or faults is None:
        raise typer.Exit(1)


@contextmanager
def _shown(name: str) -> Iterator[Callable[[Uploaded], None]]:
    """Show how far an upload is, where there is a terminal; yields whom to tell."""
    console = Console(stderr=True, markup=False)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(name, total=None)
        yield lambda at: bar.update(task, completed=at.bytes, total=at.bytes_in_all)
