"""docs/api.md names every route, parameter, header and kind of error, and its examples work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from hotset.api.app import App
from hotset.api.errors import HTTP_STATUS, STATUS
from hotset.api.headers import TIMEOUT_HEADER
from hotset.api.sagemaker_routes import TARGET_HEADER
from hotset.config import Settings
from unit.api.scripted import Bench

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


class GivenModels:
    """Where the models are those that SageMaker brings, there are other routes."""

    loaded: Mapping[str, str] = MappingProxyType({})

    async def load(self, name: str, url: str) -> bool:
        raise NotImplementedError

    async def unload(self, name: str) -> None:
        raise NotImplementedError


def documents() -> list[dict[str, Any]]:
    bench = Bench()
    platform = App(
        bench.dataplane,
        metrics=lambda: (b"", ""),
        version="1",
        max_body_bytes=1,
        body_timeout_s=1.0,
        given=GivenModels(),
    )
    handler = App(
        bench.dataplane,
        metrics=lambda: (b"", ""),
        version="1",
        max_body_bytes=1,
        body_timeout_s=1.0,
        handler=dict,
    )
    return [bench.app.document(), platform.document(), handler.document()]


def operations() -> set[str]:
    return {
        f"{method.upper()} {path}"
        for document in documents()
        for path, item in document["paths"].items()
        for method in item
    }


def examples() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line]


async def test_every_route_is_documented_and_no_other() -> None:
    rows = set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)` \|", PAGE, re.MULTILINE))
    assert rows == operations()


async def test_every_query_parameter_is_documented() -> None:
    for document in documents():
        for path, item in document["paths"].items():
            names = [it["name"] for each in item.values() for it in each["parameters"] if it["in"] == "query"]
            for name in names:
                assert re.search(rf"`{name}[`=]", PAGE), (path, name)


def test_every_kind_is_in_the_table_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", PAGE, re.MULTILINE))
    expected = {kind.value: str(status) for table in (STATUS, HTTP_STATUS) for kind, status in table.items()}
    assert rows == expected


@pytest.mark.parametrize(
    "header",
    [TIMEOUT_HEADER, TARGET_HEADER, "X-Model-Name", "X-Model-Version", "Server-Timing", "Retry-After"],
)
def test_every_header_is_documented(header: str) -> None:
    assert f"`{header}`" in PAGE


def test_there_are_examples() -> None:
    assert len(examples()) >= 8


@pytest.mark.parametrize("line", examples())
async def test_an_example_is_answered(line: str) -> None:
    command, *words = shlex.split(line)
    assert command == "curl"
    method, url, body = "GET", "", None
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-d":
            method, body = "POST", words.pop(0)
        elif word != "-s":
            url = word
    assert httpx.URL(url).port == Settings.model_fields["port"].default
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=Bench().app)) as client:
        answer = await client.request(method, url, content=body)
    assert answer.status_code == 200, answer.text
