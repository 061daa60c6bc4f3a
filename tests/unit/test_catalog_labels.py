"""Files of labels, alone: what they say, what is turned down and in which words, and how one is changed."""

from __future__ import annotations

import pytest

from hotset.catalog import (
    Labels,
    LabelsFormatError,
    Layout,
    Listing,
    ListingReader,
    ModelEntry,
    Models,
    Snapshot,
    diff,
    dump,
    load,
    parse_labels,
)
from hotset.catalog.labels import MOST_BYTES, with_label
from hotset.errors import InvalidInputError, NotFoundError
from hotset.keys import ModelRef, parse_label
from hotset.store import ObjectMeta


def meta(path: str, *, etag: str = "e1", size: int = 5) -> ObjectMeta:
    return ObjectMeta(path, size, etag, 0.0)


def listed(*paths: str, known: Models | None = None, etag: str = "e1", static: bool = False) -> Listing:
    layout = Layout(static=static, names=frozenset({"paris"})) if static else Layout()
    reader = ListingReader(layout, known=known)
    reader.feed([meta(path, etag=etag if path.endswith("labels.yaml") else "e0") for path in sorted(paths)])
    reader.take_scattered()
    return reader.finish()


def labelled(listing: Models, **targets: int) -> Models:
    """What the residency makes of a listing once it has read the file."""
    entry = listing["paris"]
    labels = Labels("e1", tuple(sorted(targets.items())))
    return listing.with_changes({"paris": ModelEntry("paris", entry.versions, labels)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stable: 3\ncanary: 5\n", {"canary": 5, "stable": 3}),
        ("stable: v3", {"stable": 3}),
        ("# why\n\nstable: 3   # since May\r\n", {"stable": 3}),
        ("{stable: 3, canary: 5}", {"canary": 5, "stable": 3}),
        ("'stable': '3'\n", {"stable": 3}),
        ('{"stable": 3}', {"stable": 3}),
        ("---\nstable: 3\n", {"stable": 3}),
        ("on: 1\nno: 2\n", {"no": 2, "on": 1}),
        ("\N{BYTE ORDER MARK}stable: 3\n", {"stable": 3}),
        ("{}\n", {}),
        ("stable: 9223372036854775807", {"stable": 2**63 - 1}),
    ],
)
def test_what_a_file_says(text: str, said: dict[str, int]) -> None:
    assert dict(parse_labels(text.encode())) == said


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b" \n\n", "empty file"),
        (b"# nothing yet\n", "found nothing"),
        (b"stable: 3\nstable: 4\n", "line 2: found the label 'stable' twice"),
        (b"{a: 1, a: 2}", "line 1: found the label 'a' twice"),
        (b"latest: 3", "line 1: found the label 'latest', which always means the highest version"),
        (b"7: 3", "line 1: found the label '7', which is a version's number"),
        (b"v7: 3", "found the label 'v7', which is a version's number"),
        (b"a b: 3", "line 1: found the label 'a b', expected a letter"),
        (b"stable: three", "line 1: expected a version's number for 'stable', such as 3, found 'three'"),
        (b"stable: 3.5", "such as 3, found '3.5'"),
        (b"stable: -3", "such as 3, found '-3'"),
        (b"stable: 03", "such as 3, found '03'"),
        (b"stable: true", "such as 3, found 'true'"),
        (b"stable:", "such as 3, found ''"),
        (b"stable: latest", "such as 3, found 'latest'"),
        (b"stable: 9223372036854775808", "found '9223372036854775808'"),
        (b"stable: [3, 4]", "expected a version's number for 'stable', found a list"),
        (b"stable: {version: 3}", "found a mapping"),
        (b"[a]: 3", "line 1: expected a label such as stable, found a list"),
        (b"- stable\n", "expected lines such as 'stable: 3', found a list"),
        (b"stable", "found the text 'stable'"),
        (b"stable: 3\n\tcanary: 5\n", "line 2: this is no YAML"),
        (b"a: &x 3\nb: *y\n", "no YAML"),
        (b"[" * 5000, "no YAML"),
        (b"stable: \xff", "no UTF-8"),
        (b"x" * (MOST_BYTES + 1), f"found {MOST_BYTES + 1} bytes, expected at most {MOST_BYTES}"),
    ],
)
def test_what_is_turned_down(data: bytes, message: str) -> None:
    with pytest.raises(LabelsFormatError) as caught:
        parse_labels(data)
    assert message in str(caught.value)


@pytest.mark.parametrize("word", ["stable", "_a", "eu.west-1", "Latest", "x" * 128])
def test_words_that_can_be_labels(word: str) -> None:
    assert parse_label(word) == word


@pytest.mark.parametrize("word", ["", "latest", "3", "v3", "-a", "a/b", "x" * 129, "ä", "a\n"])
def test_words_that_cannot(word: str) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        parse_label(word)


@pytest.mark.parametrize(
    ("before", "number", "after"),
    [
        (None, 3, "stable: 3\n"),
        (b"{}\n", 3, "stable: 3\n"),
        (b"canary: 5\n", 3, "canary: 5\nstable: 3\n"),
        (b"# why\nstable: 1 # old\ncanary: 5\n", 3, "# why\nstable: 3\ncanary: 5\n"),
        (b"stable: 1\ncanary: 5\n", None, "canary: 5\n"),
        (b"stable: 1\n", None, "{}\n"),
        (b"canary: 5\n", None, "canary: 5\n"),
    ],
)
def test_one_label_is_changed(before: bytes | None, number: int | None, after: str) -> None:
    new = with_label(before, "stable", number)
    assert new.decode() == after
    assert dict(parse_labels(new)).get("stable") == number


def test_a_file_that_cannot_be_changed_line_by_line_is_left_alone() -> None:
    with pytest.raises(LabelsFormatError, match="change it by hand"):
        with_label(b"{stable: 3}", "stable", 4)
    with pytest.raises(LabelsFormatError, match="twice"):
        with_label(b"a: 1\na: 2\n", "stable", 4)
    with pytest.raises(InvalidInputError, match="latest"):
        with_label(None, "latest", 4)


def test_a_listing_says_which_files_have_to_be_read() -> None:
    first = listed("paris/1/m", "paris/3/m", "paris/labels.yaml", "rome/1/m")
    assert set(first.unread) == {"paris"}
    assert first.models["paris"].labels is None
    known = labelled(first.models, stable=3)
    again = listed("paris/1/m", "paris/3/m", "paris/labels.yaml", "rome/1/m", known=known)
    assert not again.unread
    assert again.models == known
    once_more = listed("paris/1/m", "paris/3/m", "paris/labels.yaml", "rome/1/m", known=again.models)
    assert once_more.models is again.models, "by now it is known by its digest"
    changed = listed("paris/1/m", "paris/3/m", "paris/labels.yaml", known=known, etag="e2")
    assert set(changed.unread) == {"paris"}
    assert changed.models["paris"].version("stable") == known["paris"].version(3), (
        "as it was until it is read"
    )
    gone = listed("paris/1/m", "paris/3/m", known=known)
    assert gone.models["paris"].labels is None


def test_labels_stay_while_the_versions_change() -> None:
    known = labelled(listed("paris/1/m", "paris/labels.yaml").models, stable=1)
    more = listed("paris/1/m", "paris/2/m", "paris/labels.yaml", known=known)
    assert [it.key.version for it in more.models["paris"].versions] == [1, 2]
    assert more.models["paris"].target("stable") == 1
    assert not more.unread


def test_where_the_file_is_none_of_labels() -> None:
    assert not listed("paris/m", "paris/labels.yaml").unread, "a file of the model, which has one version"
    assert listed("paris/m", "paris/labels.yaml").models["paris"].latest.objects == 2
    assert not listed("paris/m", "paris/labels.yaml", static=True).unread
    assert not listed("paris/1/labels.yaml").unread
    waiting = listed("paris/labels.yaml")
    assert not waiting.models
    assert not waiting.rejects


def test_a_problem_is_among_the_rejects_of_every_listing() -> None:
    first = listed("paris/1/m", "paris/labels.yaml").models
    entry = ModelEntry("paris", first["paris"].versions, Labels("e1", (), "line 1: no"))
    known = first.with_changes({"paris": entry})
    for _ in range(3):
        listing = listed("paris/1/m", "paris/labels.yaml", known=known)
        assert [(it.path, it.reason) for it in listing.rejects] == [("paris/labels.yaml", "line 1: no")]
        assert not listing.unread
        known = listing.models


def test_a_label_resolves_and_a_wrong_one_is_explained() -> None:
    models = labelled(listed("paris/1/m", "paris/3/m", "paris/labels.yaml").models, stable=3, next=9)
    snapshot = Snapshot(models)
    assert snapshot.resolve(ModelRef("paris", "stable")).key == ("paris", 3)
    with pytest.raises(NotFoundError) as missing:
        snapshot.resolve(ModelRef("paris", "next"))
    assert "paris/labels.yaml says 'next: 9', and there is no such version" in str(missing.value)
    assert "Versions offered: 3, 1." in str(missing.value)
    with pytest.raises(NotFoundError) as unknown:
        snapshot.resolve(ModelRef("paris", "canary"))
    assert "Labels given by paris/labels.yaml: next: 9, stable: 3" in str(unknown.value)
    with pytest.raises(NotFoundError, match=r"There is no paris/labels\.yaml"):
        Snapshot(listed("paris/1/m").models).resolve(ModelRef("paris", "canary"))


def test_the_problem_is_told_to_whoever_asks_for_the_label() -> None:
    entry = listed("paris/1/m").models["paris"]
    bad = ModelEntry("paris", entry.versions, Labels("e1", (), "line 1: no"))
    with pytest.raises(NotFoundError, match=r"paris/labels\.yaml cannot be used \(line 1: no\)"):
        Snapshot(Models.of({"paris": bad})).resolve(ModelRef("paris", "stable"))


def test_what_differs_between_two_snapshots() -> None:
    before = labelled(listed("paris/1/m", "paris/3/m", "paris/labels.yaml").models, stable=1, next=9)
    moved = labelled(before, stable=3, next=9)
    assert list(diff(Snapshot(before), Snapshot(moved)).relabelled) == [("paris", 3)]
    assert not diff(Snapshot(before), Snapshot(before)).relabelled
    there = listed("paris/1/m", "paris/3/m", "paris/9/m", "paris/labels.yaml", known=before).models
    assert list(diff(Snapshot(before), Snapshot(there)).relabelled) == [("paris", 9)]
    none = listed("paris/1/m", "paris/3/m").models
    assert list(diff(Snapshot(before), Snapshot(none)).relabelled) == [("paris", 3)]


def test_labels_are_kept_with_the_snapshot() -> None:
    models = labelled(
        listed("a/1/m", "paris/1/m", "paris/3/m", "paris/labels.yaml", "z/1/m").models, stable=3
    )
    read = load(dump(Snapshot(models)))
    assert read.models == models
    assert read.models["paris"].labels == models["paris"].labels
    assert read.models.version_count == models.version_count == 4


@pytest.mark.parametrize("targets", [(("latest", 3),), (("b", 1), ("a", 2)), (("a", -1),), (("a/b", 1),)])
def test_a_snapshot_with_labels_that_no_file_could_give_is_refused(
    targets: tuple[tuple[str, int], ...],
) -> None:
    entry = listed("paris/1/m").models["paris"]
    odd = Models.of({"paris": ModelEntry("paris", entry.versions, Labels("e", targets))})
    with pytest.raises(ValueError, match="malformed"):
        load(dump(Snapshot(odd)))


def test_a_model_without_labels_takes_no_more_room() -> None:
    block = listed("paris/1/m", "rome/1/m").models.blocks[0]
    assert [len(entry) for _, entry in block.items()] == [45, 45]
