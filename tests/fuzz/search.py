"""Coverage-guided search for inputs that break a target: ``python tests/fuzz/search.py TARGET --seconds 60``.

Needs atheris (the extra ``fuzz``). What breaks one is written into ``corpus/<target>``, where pytest replays it from then on.
Without a target, the first byte of the input chooses one; so one short run sees all of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import atheris

READERS = (
    "api.address", "api.headers", "api.oip_routes", "catalog", "codecs", "config", "config_cortex", "config_kinds",
    "config_sources", "config_values", "keys", "messages", "residency.warmup", "runtimes.mlmodel_file", "runtimes.modelyaml", "runtimes.strict", "signing.manifest", "tiers.record", "tokens",
    "units", "workers.failure", "workers.forkwire", "workers.framing", "workers.wire",
)  # fmt: skip
"""What reads what others wrote; all else would only take its time."""

with atheris.instrument_imports(include=[f"hotset.{name}" for name in READERS]):
    from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
MOST_BYTES = 4096
MEMORY_MB = 2048
INPUT_S = 10
"""One input may take so long at most."""


def kept(name: str) -> list[bytes]:
    """Return what was found for a target before."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def all_targets(data: bytes) -> None:
    if data:
        [*TARGETS.values()][data[0] % len(TARGETS)].run(data[1:])


def inputs(name: str) -> list[bytes]:
    """Return where the search begins."""
    if name:
        return [*TARGETS[name].seeds, *kept(name)]
    return [bytes([number]) + it for number, name in enumerate(TARGETS) for it in inputs(name)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", default="", choices=["", *TARGETS])
    parser.add_argument("--seconds", type=int, default=0, help="0: until --runs")
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, default=CORPUS, help="where to write what breaks a target")
    parser.add_argument("--list", action="store_true", help="print the targets")
    options = parser.parse_args()
    if options.list:
        print(*TARGETS)
        return
    found = options.found / (options.target or "all")
    found.mkdir(parents=True, exist_ok=True)
    run: Callable[[bytes], None] = TARGETS[options.target].run if options.target else all_targets
    with tempfile.TemporaryDirectory(prefix="hotset-corpus-") as place:
        for number, data in enumerate(inputs(options.target)):
            Path(place, str(number)).write_bytes(data)
        limits = [
            f"-max_total_time={options.seconds}",
            f"-runs={options.runs}",
            f"-seed={options.seed}",
            f"-max_len={MOST_BYTES}",
            f"-timeout={INPUT_S}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-artifact_prefix={found}/",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *limits, place], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
