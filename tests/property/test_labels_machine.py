"""The whole residency on fakes with labels that are written, moved and taken out, under everything else that happens.

A machine of its own beside that of the residency, whose rules and promises it has too. What a label means is looked at
after every step of the loop: it goes on meaning a version as long as that is loaded and the store's file has not moved
it to one that is loaded too, and it never means what the file never gave it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from hotset.errors import StoreError
from hotset.keys import ModelKey, ModelRef
from property.test_residency_machine import (
    EXAMPLES,
    NAMES,
    NOT_HERE,
    STEPS,
    Open,
    Request,
    ResidencyMachine,
    names,
    numbers,
    turns,
)

LABELS = ("x", "y")
labels = st.sampled_from(LABELS)
label_refs = st.builds(ModelRef, names, labels)
targets = st.dictionaries(labels, st.integers(1, 4), max_size=2)


class LabelsMachine(ResidencyMachine):
    spread = gather = relieve = weigh = damage = pin = NOT_HERE

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[str, dict[str, int]] = {name: {} for name in NAMES}
        self.given: dict[ModelRef, set[int]] = {
            ModelRef(name, label): set() for name in NAMES for label in LABELS
        }
        self.meant: dict[ModelRef, ModelKey] = {}
        self.last: dict[ModelRef, ModelKey] = {}
        self.before_the_end: dict[ModelRef, ModelKey] = {}

    async def open_bench(self, *, away: bool) -> None:
        self.before_the_end.update(self.last)  # of these, what was in memory is remembered
        self.meant, self.last = {}, {}
        await super().open_bench(away=away)

    # The file

    @rule(name=names, said=targets)
    def write_labels(self, name: str, said: dict[str, int]) -> None:
        self.write(name, said)

    def write(self, name: str, said: dict[str, int]) -> None:
        self.written[name] = said
        for label, number in said.items():
            self.given[ModelRef(name, label)].add(number)
        text = "".join(f"{label}: {number}\n" for label, number in said.items()) or "{}"
        self.store.put(f"{name}/labels.yaml", text.encode())

    @rule(ref=label_refs, number=numbers, count=turns)
    def move_label(self, ref: ModelRef, number: int, count: int) -> None:
        """The usual: one label goes to a version that is there, and the next pass sees it."""
        self.store.publish(ModelKey(ref.name, number))
        self.write(ref.name, {**self.written[ref.name], str(ref.version): number})

        async def sync() -> None:
            self.background.append(self.start_task(self.bench.sync()))
            await self.pass_turns(count)

        self.run(sync())

    @rule(name=names)
    def delete_labels(self, name: str) -> None:
        self.written[name] = {}
        self.store.delete(f"{name}/labels.yaml")

    @rule(fails=st.booleans())
    def read_fault(self, fails: bool) -> None:
        self.store.read_fault = StoreError("away") if fails else None

    # Requests

    @rule(ref=label_refs, seconds=st.sampled_from([0.0, 60.0]), count=turns)
    def ask_label(self, ref: ModelRef, seconds: float, count: int) -> None:
        self.run(self.begin(ref, seconds, self.ask_once, count))

    @rule(ref=label_refs, count=turns)
    def open_label(self, ref: ModelRef, count: int) -> None:
        self.run(self.begin(ref, 60.0, self.open_once, count))

    async def open_once(self, request: Request, seconds: float) -> None:
        if request.ref not in self.given:
            await super().open_once(request, seconds)
            return
        lease = await self.bench.lease(request.ref.name, str(request.ref.version), timeout_s=seconds)
        self.leases.append(Open(lease))
        self.never_backwards(request, lease.key)

    def never_backwards(self, request: Request, key: ModelKey) -> None:
        if request.ref not in self.given:
            super().never_backwards(request, key)
            return
        assert key.name == request.ref.name
        assert key.version in self.given[request.ref], f"{request.ref} was answered by {key}"

    # What holds at every await point

    def after_step(self) -> None:
        super().after_step()
        memory, models = self.bench.memory, self.bench.manager.catalog.snapshot.models
        means = dict(self.serving())
        for ref in self.given:
            before, now = self.meant.get(ref), means.get(ref)
            if before == now:
                continue
            model = models.get(ref.name)
            target = model.target(str(ref.version)) if model is not None else None
            if now is not None:
                assert memory.entry(now) is not None, f"{ref} means {now}, which is not loaded"
                assert now.version in self.given[ref], f"{ref} means {now}, which it was never given"
            if before is not None and memory.entry(before) is not None:
                assert target == (None if now is None else now.version), (
                    f"{ref} went from {before}, which is loaded, to {now}; the file says {target}"
                )
            if now is not None:
                self.last[ref] = now
        self.meant = means
        for ref, key in [*self.last.items()]:
            model = models.get(ref.name)
            if model is None or model.target(str(ref.version)) is None or model.version(key.version) is None:
                del self.last[ref]

    def serving(self) -> Iterator[tuple[ModelRef, ModelKey]]:
        for ref in self.given:
            key = self.bench.memory.serving(ref)
            if key is not None:
                yield ref, key

    # Calm

    async def calm(self) -> None:
        self.store.read_fault = None
        await super().calm()

    async def answers_as_the_store_has_it(self, name: str) -> None:
        await super().answers_as_the_store_has_it(name)
        for label in LABELS:
            await self.label_answers(ModelRef(name, label))

    async def label_answers(self, ref: ModelRef) -> None:
        expected = [self.answer(key) for key in self.expected(ref)]
        await self.outcome(ref)  # the one before may answer once more
        await self.settled()
        for _ in range(2):
            outcome = await self.outcome(ref)
            assert outcome in expected, ref
            await self.settled()

    def answer(self, key: ModelKey | None) -> str:
        return "not found" if key is None else f"{key}|{self.store.contents[self.store.current[key]]}"

    def expected(self, ref: ModelRef) -> list[ModelKey | None]:
        """What a label may mean once all is calm: its version; else the one that it meant before, if there is that."""
        number = self.written[ref.name].get(str(ref.version))
        if number is None:
            return [None]
        given, current = ModelKey(ref.name, number), self.store.current
        if given in current:
            return [given]
        last = self.last.get(ref)
        if last is not None:
            return [last if last != given and last in current else None]
        older = self.before_the_end.get(ref)
        return [None, older] if older is not None and older != given and older in current else [None]

    def nothing_is_left(self) -> None:
        super().nothing_is_left()
        known = {ModelRef(name, label) for name, said in self.written.items() for label in said}
        memory, moves = self.bench.memory, self.bench.manager.rollover.labels
        held = {
            ModelRef(name, label): key for name, of in memory._labelled.items() for label, key in of.items()
        }
        assert held.keys() <= known
        assert None not in held.values(), "nothing is being loaded any more"
        assert {ModelRef(name, label) for name, meant in moves._meant.items() for label in meant} <= known
        for name in NAMES:
            model = self.bench.manager.catalog.snapshot.models.get(name)
            if model is not None:
                said = dict(model.labels.targets) if model.labels is not None else {}
                assert said == self.written[name]

    def outdated(self) -> set[str]:
        behind = {
            ref.name
            for ref, key in self.serving()
            if key.version != (given := self.written[ref.name][str(ref.version)])
            and ModelKey(ref.name, given) in self.store.current
        }
        return super().outdated() | behind


pytestmark = pytest.mark.slow

TestLabelsMachine = LabelsMachine.TestCase
TestLabelsMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
