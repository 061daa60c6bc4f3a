"""A process that fetches, evicts and saves without end, to be killed at any moment. Run with a path and 0 or 1 for fsync."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from diskkit import Opened, fp, put
from hotset.events import Cause
from hotset.payload import Signature
from hotset.tiers.ledger import Capacity


async def work(path: Path, *, fsync: bool) -> None:
    choose = random.Random()
    async with Opened(path, Capacity(models=12), fsync=fsync, write_delay_s=0.001) as opened:
        print("ready", flush=True)
        while True:
            number = choose.randrange(40)
            if opened.tier.lookup(fp(number)) is None:
                await put(opened.tier, number, number * 500)
            elif choose.random() < 0.3:
                opened.tier.evict(fp(number), Cause.EXPLICIT)
            else:
                opened.tier.remember(
                    fp(number), memory_bytes=choose.randrange(9), runtime="sklearn", signature=Signature("x")
                )
                await opened.tier.save()
            print(".", end="", flush=True)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), fsync=sys.argv[2] == "1"))
