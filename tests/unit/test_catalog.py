"""The catalog: what a listing means, when a version counts, what a ref resolves to, what is kept on disk."""

from __future__ import annotations

import pytest

from hotset.catalog import (
    MAX_REJECTS,
    Catalog,
    Diff,
    Layout,
    Listing,
    ListingReader,
    Mark,
    ModelEntry,
    Models,
    Reject,
    Settling,
    Snapshot,
    SnapshotFormatError,
    UnfaithfulVersionError,
    VersionEntry,
    diff,
    dump,
    keep_lookups,
    load,
    settle,
    version_contents,
)
from hotset.errors import ConfigError, ErrorKind, NotFoundError
from hotset.keys import ModelKey, ModelRef, fingerprint
from hotset.store import ObjectMeta

SETTLE_S = 10.0


def an_object(path: str, *, size: int = 10, etag: str = "e", modified_s: float = 100.0) -> ObjectMeta:
    return ObjectMeta(path, size, etag, modified_s)


def read(*objects: ObjectMeta | str, layout: Layout | None = None) -> Listing:
    reader = ListingReader(layout or Layout())
    reader.feed([an_object(item) if isinstance(item, str) else item for item in objects])
    return reader.finish()


def offered(listing: Listing) -> dict[str, dict[int, str]]:
    """Name → version number → prefix."""
    return {
        name: {entry.key.version: entry.prefix for entry in model.versions}
        for name, model in listing.models.items()
    }


def marks(listing: Listing) -> dict[str, Mark]:
    return {str(entry.key): entry.mark for model in listing.models.values() for entry in model.versions}


def rejected(listing: Listing) -> list[str]:
    return [reject.path for reject in listing.rejects]


def static(*names: str) -> Layout:
    return Layout(static=True, names=frozenset(names))


# What a listing means


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param(["a/1/m", "a/2/m"], {"a": {1: "a/1/", 2: "a/2/"}}, id="versions"),
        pytest.param(["a/v1/m", "a/2/m"], {"a": {1: "a/v1/", 2: "a/2/"}}, id="with and without v"),
        pytest.param(["a/9/m", "a/10/m"], {"a": {9: "a/9/", 10: "a/10/"}}, id="ordered by number"),
        pytest.param(["a/0/m"], {"a": {0: "a/0/"}}, id="version zero"),
        pytest.param(["a/m", "a/n"], {"a": {1: "a/"}}, id="unversioned"),
        pytest.param(["a/m", "a/sub/deep/n"], {"a": {1: "a/"}}, id="unversioned with folders"),
        pytest.param(["a/sub/m"], {"a": {1: "a/"}}, id="unversioned with folders only"),
        pytest.param(["a/m", "b/3/m"], {"a": {1: "a/"}, "b": {3: "b/3/"}}, id="mixed"),
        pytest.param(
            ["a/README", "a/labels.yaml", "a/1/m"], {"a": {1: "a/1/"}}, id="stray files beside versions"
        ),
        pytest.param(["a/1/m", "a/_SUCCESS", "a/.tmp/x"], {"a": {1: "a/1/"}}, id="hidden beside versions"),
        pytest.param(["a/_SUCCESS", "a/.tmp/1/m"], {}, id="only hidden entries make no model"),
        pytest.param(["_SUCCESS", "_index.json", ".tmp/1/m", "_old/1/m"], {}, id="hidden at the root"),
        pytest.param(["a/1/.hidden", "a/1/_x"], {"a": {1: "a/1/"}}, id="hidden files inside a version count"),
        pytest.param(["città/1/modèle"], {"città": {1: "città/1/"}}, id="letters of all languages"),
        pytest.param([], {}, id="an empty store"),
    ],
)
def test_a_listing_without_faults(paths, expected):
    listing = read(*paths)
    assert offered(listing) == expected
    assert listing.rejects == ()
    assert listing.objects == len(paths)


def test_an_entry_sums_up_its_objects():
    listing = read(
        an_object("a/1/m", size=5, etag="x", modified_s=7.0),
        an_object("a/1/sub/n", size=6, etag="y", modified_s=9.0),
    )
    assert listing.models["a"].versions == (
        VersionEntry(
            key=ModelKey("a", 1),
            fingerprint=fingerprint([("m", 5, "x"), ("sub/n", 6, "y")]),
            prefix="a/1/",
            bytes=11,
            objects=2,
            modified_s=9.0,
        ),
    )


def test_the_fingerprint_is_of_the_content_and_not_of_the_place():
    listing = read("a/3/m", "b/v7/m", "c/m")
    assert len({model.latest.fingerprint for model in listing.models.values()}) == 1


@pytest.mark.parametrize(
    ("paths", "path", "reason"),
    [
        pytest.param(["README.md"], "README.md", "expected: <name>/<version>/…", id="at the root"),
        pytest.param(["a/1/m", "a/old/m"], "a/old/", "it is no version", id="no version"),
        pytest.param(["a/1/m", "a/01/m"], "a/01/", "it is no version", id="leading zero"),
        pytest.param(["a/3/m", "a/v3/m"], "a/v3/", "same version number as 'a/3/'", id="3 and v3"),
        pytest.param(["../1/m"], "../", "the part '..'", id="dots for a name"),
        pytest.param(["b\\c/1/m"], "b\\c/", "a backslash", id="backslash in a name"),
        pytest.param(["b\tc/1/m"], "b\\tc/", "unprintable", id="control character in a name"),
        pytest.param(["x" * 600 + "/1/m"], "x" * 600 + "/", "longer than", id="a long name"),
        pytest.param(["/1/m"], "/", "empty", id="an empty name"),
        pytest.param(["a/1/../m"], "a/1/", "'.' or '..'", id="dots in a version"),
        pytest.param(["a/1/./m"], "a/1/", "'.' or '..'", id="a dot in a version"),
        pytest.param(["a/1//m"], "a/1/", "empty part", id="an empty part"),
        pytest.param(["a/1/m\\n"], "a/1/", "a backslash", id="a backslash"),
        pytest.param(["a/1/m\x00"], "a/1/", "a control character", id="a null character"),
        pytest.param(["a/1/m\ud800"], "a/1/", "a control character", id="half of a surrogate pair"),
        pytest.param(["a/1/" + "é" * 128], "a/1/", "longer than 255 bytes", id="a long file name"),
        pytest.param(
            ["a/1/m", "a/1/m/n"], "a/1/", "both a file and a directory: 'm'", id="file and directory"
        ),
        pytest.param(
            ["a/1/m/n/o", "a/1/m"], "a/1/", "both a file and a directory: 'm'", id="the same, deeper"
        ),
        pytest.param(["a/1", "a/1/m"], "a/1/", "both a file and a directory: '1'", id="a file for a version"),
        pytest.param(["a/1/_SUCCESS"], "a/1/", "no files", id="only the marker"),
        pytest.param(["a/../m"], "a/", "'.' or '..'", id="dots in an unversioned model"),
        pytest.param(["a//m"], "a/", "empty part", id="an empty part in an unversioned model"),
        pytest.param(["a/1/m", "a//m"], "a//", "it is no version", id="an empty part for a version"),
    ],
)
def test_what_is_malformed_is_listed_with_its_reason_and_hides_no_neighbour(paths, path, reason):
    neighbours = ["z/1/m", "z/2/m", "a/7/m"] if paths[0].startswith("a/1") else ["z/1/m", "z/2/m"]
    listing = read(*paths, *neighbours)
    assert [reject.path for reject in listing.rejects] == [path]
    assert reason in listing.rejects[0].reason
    assert offered(listing)["z"] == {1: "z/1/", 2: "z/2/"}
    if "a/7/m" in neighbours:
        assert offered(listing)["a"][7] == "a/7/"


def test_a_malformed_plain_version_leaves_the_number_to_the_other():
    listing = read("a/3/x\\y", "a/v3/m")
    assert offered(listing) == {"a": {3: "a/v3/"}}
    assert rejected(listing) == ["a/3/"]


def test_a_model_whose_versions_are_all_malformed_is_not_taken_for_an_unversioned_one():
    listing = read("a/README", "a/1/x\\y")
    assert offered(listing) == {}
    assert rejected(listing) == ["a/1/"]


@pytest.mark.parametrize("marker", ["a/1/", "a/1/sub/", "a/", "a/2/", "a/1_$folder$", "a/1/sub", "a/1", "a"])
def test_folder_markers_are_ignored(marker):
    plain = read("a/1/m", "a/1/sub/n")
    marked = read("a/1/m", "a/1/sub/n", an_object(marker, size=0))
    assert (marked.models, marked.rejects) == (plain.models, ())


def test_an_empty_version_folder_alone_makes_no_model():
    listing = read(an_object("a/1", size=0), an_object("b/1/", size=0), an_object("c", size=0))
    assert (offered(listing), listing.rejects) == ({}, ())


def test_an_empty_file_is_content():
    assert read("a/1/m", an_object("a/1/__init__.py", size=0)).models["a"].latest.objects == 2


def test_the_success_marker_is_no_content():
    without, with_marker = read("a/1/m", "b/m"), read("a/1/m", "a/1/_SUCCESS", "b/m", "b/_SUCCESS")
    assert with_marker.models == without.models
    assert marks(with_marker) == {"a@1": Mark.COMPLETE, "b@1": Mark.COMPLETE}
    assert marks(without) == {"a@1": Mark.NONE, "b@1": Mark.NONE}


def test_a_success_marker_that_is_older_than_an_object_says_nothing():
    listing = read(an_object("a/1/m", modified_s=101.0), an_object("a/1/_SUCCESS", modified_s=100.0))
    assert marks(listing) == {"a@1": Mark.NONE}


def test_a_success_marker_deeper_down_is_content():
    listing = read("a/1/part/_SUCCESS")
    assert listing.models["a"].latest.objects == 1
    assert marks(listing) == {"a@1": Mark.NONE}


def test_an_object_listed_twice_counts_once_and_the_newest_counts():
    old, new = an_object("a/1/m", etag="old", modified_s=1.0), an_object("a/1/m", etag="new", modified_s=2.0)
    assert read(old, new).models == read(new, old).models == read(new).models


def test_a_model_that_did_not_change_is_not_read_again():
    marked = [an_object("a/1/m"), an_object("a/1/_SUCCESS")]
    last = read(*marked, "b/1/m", "c/1/m", "c/1/x\\y", "c/2/m")
    reader = ListingReader(Layout(), known=last.models)
    reader.feed(
        [
            *marked,
            an_object("b/1/m", etag="new"),
            an_object("c/1/m"),
            an_object("c/1/x\\y"),
            an_object("c/2/m"),
        ]
    )
    listing = reader.finish()
    assert listing.models["a"] == last.models["a"]
    assert marks(listing)["a@1"] is Mark.COMPLETE
    assert listing.models["b"] != last.models["b"]
    assert rejected(listing) == ["c/1/"]


def test_names_of_two_parts():
    listing = read("acme/paris/1/m", "acme/rome/m", "acme/x", "m", "_a/b/1/m", "c/_b/1/m", layout=Layout(2))
    assert offered(listing) == {"acme/paris": {1: "acme/paris/1/"}, "acme/rome": {1: "acme/rome/"}}
    assert rejected(listing) == ["acme/x", "m"]
    assert "<name>/<name>/<version>/…" in listing.rejects[0].reason


def test_a_static_list_reads_no_versions():
    listing = read("paris/1/m", "paris/x", "eu/rome/3/m", "eu/rome/_x", layout=static("paris", "eu/rome"))
    assert offered(listing) == {"paris": {1: "paris/"}, "eu/rome": {1: "eu/rome/"}}
    assert listing.models["eu/rome"].latest.objects == 2


def test_a_static_model_without_files_is_rejected():
    listing = read("paris/m", "rome/", "other/x", layout=static("paris", "rome"))
    assert offered(listing) == {"paris": {1: "paris/"}}
    assert rejected(listing) == ["other/x", "rome/"]


def test_layouts_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="name_depth of at least 1, found: 0"):
        Layout(name_depth=0)
    with pytest.raises(ConfigError, match="'a/b' lies inside the model 'a'"):
        static("a", "a/b")


def test_rejects_are_bounded_and_do_not_depend_on_the_order():
    objects = [an_object(f"stray-{number:05d}") for number in range(3 * MAX_REJECTS)]
    forwards, backwards = read(*objects), read(*reversed(objects))
    assert forwards == backwards
    assert rejected(forwards)[:2] == ["stray-00000", "stray-00001"]
    assert (len(forwards.rejects), forwards.rejects_left_out) == (MAX_REJECTS, 2 * MAX_REJECTS)


def test_what_is_printed_of_a_reject_cannot_disturb_a_terminal():
    (reject,) = read("\x1b[31mred\n").rejects
    assert reject.path == "\\x1b[31mred\\n"


def test_version_contents_is_what_the_fetch_stores():
    objects = [
        an_object("a/1/m"),
        an_object("a/1/sub/n"),
        an_object("a/1/_SUCCESS"),
        an_object("a/1/sub", size=0),
    ]
    contents = version_contents(objects, "a/1/")
    entry = read(*objects).models["a"].latest
    assert sorted(contents.objects) == ["m", "sub/n"]
    assert (contents.fingerprint, contents.bytes) == (entry.fingerprint, entry.bytes)
    with pytest.raises(UnfaithfulVersionError, match="no files"):
        version_contents([], "a/1/")


# When a version counts


class Passes:
    """Feeds listings to ``settle`` as the sync loop does; both clocks run together from 1,000 seconds."""

    def __init__(self, *, settle_time_s: float = SETTLE_S, previous: Snapshot | None = None) -> None:
        self.snapshot = previous or Snapshot()
        self.memory = Settling()
        self.settle_time_s = settle_time_s

    def at(self, now_s: float, *objects: ObjectMeta | str, took_s: float = 0.0) -> Snapshot:
        self.snapshot, self.memory = settle(
            read(*objects),
            self.memory,
            self.snapshot,
            now_s=now_s,
            wall_s=now_s,
            settle_time_s=self.settle_time_s,
            took_s=took_s,
        )
        return self.snapshot


def at_1000(path: str, etag: str = "e", *, modified_s: float = 1000.0) -> ObjectMeta:
    return an_object(path, etag=etag, modified_s=modified_s)


KEY = ModelKey("a", 1)


def test_old_objects_are_settled_at_once():
    assert Passes().at(1000.0, at_1000("a/1/m", modified_s=990.0)).resolve(ModelRef("a")).key == KEY


def test_a_new_version_is_left_out_until_it_is_old_enough():
    passes = Passes()
    assert passes.at(1001.0, at_1000("a/1/m")).unsettled == (KEY,)
    assert passes.snapshot.models == {}
    assert passes.at(1009.0, at_1000("a/1/m")).unsettled == (KEY,)
    assert passes.at(1010.0, at_1000("a/1/m")).unsettled == ()
    assert passes.snapshot.resolve(ModelRef("a")).key == KEY
    assert passes.memory.sightings == {}


def test_no_settle_time_offers_everything_at_once():
    assert Passes(settle_time_s=0).at(1000.0, at_1000("a/1/m")).models.keys() == {"a"}


def test_a_marker_offers_a_new_version_at_once():
    assert Passes().at(1000.0, at_1000("a/1/m"), at_1000("a/1/_SUCCESS")).models.keys() == {"a"}


def test_an_upload_that_pauses_for_longer_than_the_interval_is_not_served_by_half():
    passes = Passes()
    for now_s in (1001.0, 1004.0, 1007.0):
        assert passes.at(now_s, at_1000("a/1/m")).models == {}
    for now_s in (1008.0, 1011.0, 1017.9):
        assert passes.at(now_s, at_1000("a/1/m"), at_1000("a/1/n", modified_s=1008.0)).models == {}
    snapshot = passes.at(1018.0, at_1000("a/1/m"), at_1000("a/1/n", modified_s=1008.0))
    assert snapshot.resolve(ModelRef("a")).objects == 2


def test_a_store_whose_clock_runs_ahead_is_watched_by_our_own():
    passes = Passes()
    objects = [at_1000("a/1/m", modified_s=9999.0)]
    assert passes.at(1000.0, *objects).models == {}
    assert passes.at(1009.9, *objects).models == {}
    assert passes.at(1010.0, *objects).models.keys() == {"a"}


def test_times_that_an_upload_preserved_are_not_believed():
    passes = Passes()
    passes.at(1000.0)
    half, whole = (
        [at_1000("a/1/m", modified_s=5.0)],
        [at_1000("a/1/m", modified_s=5.0), at_1000("a/1/n", modified_s=6.0)],
    )
    assert passes.at(1001.0, *half).unsettled == (KEY,)
    assert passes.at(1006.0, *half).unsettled == (KEY,)
    assert passes.at(1007.0, *whole).unsettled == (KEY,)
    assert passes.at(1016.9, *whole).unsettled == (KEY,)
    assert passes.at(1017.0, *whole).resolve(ModelRef("a")).objects == 2


def test_what_a_long_listing_saw_is_first_seen_at_its_end():
    passes = Passes()
    objects = [at_1000("a/1/m", modified_s=9999.0)]
    passes.at(1000.0, *objects, took_s=8.0)
    assert passes.at(1010.0, *objects).models == {}
    assert passes.at(1018.0, *objects).models.keys() == {"a"}


@pytest.fixture
def serving() -> Passes:
    passes = Passes()
    passes.at(1000.0, at_1000("a/1/m", modified_s=1.0), at_1000("a/1/n", modified_s=2.0))
    assert passes.snapshot.models.keys() == {"a"}
    return passes


def test_a_version_replaced_in_place_stays_as_it_was_until_the_new_one_has_settled(serving):
    before = serving.snapshot.resolve(ModelRef("a"))
    changed = [at_1000("a/1/m", "new", modified_s=1001.0), at_1000("a/1/n", modified_s=2.0)]
    for now_s in (1002.0, 1011.9):
        assert serving.at(now_s, *changed).resolve(ModelRef("a")) == before
        assert serving.snapshot.unsettled == (KEY,)
    after = serving.at(1012.0, *changed).resolve(ModelRef("a"))
    assert after.fingerprint != before.fingerprint
    assert serving.snapshot.unsettled == ()


def test_a_version_that_changes_back_is_settled(serving):
    original = [at_1000("a/1/m", modified_s=1.0), at_1000("a/1/n", modified_s=2.0)]
    serving.at(1001.0, *original, at_1000("a/1/extra", modified_s=1001.0))
    assert serving.at(1002.0, *original).unsettled == ()
    assert serving.memory.sightings == {}


def test_a_file_deleted_inside_a_version_is_noticed_but_not_believed_at_once(serving):
    assert serving.at(1001.0, at_1000("a/1/m", modified_s=1.0)).resolve(ModelRef("a")).objects == 2
    assert serving.at(1011.0, at_1000("a/1/m", modified_s=1.0)).resolve(ModelRef("a")).objects == 1


def test_a_version_that_is_deleted_file_by_file_is_not_vouched_for_by_its_marker():
    passes = Passes()
    marker = at_1000("a/1/_SUCCESS", modified_s=3.0)
    passes.at(1000.0, at_1000("a/1/m", modified_s=1.0), at_1000("a/1/n", modified_s=2.0), marker)
    assert passes.at(1001.0, at_1000("a/1/n", modified_s=2.0), marker).resolve(ModelRef("a")).objects == 2
    assert passes.at(1002.0).models == {}


def test_a_marker_offers_a_replaced_version_at_once(serving):
    objects = [at_1000("a/1/m", "new", modified_s=1001.0), at_1000("a/1/_SUCCESS", modified_s=1001.0)]
    assert serving.at(1001.0, *objects).resolve(ModelRef("a")).objects == 1


def test_a_version_that_is_being_published_waits_however_old_it_is():
    for settle_time_s in (0.0, SETTLE_S):
        passes = Passes(settle_time_s=settle_time_s)
        objects = [at_1000("a/1/m", modified_s=1.0), at_1000("a/1/_SUCCESS", modified_s=2.0)]
        at_work = at_1000("a/1/_PUBLISHING", modified_s=0.5)
        assert passes.at(1000.0, *objects, at_work).unsettled == (KEY,)
        assert passes.at(2000.0, *objects, at_work).models == {}
        offered_version = passes.at(2001.0, *objects).resolve(ModelRef("a"))
        assert offered_version.objects == 1, "the markers are none of its files"


def test_a_version_that_is_published_over_stays_as_it_was(serving):
    at_work = at_1000("a/1/_PUBLISHING")
    old = [at_1000("a/1/m", modified_s=1.0), at_1000("a/1/n", modified_s=2.0)]
    before = serving.snapshot.resolve(ModelRef("a")).fingerprint
    assert serving.at(1001.0, *old, at_work).resolve(ModelRef("a")).fingerprint == before
    half = [at_1000("a/1/m", "new", modified_s=1001.0), old[1], at_1000("a/1/_SUCCESS", modified_s=1001.0)]
    assert serving.at(2000.0, *half, at_work).resolve(ModelRef("a")).fingerprint == before
    assert serving.at(2001.0, *half).resolve(ModelRef("a")).fingerprint != before


def test_what_is_wholly_gone_is_gone_at_once(serving):
    serving.at(
        1001.0,
        at_1000("a/1/m", modified_s=1.0),
        at_1000("a/1/n", modified_s=2.0),
        at_1000("b/m", modified_s=1.0),
    )
    assert serving.at(1030.0, at_1000("b/m", modified_s=1.0)).models.keys() == {"b"}


def test_the_first_version_directory_of_an_unversioned_model_leaves_no_gap():
    passes = Passes()
    flat, first = at_1000("a/m", modified_s=1.0), at_1000("a/2/m", modified_s=1001.0)
    passes.at(1000.0, flat)
    assert passes.at(1001.0, flat, first).resolve(ModelRef("a")).prefix == "a/"
    assert passes.at(1011.0, flat, first).resolve(ModelRef("a")).prefix == "a/2/"


def test_a_restored_snapshot_is_settled_as_it_is(serving):
    passes = Passes(previous=serving.snapshot)
    passes.at(1000.0, at_1000("a/1/m", modified_s=1.0), at_1000("a/1/n", modified_s=2.0))
    assert passes.snapshot.models == serving.snapshot.models


def test_a_version_that_moves_from_v1_to_1_has_its_new_prefix():
    passes = Passes()
    passes.at(1000.0, at_1000("a/v1/m", modified_s=1.0))
    before = passes.snapshot
    passes.at(1001.0, at_1000("a/1/m", modified_s=1.0))
    assert passes.snapshot.resolve(ModelRef("a")).prefix == "a/1/"
    assert diff(before, passes.snapshot) == Diff()


# What a ref resolves to


def entry(name: str, version: int, digit: str = "0") -> VersionEntry:
    return VersionEntry(ModelKey(name, version), digit * 32, f"{name}/{version}/", 10, 1, 100.0)


def model(name: str, *versions: int, digit: str = "0") -> ModelEntry:
    return ModelEntry(name, tuple(entry(name, version, digit) for version in versions))


def snapshot_of(*models: ModelEntry) -> Snapshot:
    return Snapshot({item.name: item for item in models})


def test_refs_resolve():
    snapshot = snapshot_of(model("a", 1, 3, 10), model("b", 2))
    assert snapshot.resolve(ModelRef("a")).key == ModelKey("a", 10)
    assert snapshot.resolve(ModelRef("a", 3)).key == ModelKey("a", 3)
    assert snapshot.resolve(ModelRef("b", 2)).key == ModelKey("b", 2)


@pytest.mark.parametrize(
    ("ref", "kind", "text"),
    [
        (ModelRef("x"), ErrorKind.MODEL_NOT_FOUND, "Request for unknown model: 'x' is not found"),
        (ModelRef("x", 1), ErrorKind.MODEL_NOT_FOUND, "Request for unknown model: 'x' is not found"),
        (
            ModelRef("a", 2),
            ErrorKind.VERSION_NOT_FOUND,
            "Request for unknown model: 'a' version 2 is not found",
        ),
        (
            ModelRef("a", 11),
            ErrorKind.VERSION_NOT_FOUND,
            "Request for unknown model: 'a' version 11 is not found",
        ),
        (
            ModelRef("a", "stable"),
            ErrorKind.VERSION_NOT_FOUND,
            "Request for unknown model: 'a' version stable is not found",
        ),
    ],
)
def test_what_is_not_offered_is_named_in_the_words_that_clients_match(ref, kind, text):
    with pytest.raises(NotFoundError) as caught:
        snapshot_of(model("a", 1, 3, 10)).resolve(ref)
    assert caught.value.kind == kind
    assert str(caught.value).startswith(f"{text}. ")


def test_an_unknown_version_names_the_newest_that_are_offered():
    with pytest.raises(NotFoundError, match=r"Versions offered: 9, 8, 7, 6, 5, …\.$"):
        snapshot_of(model("a", *range(1, 10))).resolve(ModelRef("a", 77))


# The holder


def test_a_catalog_follows_what_is_applied_and_added():
    catalog = Catalog()
    catalog.apply(snapshot_of(model("a", 1)))
    before = catalog.snapshot
    catalog.add(model("b", 1))
    catalog.add(model("a", 1, 2))
    assert catalog.resolve(ModelRef("b")).key == ModelKey("b", 1)
    assert catalog.resolve(ModelRef("a")).key == ModelKey("a", 2)
    assert catalog.snapshot == snapshot_of(model("a", 1, 2), model("b", 1))
    assert before == snapshot_of(model("a", 1))


def test_many_additions_stay_one_mapping():
    catalog = Catalog(snapshot_of(model("m0", 1)))
    for number in range(1, 500):
        catalog.add(model(f"m{number}", 1))
    models = catalog.snapshot.models
    assert len(models) == len(list(models)) == 500
    assert models == {f"m{number}": model(f"m{number}", 1) for number in range(500)}
    assert "x" not in models
    assert models.get("x") is None


def test_an_addition_copies_only_its_neighbours():
    models = Models.of({f"m{number:04}": model(f"m{number:04}", 1) for number in range(3000)})
    more = models.with_changes({"m1500x": model("m1500x", 1)})
    new = [block for block in more.blocks if block not in models.blocks]
    assert len(more) == 3001
    assert len(new) == 1
    assert len(new[0]) < 600


def test_what_lookups_added_while_a_listing_ran_is_kept():
    before = snapshot_of(model("a", 1), model("gone", 1))
    now = before.with_model(model("b", 1))
    found = snapshot_of(model("a", 1))
    assert keep_lookups(found, before=before, now=now) == snapshot_of(model("a", 1), model("b", 1))
    assert keep_lookups(found, before=before, now=before) is found


# What differs


def test_a_diff_names_what_changed():
    old = snapshot_of(model("a", 1, 2), model("b", 1), model("c", 1), model("same", 1), model("older", 1, 2))
    new = snapshot_of(
        model("a", 1, 2, 3),
        model("b", 1, digit="f"),
        model("d", 1),
        model("same", 1),
        ModelEntry("older", (entry("older", 1, "f"), entry("older", 2))),
    )
    assert diff(old, new) == Diff(
        added=2,
        removed=[ModelKey("c", 1)],
        changed=[ModelKey("b", 1), ModelKey("older", 1)],
        latest_changed=[ModelKey("a", 3), ModelKey("b", 1)],
    )


def test_a_rollback_changes_latest_too():
    assert diff(snapshot_of(model("a", 1, 2)), snapshot_of(model("a", 1))).latest_changed == [
        ModelKey("a", 1)
    ]


# What is kept on disk


@pytest.fixture
def full() -> Snapshot:
    return Snapshot(
        {"a": model("a", 1, 2), "eu/rome": model("eu/rome", 3)},
        rejects=(Reject("x", "why"),),
        rejects_left_out=4,
        unsettled=(ModelKey("b", 1),),
    )


def test_a_snapshot_survives_its_stored_form(full):
    assert load(dump(full)) == full
    assert load(dump(full, origin="s3://b"), origin="s3://b") == full
    assert load(dump(Snapshot())) == Snapshot()


def test_a_snapshot_with_additions_can_be_stored(full):
    assert load(dump(full.with_model(model("c", 1)))) == full.with_model(model("c", 1))


def test_a_snapshot_of_another_store_is_refused(full):
    with pytest.raises(SnapshotFormatError, match="expected a snapshot of 's3://b', found one of: 's3://a'"):
        load(dump(full, origin="s3://a"), origin="s3://b")


@pytest.mark.parametrize("cut", [0, 1, 10, 30, 60, -1])
def test_a_torn_snapshot_is_refused(full, cut):
    with pytest.raises(SnapshotFormatError):
        load(dump(full)[:cut])


def test_every_flipped_bit_is_found(full):
    data = dump(full)
    for position in range(len(data)):
        damaged = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(SnapshotFormatError):
            load(damaged)


def test_another_format_is_named(full):
    with pytest.raises(SnapshotFormatError, match="expected a snapshot of format 2, found: b'1'"):
        load(dump(full).replace(b" 2\n", b" 1 0123456789abcdef\n", 1))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(ModelEntry("..", (entry("..", 1),)), id="a name that is a path"),
        pytest.param(ModelEntry("a", ()), id="no versions"),
        pytest.param(ModelEntry("a", (entry("b", 1),)), id="another model's version"),
        pytest.param(model("a", 2, 1), id="not ascending"),
        pytest.param(model("a", -1), id="a negative version"),
        pytest.param(model("a", 1, digit="/"), id="a fingerprint that is a path"),
        pytest.param(
            ModelEntry("a", (VersionEntry(ModelKey("a", 1), "0" * 32, "b/", 1, 1, 1.0),)), id="another prefix"
        ),
    ],
)
def test_what_a_listing_could_not_have_made_is_refused(bad):
    with pytest.raises(SnapshotFormatError):
        load(dump(snapshot_of(bad)))
