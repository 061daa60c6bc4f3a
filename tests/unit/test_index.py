"""The index of a store: what is written is read again, a line at a time, and nothing malformed is believed."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from hotset.catalog import Labels, Layout, Listing, ListingReader
from hotset.catalog.by_model import ByModel
from hotset.catalog.index import (
    MOST_BYTES_WHOLE,
    IndexFormatError,
    IndexReader,
    index_faults,
    index_line,
    index_versions,
    join_lines,
    lines_of,
)
from hotset.catalog.models import Models
from hotset.store import ObjectMeta

LISTED = [
    "acme/1/model.joblib",
    "acme/1/meta/info.json",
    "acme/1/_SUCCESS",
    "acme/v2/model.joblib",
    "oslo/model.onnx",
    "paris/10/model.joblib",
    'québec "x"/1/model.joblib',
]


def metas(*paths: str, etag: str = "e") -> list[ObjectMeta]:
    return [
        ObjectMeta(path, 10 + number, f"{etag}-{number}", 100.0 + number) for number, path in enumerate(paths)
    ]


def listed(objects: list[ObjectMeta], layout: Layout | None = None) -> Listing:
    reader = ListingReader(layout or Layout())
    reader.feed(objects)
    return reader.finish()


def lines(objects: list[ObjectMeta]) -> list[bytes]:
    models = listed(objects).models
    return [
        index_line(name, index_versions(model, [it for it in objects if it.path.startswith(f"{name}/")]))
        for name, model in models.items()
    ]


def read(
    data: bytes, *, chunk: int = 1 << 20, known: Models | None = None, layout: Layout | None = None
) -> Models:
    reader = IndexReader(layout or Layout(), known=known)
    for start in range(0, len(data), chunk):
        deque(reader.feed(data[start : start + chunk]), maxlen=0)
    deque(reader.finish(), maxlen=0)
    return reader.listing().models


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 20])
def test_an_index_says_what_the_listing_said_however_it_is_cut(chunk: int) -> None:
    objects = metas(*LISTED)
    assert read(join_lines(lines(objects)), chunk=chunk) == listed(objects).models


def test_an_index_is_one_json_object() -> None:
    found = json.loads(join_lines(lines(metas(*LISTED))))
    assert (found["format"], found["version"]) == ("hotset-index", 1)
    assert found["models"]["oslo"] == [
        {"version": 1, "path": "", "modified": 104.0, "objects": [["model.onnx", 14, "e-4"]]}
    ]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_index_that_others_have_written_in_one_piece_is_read_too(indent: int | None) -> None:
    objects = metas(*LISTED)
    data = json.dumps(json.loads(join_lines(lines(objects))), indent=indent).encode()
    assert read(data, chunk=50) == listed(objects).models
    assert lines_of(data).keys() == listed(objects).models.keys()


def test_one_in_one_piece_may_not_be_endless() -> None:
    reader = IndexReader(Layout())
    with pytest.raises(IndexFormatError, match="one model on a line"):
        for _ in range(MOST_BYTES_WHOLE // (1 << 20) + 2):
            deque(reader.feed(b"{" + b" " * (1 << 20) + b"\n"), maxlen=0)


def test_an_empty_index_offers_nothing() -> None:
    assert read(join_lines([])) == Models()


def test_only_changed_lines_are_looked_into() -> None:
    objects = metas(*LISTED)
    before = read(join_lines(lines(objects)))
    after = read(join_lines(lines(objects)), known=before)
    assert after is before
    changed = [*objects[:-1], ObjectMeta(LISTED[-1], 1, "other", 5.0)]
    assert read(join_lines(lines(changed)), known=before) == listed(changed).models
    fewer = [it for it in objects if not it.path.startswith("oslo")]
    assert read(join_lines(lines(fewer)), known=before) == listed(fewer).models


def test_names_have_the_depth_of_the_layout() -> None:
    objects = metas("acme/paris/1/m", "acme/rome/2/m")
    layout = Layout(name_depth=2)
    models = listed(objects, layout).models
    data = join_lines(
        index_line(name, index_versions(model, [it for it in objects if it.path.startswith(name)]))
        for name, model in models.items()
    )
    assert read(data, layout=layout) == models
    with pytest.raises(IndexFormatError, match="expected a name of 1"):
        read(data)


def version(**changes: object) -> dict[str, object]:
    return {"version": 1, "path": "1/", "modified": 1.0, "objects": [["m", 1, "e"]], **changes}


def index(models: object, **changes: object) -> bytes:
    return json.dumps({"format": "hotset-index", "version": 1, "models": models, **changes}).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "cannot be read", id="empty"),
        pytest.param(b"<html>", "cannot be read", id="a page"),
        pytest.param(b"\x00\xff" * 50, "cannot be read", id="bytes"),
        pytest.param(index({}, version=2), "format 1, found: 2", id="later"),
        pytest.param(index({}, format="other"), "found: 'other'", id="other format"),
        pytest.param(index([]), "cannot be read", id="a list"),
        pytest.param(index({"a": []}), "versions", id="no versions"),
        pytest.param(index({"a": [version(), version()]}), "once each", id="twice"),
        pytest.param(index({"a": [version(version=2, path="2/"), version()]}), "ascending", id="order"),
        pytest.param(index({"a": [version(path="../b/1/")]}), "does not fit the version", id="a path up"),
        pytest.param(index({"a": [version(path="2/")]}), "does not fit the version", id="another's path"),
        pytest.param(index({"a": [version(version=7, path="")]}), "does not fit", id="no folder"),
        pytest.param(index({"a": [version(objects=[])]}), "no files", id="no objects"),
        pytest.param(index({"a": [version(objects=[["../x", 1, "e"]])]}), "'..'", id="an object up"),
        pytest.param(index({"a": [version(objects=[["m", "1", "e"]])]}), "Expected `int`", id="size"),
        pytest.param(index({"a": [version(objects=[["m", -1, "e"]])]}), ">= 0", id="less than nothing"),
        pytest.param(index({"a": [version(objects=[["m", 1 << 63, "e"]])]}), "<= ", id="more than there is"),
        pytest.param(
            index({"a": [version(objects=[["m", 1 << 62, "e"], ["n", 1, "e"]])]}), "in all", id="more in all"
        ),
        pytest.param(index({"a": [version(objects=[["m", 1]])]}), "length", id="no etag"),
        pytest.param(index({"../a": [version()]}), "malformed", id="a name up"),
        pytest.param(index({"_a": [version()]}), "malformed", id="a hidden name"),
    ],
)
def test_what_is_malformed_is_no_index(data: bytes, message: str) -> None:
    with pytest.raises(IndexFormatError, match=message):
        read(data)


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_an_index_that_is_cut_short_is_not_believed(kept: int) -> None:
    whole = join_lines(lines(metas(*LISTED))).splitlines(keepends=True)
    for data in (b"".join(whole[: kept + 1]), b"".join(whole[: kept + 1]) + whole[kept + 1][:9]):
        with pytest.raises(IndexFormatError):
            read(data)


def test_what_follows_the_end_or_comes_twice_is_not_believed() -> None:
    objects = metas(*LISTED)
    whole = join_lines(lines(objects))
    line = lines(objects)[0]
    with pytest.raises(IndexFormatError, match="goes on"):
        read(whole + line + b"\n")
    with pytest.raises(IndexFormatError, match="twice"):
        read(join_lines([line, *lines(objects)]))
    with pytest.raises(IndexFormatError, match="twice"):
        read(join_lines([line, *lines(objects)]), known=read(whole))


def test_faults_are_what_a_listing_says_otherwise() -> None:
    objects = metas("a/1/m", "b/1/m", "c/1/m", "c/2/m")
    said = read(join_lines(lines(objects)))
    assert index_faults(listed(objects).models, said) == []
    now = [objects[0], ObjectMeta("b/1/m", 1, "other", 1.0), objects[2], *metas("d/1/m")]
    assert index_faults(listed(now).models, said) == ["b", "c", "d"]


def test_a_scan_is_cut_into_models() -> None:
    models = ByModel(Layout(name_depth=2))
    found = []
    for page in (metas("x", "acme/readme", "acme/a/1/m"), metas("acme/a/2/m", "acme/b/1/m"), metas("c/d/m")):
        found += [(name, len(objects)) for name, objects in models.feed(page)]
    assert (models.name, models.objects) == ("c/d", 1)
    found += [(name, len(objects)) for name, objects in models.rest()]
    assert found == [("acme/a", 2), ("acme/b", 1), ("c/d", 1)]
    assert [*models.rest()] == []


def test_the_index_in_the_docs_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "stores.md").read_text("utf-8")
    block = next(part for part in page.split("```") if '"hotset-index"' in part)
    assert [*read(block.partition("\n")[2].encode())] == ["acme", "paris"]


def labelled(labels: str) -> bytes:
    line = b'"paris":[{"version":1,"path":"1/","modified":1.0,"objects":[["m",1,"e"]],"labels":%b}]'
    return join_lines([line % labels.encode()])


def test_labels_stand_with_the_newest_version_and_nowhere_else() -> None:
    objects = [ObjectMeta(f"paris/{number}/m", 1, "e", 1.0) for number in (1, 2)]
    model = replace(listed(objects).models["paris"], labels=Labels("e7", (("next", 9), ("stable", 1))))
    older, newest = index_versions(model, objects)
    assert (older.labels, newest.labels) == ({}, {"next": 9, "stable": 1})
    line = index_line("paris", (older, newest))
    assert line.count(b'"labels"') == 1
    assert read(join_lines([line]))["paris"].labels == Labels("", (("next", 9), ("stable", 1)))


@pytest.mark.parametrize("labels", ['{"latest":1}', '{"7":1}', '{"a b":1}', '{"a":-1}', '{"a":"1"}', "[1]"])
def test_labels_that_no_file_could_give_are_refused(labels: str) -> None:
    with pytest.raises(IndexFormatError, match="malformed for model 'paris'"):
        read(labelled(labels))
