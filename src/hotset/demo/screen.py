"""What the demo shows: a live view while it asks, and one table when it is done. It reads; it never asks or counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from hotset.demo.drive import Drive, Rollover, TierUse
from hotset.demo.served import Footprint
from hotset.demo.tally import Tally, Tier, percentile
from hotset.units import format_bytes

COLOURS: Final[Mapping[Tier, str]] = {
    Tier.MEMORY: "bright_red",
    Tier.DISK: "yellow",
    Tier.STORE: "bright_blue",
}
_SHARE_WIDTH: Final = 36
_INDENT: Final = (0, 0, 0, 2)


@dataclass(frozen=True, slots=True)
class Results:
    """What the table is made of, once the run is over. ``counts`` are the server's own, by name with labels."""

    drive: Drive
    counts: Mapping[str, float]
    footprint: Footprint
    models: int

    @property
    def tally(self) -> Tally:
        return self.drive.tally


def title(*, models: int, memory: int, disk: int) -> Text:
    """Return the first line."""
    return Text.assemble(
        ("hotset demo", "bold"),
        f"  {models:,} cities, a taxi tariff learned for each; room for ",
        (f"{memory} in memory", COLOURS[Tier.MEMORY]),
        ", ",
        (f"{disk} on disk", COLOURS[Tier.DISK]),
    )


def work_progress(console: Console) -> Progress:
    """Return the bar for what is counted: training, asking."""
    return Progress(
        TextColumn("  [dim]{task.description:<9}"),
        BarColumn(bar_width=_SHARE_WIDTH),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
        auto_refresh=False,
    )


def live_view(progress: Progress, drive: Drive) -> RenderableType:
    """Return the view of this moment."""
    rows = [progress.get_renderable(), _shares(drive.tally), _newest(drive.tally), _tiers(drive.tiers)]
    if drive.rollover is not None:
        rows.append(_rollover(drive.rollover))
    return Group(*rows)


def _line(label: str, text: Text) -> Padding:
    return Padding(Text.assemble((f"{label:<10}", "dim"), text), _INDENT)


def _shares(tally: Tally) -> Padding:
    """Of the answers so far: how many found their model in which tier, as one bar of three colours."""
    bar = Text()
    legend = Text()
    for tier in Tier:
        share = tally.share(tier)
        bar.append("█" * round(share * _SHARE_WIDTH), COLOURS[tier])
        legend.append(f"  {tier} ", COLOURS[tier])
        legend.append(f"{share:.0%}", "bold")
    bar.truncate(_SHARE_WIDTH)
    bar.pad_right(_SHARE_WIDTH - bar.cell_len)
    return _line("found in", bar.append_text(legend))


def _newest(tally: Tally) -> Padding:
    text = Text()
    for tier in Tier:
        verdict = tally.newest.get(tier)
        if verdict is None:
            continue
        text.append(f"{verdict.city} ", COLOURS[tier])
        text.append(f"{verdict.price:.2f} in {verdict.seconds * 1000:.1f} ms   ")
    text.truncate(96, overflow="ellipsis")
    return _line("fares", text)


def _tiers(tiers: Mapping[str, TierUse]) -> Padding:
    text = Text()
    for tier, use in tiers.items():
        text.append(f"{use.models} of {use.capacity} {_place(tier)}   ")
    return _line("models", text)


def _place(tier: str) -> str:
    return f"in {tier}" if tier == Tier.MEMORY else f"on {tier}"


def _rollover(rollover: Rollover) -> Padding:
    name = f"{rollover.city} v{rollover.version}"
    if rollover.took_s is None:
        text = Text.assemble(
            (name, "bold"), " is in the store; ", (f"v{rollover.version - 1}", "bold"),
            f" answers on ({rollover.asked_meanwhile} times so far)",
        )  # fmt: skip
        return _line("new model", text)
    text = Text.assemble(
        (name, "bold"),
        f" is latest, {rollover.took_s:.1f} s after it was published; ",
        (f"{rollover.asked_meanwhile} requests", "bold"),
        " were answered meanwhile",
    )
    return _line("new model", text)


def results_table(results: Results) -> Table:
    """Return the table at the end."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("the model was")
    table.add_column("requests", justify="right")
    table.add_column("share", width=20)
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    for row in _tier_rows(results.tally):
        table.add_row(*row)
    return table


def _tier_rows(tally: Tally) -> Iterator[tuple[RenderableType, ...]]:
    labels = {
        Tier.MEMORY: "in memory",
        Tier.DISK: "on disk: loaded first",
        Tier.STORE: "in the store: fetched, then loaded",
    }
    for tier in Tier:
        seconds = tally.seconds[tier]
        yield (
            Text(labels[tier], COLOURS[tier]),
            f"{len(seconds):,}",
            Bar(size=1.0, begin=0.0, end=tally.share(tier), width=20, color=COLOURS[tier]),
            _milliseconds(percentile(seconds, 0.50)),
            _milliseconds(percentile(seconds, 0.99)),
        )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def figures_table(results: Results) -> Table:
    """Return the figures that are not about a tier's speed."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    for label, value in _figures(results):
        table.add_row(label, value)
    return table


def _figures(results: Results) -> Iterator[tuple[str, Text]]:
    tally, drive = results.tally, results.drive
    yield "requests", Text(f"{tally.done:,}, {tally.done / max(drive.seconds, 1e-9):,.0f} a second")
    yield (
        "first answer",
        Text(f"after {drive.first_s:.1f} s, with the import of scikit-learn; not in the table"),
    )
    yield "failures", _good_if_none(tally.failures)
    yield "wrong answers", _good_if_none(tally.wrong).append("  (each one was checked)", "dim")
    yield "fetches", Text(f"{results.counts.get('hotset_fetch_seconds_count', 0.0):,.0f}")
    memory, disk = (_evictions(results.counts, tier) for tier in ("memory", "disk"))
    yield "evictions", Text(f"{memory:,.0f} from memory, {disk:,.0f} from disk")
    for tier, use in drive.tiers.items():
        text = f"{use.models} of {use.capacity} models, {format_bytes(use.bytes)}; never more than {use.most}"
        yield _place(tier), Text(text)
    footprint = results.footprint
    text = (
        f"{format_bytes(footprint.server)} the server, {format_bytes(footprint.models)} the models' processes"
    )
    yield "resident memory", Text(text)
    rollover = drive.rollover
    if rollover is not None and rollover.took_s is not None:
        text = f"{rollover.city} v{rollover.version} answered {rollover.took_s:.1f} s after it was published"
        yield "new version", Text(text)


def _good_if_none(count: int) -> Text:
    return Text("none", "green") if not count else Text(f"{count:,}", "bold red")


def _evictions(counts: Mapping[str, float], tier: str) -> float:
    return sum(
        value
        for name, value in counts.items()
        if name.startswith("hotset_evictions_total{") and f'tier="{tier}"' in name
    )


def meaning(results: Results) -> Text:
    """Return what it all means, in a sentence or two."""
    tally = results.tally
    memory = results.drive.tiers["memory"]
    if not tally.failures and not tally.wrong:
        waited = percentile([*tally.seconds[Tier.DISK], *tally.seconds[Tier.STORE]], 0.5)
        return Text(
            f"{results.models:,} models shared {memory.capacity} places in memory. {tally.share(Tier.MEMORY):.0%} of "
            f"the requests found theirs there; the others waited for it, typically {_milliseconds(waited)}, and "
            "nobody was turned away or given another city's fare."
        )
    text = Text("Something went wrong:", "bold red")
    for reason in tally.reasons:
        text.append(f"\n  {reason}", "not bold red")
    return text


def invitation(url: str, cities: tuple[str, ...]) -> Text:
    """Return three lines to try, which may be copied as they are."""
    cold = cities[-1]
    lines = (
        ("a ride of 4 km and 12 minutes by night, in a city that few ask for",
         f"""curl -s {url}/models/{cold}/predict -d '{{"instances": [[4.0, 12.0, 1, 0.0]]}}'"""),
        ("where each version is: in memory, on disk or in the store",
         f"curl -s '{url}/models?prefix={cities[0]}&limit=1' | python3 -m json.tool"),
        ("what a dashboard would read", f"curl -s {url}/metrics | grep hotset_tier"),
    )  # fmt: skip
    text = Text("Try it, in another terminal:\n")
    for comment, line in lines:
        text.append(f"\n  # {comment}\n", "dim").append(f"  {line}\n", "bold")
    return text
