"""The command ``python -m hotset.demo``: makes the models, starts the server, asks it, shows, and serves on.

Ctrl-C (or SIGTERM, or the terminal going away) ends it at any moment, and the server with it.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop
from rich.console import Console
from rich.live import Live
from rich.padding import Padding

from hotset.demo import screen
from hotset.demo.drive import Drive, counters
from hotset.demo.fares import FareStore, open_fares
from hotset.demo.served import Served, ServerFailedError, serving
from hotset.demo.traffic import plan

REFRESH_S: Final = 0.125
PIPE_WIDTH: Final = 110
_TAIL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Options:
    """How large the demo is. ``once``: end after the table."""

    directory: Path
    models: int
    memory: int
    disk: int
    requests: int
    connections: int
    once: bool


def main(
    *,
    once: Annotated[bool, typer.Option("--once", help="End after the table.")] = False,
    models: Annotated[int, typer.Option(min=1, max=10_000, help="How many cities there are.")] = 1000,
    memory: Annotated[int, typer.Option(min=1, help="How many models have room in memory.")] = 50,
    disk: Annotated[int, typer.Option(min=1, help="How many models have room on disk.")] = 200,
    requests: Annotated[int, typer.Option(min=1, help="How many requests are sent.")] = 10_000,
    connections: Annotated[int, typer.Option(min=1, max=256, help="From how many connections.")] = 16,
    directory: Annotated[Path, typer.Option(help="Where the models are made and kept.")] = Path("demo-data"),
) -> None:
    """Serve a thousand city models from room for fifty, and show what happened."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    options = Options(directory, models, memory, max(disk, memory), requests, connections, once)
    try:
        is_good = _demo(console, options)
    except KeyboardInterrupt:
        console.print("\nEnded; the server has ended too.", style="dim")
        return
    except (ServerFailedError, OSError) as error:
        console.print(f"The demo cannot go on: {error}", style="bold red", markup=False)
        raise typer.Exit(1) from error
    if not is_good:
        raise typer.Exit(1)


def _demo(console: Console, options: Options) -> bool:
    """Return whether every request was answered, and rightly."""
    options.directory.mkdir(parents=True, exist_ok=True)
    fares = _train(console, options)
    console.print(screen.title(models=options.models, memory=options.memory, disk=options.disk))
    console.print()
    with _server(console, options, fares) as served:
        drive = uvloop.run(_ask(console, served, fares, options))
        results = screen.Results(
            drive,
            counts=uvloop.run(counters(served.port)),
            footprint=served.footprint(),
            models=options.models,
        )
        _show(console, results)
        if not options.once:
            console.print(screen.invitation(served.url, fares.cities))
            _serve_on(console, served)
    return not (drive.tally.failures or drive.tally.wrong)


def _train(console: Console, options: Options) -> FareStore:
    progress = screen.work_progress(console)
    task = progress.add_task("training", total=options.models, note="cities")
    with Live(progress, console=console, auto_refresh=False, transient=True) as live:
        shown_s = 0.0

        def on_model(count: int) -> None:
            nonlocal shown_s
            if time.monotonic() - shown_s >= REFRESH_S:
                shown_s = time.monotonic()
                progress.update(task, completed=count)
                live.refresh()

        return open_fares(options.directory, models=options.models, on_model=on_model)


@contextmanager
def _server(console: Console, options: Options, fares: FareStore) -> Iterator[Served]:
    with ExitStack() as stack:
        disk_path = stack.enter_context(tempfile.TemporaryDirectory(prefix="hotset-demo-"))
        flags = (
            "--model-dir", str(fares.models_path),
            "--disk-path", disk_path,
            "--model-cache-size", str(options.memory),
            "--disk-model-cache-size", str(options.disk),
            "--sync-interval", "1s",
        )  # fmt: skip
        with console.status("  starting the server: hotset serve"):
            served = stack.enter_context(serving(flags, log=options.directory / "server.log"))
        yield served


async def _ask(console: Console, served: Served, fares: FareStore, options: Options) -> Drive:
    asks = plan(fares, requests=options.requests)
    drive = Drive(served.port, fares, asks, connections=options.connections)
    progress = screen.work_progress(console)
    task = progress.add_task("asking", total=len(asks), note="")
    began_s = time.perf_counter()
    with Live(console=console, auto_refresh=False) as live:

        def show() -> None:
            took_s = drive.seconds or time.perf_counter() - began_s - drive.first_s
            rate = drive.tally.done / max(took_s, 1e-9)
            note = f"{rate:,.0f} a second" if drive.tally.done else "the first one: scikit-learn is imported"
            progress.update(task, completed=min(drive.tally.done, len(asks)), note=note)
            live.update(screen.live_view(progress, drive), refresh=True)

        running = asyncio.create_task(drive.run())
        try:
            while not running.done():
                show()
                await asyncio.wait({running}, timeout=REFRESH_S)
                served.check_alive()
        finally:
            running.cancel()
            await asyncio.wait({running})
        show()
    running.result()
    return drive


def _show(console: Console, results: screen.Results) -> None:
    for part in (screen.results_table(results), screen.figures_table(results), screen.meaning(results)):
        console.print()
        console.print(Padding(part, (0, 2)))
    console.print()


def _serve_on(console: Console, served: Served) -> None:
    """Show what the server logs from now on, until Ctrl-C."""
    console.print(f"Serving on {served.url} until Ctrl-C. What the server does from now on:", style="dim")
    with served.log.open(encoding="utf-8", errors="replace") as log:
        log.seek(0, 2)
        while True:
            served.check_alive()
            for line in log:
                console.print(f"  {line.rstrip()}", style="dim", markup=False)
            time.sleep(_TAIL_S)


if __name__ == "__main__":
    typer.run(main)
