"""hotset inside a program of your own: no HTTP, no child process, the models in threads of this process.

    python examples/embedded.py ./models paris '{"instances": [[4.2, 15]]}'

Whatever your program awaits goes on while a model is fetched and loaded.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hotset import HotsetError
from hotset.config import load_settings
from hotset.keys import parse_ref
from hotset.replica import Replica


@asynccontextmanager
async def running(**settings: object) -> AsyncIterator[Replica]:
    """A replica that has listed its store; it unloads everything at the end."""
    replica = Replica(load_settings(None, {}, {"processes_per_replica": 0, **settings}))
    await replica.start()
    try:
        await replica.sync.first_pass.wait()
        yield replica
    finally:
        await replica.stop()


async def ask(replica: Replica, name: str, body: bytes) -> str:
    """Ask a model as ``POST /models/{name}/predict`` does; no name is a file until it was asked for."""
    try:
        answer = await replica.dataplane.infer(
            parse_ref(name), protocol="embedded", codec="native", body=body
        )
    except HotsetError as error:
        return f"{name}: {error.kind}: {error}"
    return f"{answer.key} from {answer.tier}: {answer.encoded.body.decode()}"


async def main(model_dir: str, name: str, body: str) -> None:
    async with running(model_dir=model_dir, model_cache_size=50, disk_path=".hotset") as replica:
        for _ in range(2):  # fetched and loaded at first, in memory the second time
            print(await ask(replica, name, body.encode()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
