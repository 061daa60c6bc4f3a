from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hotset.api.app import DOORS
from hotset.api.openapi import kinds
from hotset.errors import ErrorKind
from unit.api.scripted import Bench


@pytest.fixture
def document(bench: Bench) -> dict[str, Any]:
    return bench.app.document()


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_route_of_every_table_is_in_it(bench: Bench, document: dict[str, Any]) -> None:
    listed = {(path, method) for path, item in document["paths"].items() for method in item}
    there = {
        (path, operation.method.lower())
        for table in bench.app.tables
        for route in table.routes
        for path in route.paths
        for operation in route.operations
    }
    assert listed == there


def test_every_door_is_in_it(document: dict[str, Any]) -> None:
    for door in DOORS:
        for middle in ("{model}", "{model}/versions/{version}"):
            assert "post" in document["paths"][f"{door.prefix.decode()}{middle}{door.suffix.decode()}"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in references(document):
        name = reference.removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"], reference


def test_the_parameters_of_a_path_are_those_in_its_braces(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), path


def test_the_names_of_operations_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_the_error_schema_has_every_kind(document: dict[str, Any]) -> None:
    listed = document["components"]["schemas"]["Error"]["properties"]["kind"]["enum"]
    assert listed == kinds()
    assert {kind.value for kind in ErrorKind} <= set(listed)


async def test_it_is_served_and_json(document: dict[str, Any], client: httpx.AsyncClient) -> None:
    answer = await client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["paths"].keys() == document["paths"].keys()


async def test_every_listed_route_is_answered_with_a_listed_status(
    document: dict[str, Any], client: httpx.AsyncClient
) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            answer = await client.request(method, path.replace("{model}", "paris").replace("{version}", "2"))
            assert str(answer.status_code) in operation["responses"], (method, path)
            if answer.status_code < 400:
                assert answer.status_code == 200, (method, path)
