"""docs/api.md names every route, parameter, header and kind of error, and its examples work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest

from hotset.api.errors import HTTP_STATUS, STATUS
from hotset.api.headers import TIMEOUT_HEADER
from hotset.config import Settings
from unit.api.scripted import Bench

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def document() -> dict[str, Any]:
    return Bench().app.document()


def operations() -> set[str]:
    return {f"{method.upper()} {path}" for path, item in document()["paths"].items() for method in item}


def examples() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line]


async def test_every_route_is_documented_and_no_other() -> None:
    rows = set(re.findall(r"^\| `((?:GET|POST) /[^`]*)` \|", PAGE, re.MULTILINE))
    assert rows == operations()


async def test_every_query_parameter_is_documented() -> None:
    for path, item in document()["paths"].items():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "query":
                    assert re.search(rf"`{parameter['name']}[`=]", PAGE), (path, parameter["name"])


def test_every_kind_is_in_the_table_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", PAGE, re.MULTILINE))
    expected = {kind.value: str(status) for table in (STATUS, HTTP_STATUS) for kind, status in table.items()}
    assert rows == expected


@pytest.mark.parametrize(
    "header", [TIMEOUT_HEADER, "X-Model-Name", "X-Model-Version", "Server-Timing", "Retry-After"]
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
