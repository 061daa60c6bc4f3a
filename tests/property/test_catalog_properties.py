"""Whatever a store lists: no error, no order that matters, no neighbour that is hidden."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hotset.catalog import (
    Layout,
    Listing,
    ListingReader,
    Settling,
    Snapshot,
    diff,
    dump,
    load,
    settle,
    version_contents,
)
from hotset.keys import ModelRef, parse_name
from hotset.store import ObjectMeta

unhurried = settings(deadline=None, max_examples=60)  # a busy machine is no failure

PARTS = st.one_of(
    st.sampled_from(
        ["a", "b", "1", "2", "v1", "01", "", ".", "..", "_SUCCESS", ".tmp", "x\\y", "\n", "m", "_$folder$"]
    ),
    st.text(max_size=6),
)
PATHS = st.one_of(st.lists(PARTS, min_size=1, max_size=5).map("/".join), st.text(max_size=30))
OBJECTS = st.builds(
    ObjectMeta,
    PATHS,
    st.sampled_from([0, 0, 1, 7, 10**12]),
    st.text(max_size=3),
    st.floats(min_value=-1e9, max_value=1e11),
)
PAGES = st.lists(OBJECTS, max_size=25)
LAYOUTS = st.sampled_from(
    [
        Layout(),
        Layout(name_depth=2),
        Layout(name_depth=3),
        Layout(static=True, names=frozenset({"a", "b/1", "b/m"})),
    ]
)


def read(objects: list[ObjectMeta], layout: Layout, *, page: int = 1000) -> Listing:
    reader = ListingReader(layout)
    for start in range(0, len(objects), page):
        reader.feed(objects[start : start + page])
    return reader.finish()


def relist(reader: ListingReader, objects: list[ObjectMeta]) -> None:
    for name in reader.take_scattered():
        reader.feed([meta for meta in objects if meta.path.startswith(f"{name}/")])


@unhurried
@given(PAGES, LAYOUTS)
def test_any_set_of_paths_is_read_and_what_is_offered_is_sound(objects, layout):
    listing = read(objects, layout)
    for name, model in listing.models.items():
        assert parse_name(name) == model.name == name
        numbers = [entry.key.version for entry in model.versions]
        assert numbers == sorted(set(numbers))
        assert numbers
        for entry in model.versions:
            assert entry.prefix.startswith(f"{name}/")
            assert entry.objects > 0
    for reject in listing.rejects:
        assert reject.path.isprintable()
        assert reject.reason


@unhurried
@given(PAGES, LAYOUTS)
def test_what_is_offered_is_what_a_fetch_of_its_prefix_finds_and_can_write(objects, layout):
    for model in read(objects, layout).models.values():
        for entry in model.versions:
            contents = version_contents(
                [meta for meta in objects if meta.path.startswith(entry.prefix)], entry.prefix
            )
            assert contents.fingerprint == entry.fingerprint
            assert (contents.bytes, len(contents.objects)) == (entry.bytes, entry.objects)
            for path in contents.objects:
                parts = path.split("/")
                assert not {"", ".", ".."} & set(parts)
                assert "\0" not in path
                assert not {"/".join(parts[:end]) for end in range(1, len(parts))} & contents.objects.keys()


@unhurried
@given(PAGES, LAYOUTS, st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_order_of_objects_and_pages_does_not_matter(objects, layout, random, page):
    shuffled = list(objects)
    random.shuffle(shuffled)
    assert read(shuffled, layout, page=page) == read(objects, layout)


@unhurried
@given(PAGES, PAGES, LAYOUTS)
def test_the_listing_before_saves_work_and_changes_nothing(before, objects, layout):
    known = read(before, layout).models
    for now in (objects, before + objects, before):
        reader = ListingReader(layout, known=known)
        reader.feed(now)
        reader.catch_up()
        relist(reader, now)
        assert reader.finish() == read(now, layout)


@unhurried
@given(PAGES, LAYOUTS)
def test_neighbours_never_change_a_good_model(objects, layout):
    good = [
        ObjectMeta(f"{prefix}/7/model", 5, "e", 1.0) for prefix in ("good", "good/good", "good/good/good")
    ]
    neighbours = [meta for meta in objects if not meta.path.startswith("good")]
    names = layout.names | {"good"} if layout.static else frozenset()
    layout = Layout(layout.name_depth, layout.static, names)
    alone, among = read(good, layout), read(good + neighbours, layout)
    for name, model in alone.models.items():
        assert among.models[name] == model


@unhurried
@given(PAGES, st.sampled_from([" ", "\\", "\n", "..", "", "a/../b", "x" * 300]))
def test_a_malformed_version_never_changes_the_model_s_other_versions(objects, bad):
    good = [ObjectMeta("good/7/model", 5, "e", 1.0)]
    inside = [ObjectMeta(f"good/8/{meta.path}", meta.size, meta.etag, meta.modified_s) for meta in objects]
    listing = read([*good, *inside, ObjectMeta(f"good/8/{bad}\\", 1, "e", 1.0)], Layout())
    assert listing.models == read(good, Layout()).models
    assert [reject.path for reject in listing.rejects] == ["good/8/"]


@unhurried
@given(PAGES, PAGES, LAYOUTS, st.sampled_from([0.0, 10.0]))
def test_passes_settle_and_store_whatever_was_listed(first, second, layout, settle_time_s):
    snapshot, memory = Snapshot(), Settling()
    for step, objects in enumerate([first, second, second]):
        listing = read(objects, layout)
        old = snapshot
        snapshot, memory = settle(
            listing, memory, old, now_s=20.0 * step, wall_s=20.0 * step, settle_time_s=settle_time_s
        )
        assert load(dump(snapshot)) == snapshot
        changes = diff(old, snapshot)
        assert bool(changes.added or changes.removed or changes.changed) == (
            _contents(old) != _contents(snapshot)
        )
        for name in snapshot.models:
            assert snapshot.resolve(ModelRef(name)).key.name == name
    assert snapshot.models == listing.models
    assert snapshot.unsettled == ()


def _contents(snapshot: Snapshot) -> set[tuple[object, str]]:
    return {(entry.key, entry.fingerprint) for model in snapshot.models.values() for entry in model.versions}
