"""The packed mapping says what a plain dictionary of the same entries says, whatever is put in, taken out and compared."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hotset.catalog import (
    Draft,
    Mark,
    ModelEntry,
    Models,
    Snapshot,
    VersionEntry,
    diff,
    differences,
    dump,
    load,
    without,
)
from hotset.catalog.block import MOST
from hotset.catalog.key_list import KeyList
from hotset.catalog.packing import pack, unpack
from hotset.keys import MAX_VERSION, Fingerprint, ModelKey

unhurried = settings(deadline=None, max_examples=60)  # a busy machine is no failure

NAMES = st.one_of(
    st.integers(0, 2000).map(lambda number: f"m{number:04}"),
    st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\\/._"), min_size=1, max_size=4),
    st.sampled_from(["m", "m0001/a", "m0001-a", "ü", "\U0001f600"]),
)
NUMBERS = st.one_of(st.integers(0, 4), st.integers(0, MAX_VERSION))
PRINTS = st.integers(0, 3).map(lambda number: Fingerprint(f"{number:032x}"))


@st.composite
def entries(draw: st.DrawFn, name: str) -> ModelEntry:
    """Entries as listings make them."""
    flat = draw(st.booleans())
    numbers = [1] if flat else sorted(draw(st.sets(NUMBERS, min_size=1, max_size=4)))
    return ModelEntry(name, tuple(_version(draw, name, number, flat=flat) for number in numbers))


def _version(draw: st.DrawFn, name: str, number: int, *, flat: bool) -> VersionEntry:
    folder = "" if flat else draw(st.sampled_from([f"{number}/", f"v{number}/"]))
    return VersionEntry(
        key=ModelKey(name, number),
        fingerprint=draw(PRINTS),
        prefix=f"{name}/{folder}",
        bytes=draw(st.integers(0, 2**40)),
        objects=draw(st.integers(1, 2**31)),
        modified_s=draw(st.floats(allow_nan=False)),
        mark=draw(st.sampled_from(list(Mark))),
    )


ODD = st.builds(
    VersionEntry,
    st.builds(
        ModelKey, st.text(max_size=3), st.integers(-(2**70), 2**63 - 1).filter(lambda it: it > -(2**63))
    ),
    st.text(max_size=4),
    st.text(max_size=4),
    st.integers(-(2**62), 2**62),
    st.integers(-3, 2**40),
    st.floats(allow_nan=False),
    st.sampled_from(list(Mark)),
)


def marks(model: ModelEntry) -> list[Mark]:
    return [version.mark for version in model.versions]


@unhurried
@given(st.data())
def test_an_entry_comes_back_as_it_was_packed(data: st.DataObject) -> None:
    name = data.draw(NAMES)
    entry = data.draw(entries(name))
    found = unpack(name, pack(entry))
    assert found == entry
    assert marks(found) == marks(entry)
    assert len(pack(entry)) == 45 * len(entry.versions)


@unhurried
@given(st.lists(ODD, max_size=3).map(tuple))
def test_an_entry_that_no_listing_makes_comes_back_too(versions: tuple[VersionEntry, ...]) -> None:
    entry = ModelEntry("m", versions)
    found = unpack("m", pack(entry))
    assert found == entry
    assert marks(found) == marks(entry)


class ModelsMachine(RuleBasedStateMachine):
    """Changes of any size, each compared with a dictionary; what was there before stays as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.models = Models()
        self.plain: dict[str, ModelEntry] = {}
        self.older: list[tuple[Models, dict[str, ModelEntry]]] = []

    def _apply(self, changes: dict[str, ModelEntry | None]) -> None:
        self.older = [*self.older[-3:], (self.models, dict(self.plain))]
        self.models = self.models.with_changes(changes)
        for name, entry in changes.items():
            if entry is None:
                self.plain.pop(name, None)
            else:
                self.plain[name] = entry

    @rule(data=st.data(), names=st.lists(NAMES, max_size=8, unique=True))
    def change(self, data: st.DataObject, names: list[str]) -> None:
        self._apply({name: data.draw(st.none() | entries(name)) for name in names})

    @rule(data=st.data(), start=st.integers(0, 1500), count=st.integers(1, 900), step=st.integers(1, 3))
    def put_many(self, data: st.DataObject, start: int, count: int, step: int) -> None:
        like = data.draw(entries("m"))
        self._apply(
            {f"m{number:04}": _renamed(like, f"m{number:04}") for number in range(start, start + count, step)}
        )

    @rule(start=st.integers(0, 1500), count=st.integers(1, 900), step=st.integers(1, 3))
    def take_many(self, start: int, count: int, step: int) -> None:
        self._apply({f"m{number:04}": None for number in range(start, start + count, step)})

    @rule(data=st.data(), names=st.lists(NAMES, max_size=5))
    def change_one_by_one(self, data: st.DataObject, names: list[str]) -> None:
        draft = Draft(self.models)
        changes: dict[str, ModelEntry | None] = {}
        for name in names:
            changes[name] = data.draw(st.none() | entries(name))
            draft.set(name, changes[name])
            assert (name in draft) == (changes[name] is not None)
        self._apply(changes)
        assert draft.done() == self.models

    @rule(name=NAMES)
    def look(self, name: str) -> None:
        assert self.models.get(name) == self.plain.get(name)
        assert (name in self.models) == (name in self.plain)
        for odd in (f"{name}\n", f"\n{name}", f"{name}\n{name}", name[:-1]):
            assert self.models.get(odd) == self.plain.get(odd)

    @rule(start=st.text(max_size=5) | NAMES)
    def names_from(self, start: str) -> None:
        assert list(self.models.names_from(start)) == [name for name in sorted(self.plain) if name >= start]

    @rule()
    def compare(self) -> None:
        for models, plain in self.older:
            found = {it.name: (it.before, it.after) for it in differences(models, self.models) if it.is_real}
            assert found == {
                name: (plain.get(name), self.plain.get(name))
                for name in plain.keys() | self.plain.keys()
                if plain.get(name) != self.plain.get(name)
            }
            assert (models == self.models) == (plain == self.plain)

    @rule()
    def diff(self) -> None:
        for models, plain in self.older:
            old, new = _prints(plain), _prints(self.plain)
            found = diff(Snapshot(models), Snapshot(self.models))
            assert found.added == len(new.keys() - old.keys())
            assert found.removed == sorted(old.keys() - new.keys())
            assert found.changed == sorted(key for key in old.keys() & new.keys() if old[key] != new[key])
            assert found.latest_changed == [
                self.plain[name].latest.key
                for name in sorted(plain.keys() & self.plain.keys())
                if _latest(plain[name]) != _latest(self.plain[name])
            ]

    @rule()
    def keep_and_read(self) -> None:
        kept = Snapshot(self.models)
        assert load(dump(kept)) == kept

    @rule(wanted=st.sets(PRINTS))
    def orphans(self, wanted: set[Fingerprint]) -> None:
        offered = {version.fingerprint for model in self.plain.values() for version in model.versions}
        assert without(wanted, self.models) == wanted - offered

    @invariant()
    def says_what_the_dictionary_says(self) -> None:
        assert list(self.models) == sorted(self.plain)
        assert len(self.models) == len(self.plain)
        assert list(self.models.entries()) == [self.plain[name] for name in sorted(self.plain)]
        assert self.models.version_count == sum(len(model.versions) for model in self.plain.values())
        assert self.models == Models.of(self.plain)

    @invariant()
    def blocks_are_of_a_fair_size(self) -> None:
        assert all(0 < len(block) <= MOST for block in self.models.blocks)

    @invariant()
    def what_was_before_is_as_it_was(self) -> None:
        for models, plain in self.older:
            assert models == plain


def _renamed(model: ModelEntry, name: str) -> ModelEntry:
    return ModelEntry(
        name,
        tuple(
            VersionEntry(
                ModelKey(name, it.key.version),
                it.fingerprint,
                name + it.prefix[len(model.name) :],
                it.bytes,
                it.objects,
                it.modified_s,
                it.mark,
            )
            for it in model.versions
        ),
    )


def _prints(models: dict[str, ModelEntry]) -> dict[ModelKey, Fingerprint]:
    return {version.key: version.fingerprint for model in models.values() for version in model.versions}


def _latest(model: ModelEntry) -> tuple[ModelKey, Fingerprint]:
    return model.latest.key, model.latest.fingerprint


TestModels = ModelsMachine.TestCase
TestModels.settings = settings(deadline=None, max_examples=12, stateful_step_count=12)


@unhurried
@given(st.lists(st.builds(ModelKey, NAMES, NUMBERS), max_size=5), st.integers(1, 400))
def test_a_list_of_keys_is_a_list_of_keys(keys: list[ModelKey], times: int) -> None:
    plain = keys * times
    found = KeyList(plain)
    assert (len(found), list(found)) == (len(plain), plain)
    assert found == plain
    assert bool(found) == bool(plain)
    assert [*found[1:-1:7]] == plain[1:-1:7]
    if plain:
        assert (found[0], found[-1], found[len(plain) // 2]) == (plain[0], plain[-1], plain[len(plain) // 2])
        assert found != plain[1:]
