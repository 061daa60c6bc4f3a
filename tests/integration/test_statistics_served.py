"""What a real server says of its executions, while many ask at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from model_files import write_regressor
from server_process import ServerProcess, running_server

AT_ONCE = 60
ROUNDS = 50


async def ask_at_once(server: ServerProcess, count: int) -> None:
    """Send so many requests in one go, and read all answers."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    body = b'{"instances": [[0.0]]}'
    head = b"POST /models/paris/predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    writer.write((head + body) * count)
    for _ in range(count):
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in answer
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert json.loads(await reader.readexactly(length)) == {"predictions": [42.5]}
    writer.close()
    await writer.wait_closed()


def statistics(server: ServerProcess) -> dict[str, Any]:
    (row,) = server.request("GET", "/v2/models/paris/stats").json["model_stats"]
    return row


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 0])
def test_executions_and_batches_are_those_that_there_were(tmp_path: Path, processes: int) -> None:
    write_regressor(tmp_path / "models", "paris", 1, 42.5)
    with running_server(
        tmp_path / "disk", model_dir=tmp_path / "models", settle_time=0, processes_per_replica=processes
    ) as server:
        asked = 0
        for _ in range(ROUNDS):
            asyncio.run(asyncio.wait_for(ask_at_once(server, AT_ONCE), 60))
            asked += AT_ONCE
            found = statistics(server)
            sizes = {it["batch_size"]: it["compute_infer"]["count"] for it in found["batch_stats"]}
            assert found["inference_count"] == asked == sum(size * count for size, count in sizes.items())
            assert found["execution_count"] == sum(sizes.values())
            if max(sizes) > 1:
                break
        assert max(sizes) > 1, "some waited together, and were predicted together"
        assert found["execution_count"] < asked
        stats = found["inference_stats"]
        assert stats["compute_infer"]["count"] == asked
        assert 0 < stats["compute_infer"]["ns"] <= stats["success"]["ns"]
        server.request("POST", "/v2/repository/models/paris/unload")
        assert statistics(server)["batch_stats"] == found["batch_stats"], "an unload forgets nothing"
