"""A reader that knows what was there keeps nothing of what did not change; a name in parts has to be listed again."""

from __future__ import annotations

import tracemalloc

import pytest

from hotset.catalog import Layout, ListingReader, Models
from hotset.catalog.known import Known, Meeting
from hotset.store import ObjectMeta
from hotset.store.page import ObjectPage


def an_object(path: str, etag: str = "e") -> ObjectMeta:
    return ObjectMeta(path, 5, etag, 0.0)


def read(*objects: ObjectMeta, known: Models | None = None, layout: Layout | None = None) -> ListingReader:
    reader = ListingReader(layout or Layout(), known=known)
    reader.feed(objects)
    reader.catch_up()
    return reader


MANY = [an_object(f"m{number:04}/1/m") for number in range(2000)]


def test_a_model_takes_about_a_hundred_bytes() -> None:
    page = ObjectPage.of(
        [an_object(f"city-{number:06}/1/model.joblib", f"{number:032x}") for number in range(10_000)]
    )
    tracemalloc.start()
    try:
        models = read(*page).finish().models
        assert tracemalloc.get_traced_memory()[0] / len(models) < 110
    finally:
        tracemalloc.stop()


def test_a_listing_with_nothing_new_is_the_very_same_mapping() -> None:
    known = read(*MANY).finish().models
    reader = read(*MANY, known=known)
    assert not reader.is_behind
    assert reader.finish().models is known


def test_what_is_read_from_a_stored_snapshot_is_known_from_the_second_pass_on() -> None:
    stored = Models.of(dict(read(*MANY).finish().models.items()))
    first = read(*MANY, known=stored).finish().models
    assert first is stored
    assert [*first.blocks[0].digests] == [*read(*MANY).finish().models.blocks[0].digests]


def test_one_change_makes_one_block_new() -> None:
    known = read(*MANY).finish().models
    now = read(*MANY[:700], an_object("m0700/1/m", "new"), *MANY[701:], known=known).finish().models
    assert len(set(now.blocks) - set(known.blocks)) == 1
    assert now["m0700"] != known["m0700"]


def test_a_model_that_is_gone_is_gone() -> None:
    known = read(*MANY).finish().models
    assert set(known) - set(read(*MANY[:-3], known=known).finish().models) == {"m1997", "m1998", "m1999"}
    assert read(known=known).finish().models == {}


def test_objects_of_a_model_in_two_pages_are_one_model() -> None:
    reader = ListingReader(Layout())
    reader.feed([an_object("a/1/m")])
    reader.feed([an_object("a/1/n"), an_object("b/1/m")])
    listing = reader.finish()
    assert listing.models["a"].latest.objects == 2


@pytest.mark.parametrize("layout", [Layout(), Layout(static=True, names=frozenset({"a", "b"}))])
def test_a_name_in_parts_is_named_and_read_anew(layout: Layout) -> None:
    a, more, b = an_object("a/1/m"), an_object("a/2/m"), an_object("b/1/m")
    known = read(a, b, layout=layout).finish().models
    for reader in (read(a, b, more, known=known, layout=layout), _in_parts(a, b, more, layout=layout)):
        with pytest.raises(ValueError, match="take_scattered"):
            ListingReader.finish(reader)
        reader.feed([a, more])
        assert reader.finish() == read(a, more, b, layout=layout).finish()


def _in_parts(*objects: ObjectMeta, layout: Layout) -> ListingReader:
    reader = ListingReader(layout)
    for each in objects:
        reader.feed([each])
        reader.feed([an_object("zzz/1/m")] if not layout.static else [])
        reader.catch_up()
    return reader


def test_a_scattered_name_that_is_gone_when_it_is_listed_again_is_not_offered() -> None:
    a, more, b = an_object("a/1/m"), an_object("a/2/m"), an_object("b/1/m")
    reader = read(a, b, more, known=read(a, b).finish().models)
    assert reader.take_scattered() == {"a"}
    assert set(reader.finish().models) == {"b"}


def test_the_rejects_of_a_scattered_name_are_told_once() -> None:
    parts = [an_object("a/x/m"), an_object("a/1/m"), an_object("b/1/m"), an_object("a/y/m")]
    reader = ListingReader(Layout())
    for each in parts:
        reader.feed([each, an_object("~/1/m")])
        reader.catch_up()
    assert reader.take_scattered() == {"a", "~"}
    reader.feed([an_object("~/1/m")])
    reader.feed([parts[0], parts[1], parts[3]])
    listing = reader.finish()
    assert [reject.path for reject in listing.rejects] == ["a/x/", "a/y/"]
    assert set(listing.models) == {"a", "b", "~"}


def test_names_out_of_the_order_of_names_are_met_too() -> None:
    """A bucket lists ``a-1/…`` before ``a/…``: by paths, where names go the other way round."""
    objects = [an_object("a-1/1/m"), an_object("a-2/1/m"), an_object("a/1/m"), an_object("b/1/m")]
    known = read(*objects).finish().models
    reader = read(*objects, known=known)
    assert not reader.take_scattered()
    assert reader.finish().models is known


def test_what_is_known_is_met_in_turn_out_of_turn_and_once() -> None:
    models = read(*(an_object(f"{name}/1/m") for name in "abcd")).finish().models
    digests = dict(zip("abcd", models.blocks[0].digests, strict=True))
    known = Known(models)
    assert known.is_next(digests["a"])
    assert not known.is_next(digests["c"])
    assert known.meet("c", digests["c"]) is Meeting.SAME
    assert known.is_next(digests["d"])
    assert not known.is_next(digests["a"])
    assert known.meet("a", digests["a"]) is Meeting.AGAIN
    assert known.meet("x", 1) is Meeting.NEW
    assert [*known.missing()] == ["b"]
    assert known.meet("b", 1) is Meeting.CHANGED
    assert [*known.missing()] == []


def test_a_page_of_columns_is_a_sequence_of_objects() -> None:
    objects = [an_object(f"{name}/m") for name in "abc"]
    page = ObjectPage.of(objects)
    assert ObjectPage.of(page) is page
    assert [*page] == objects
    assert (page[0], page[-1], [*page[1:]], [*page.part(0, 2)]) == (
        objects[0],
        objects[2],
        objects[1:],
        objects[:2],
    )
    assert len(set(page.digests())) == 3
    assert ObjectPage.of([*page]).digests() == page.digests()
