"""A bucket that lists made-up models as S3 does, each answer after a delay, as a store across a network has.

A process of its own: prints its port, and ends with its standard input. ``catalog_probe.py`` starts it.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_left, bisect_right
from typing import Final
from urllib.parse import parse_qs, urlsplit

PAGE: Final = 1000
ENTRY: Final = (
    "<Contents><Key>{}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;{:032x}&quot;</ETag><Size>2048</Size></Contents>"
)


class Bucket:
    def __init__(self, keys: list[str], delay_s: float) -> None:
        self._keys = sorted(keys)
        self._delay_s = delay_s
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ", 2)[1].decode()
                if target == "/requests":
                    body = str(self.requests).encode()
                else:
                    self.requests += 1
                    body = self._page(target)
                    await asyncio.sleep(self._delay_s)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has what it wanted, or this one ends
        finally:
            writer.close()

    def _page(self, target: str) -> bytes:
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        prefix = query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after) if after else 0)
        keys = [key for key in self._keys[start : start + PAGE] if key.startswith(prefix)]
        more = len(keys) == PAGE and start + PAGE < len(self._keys)
        token = f"<NextContinuationToken>{keys[-1]}</NextContinuationToken>" if more else ""
        entries = "".join([ENTRY.format(key, number) for number, key in enumerate(keys, start)])
        return (
            f"<ListBucketResult><Name>b</Name><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
            f"{entries}</ListBucketResult>"
        ).encode()


async def main() -> None:
    models, delay_s = int(sys.argv[1]), float(sys.argv[2])
    keys = [f"city-{number:07d}/1/model.joblib" for number in range(models)]
    server = await asyncio.start_server(Bucket(keys, delay_s).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
