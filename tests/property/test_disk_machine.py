"""The disk tier on a real directory against a plain model: capacity, holds, order of victims, restarts."""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from diskkit import Opened, bytes_of_files, content, fp, in_objects, in_staging, key, write_files
from hotset.events import Cause
from hotset.tiers.ledger import Capacity
from hotset.tiers.stage import Stage

T = TypeVar("T")
numbers = st.integers(0, 4)
causes = st.sampled_from([Cause.DELETED, Cause.SUPERSEDED, Cause.EXPLICIT])


def size_of(number: int) -> int:
    return number % 4 * 2


@dataclass
class Staged:
    number: int
    context: AbstractAsyncContextManager[Stage]
    stage: Stage


class Model:
    """What should be on disk: for each number its place in the order, its holds, and whether it is to go."""

    def __init__(self, places: int, bytes_: int) -> None:
        self.places, self.bytes = places, bytes_
        self.order: dict[int, tuple[float, int]] = {}
        self.holds: dict[int, int] = {}
        self.doomed: set[int] = set()
        self.staged: list[int] = []
        self._uses = 0

    def use(self, number: int, used_s: float) -> None:
        self._uses += 1
        self.order[number] = (used_s, self._uses)

    def over(self, inside: list[int]) -> tuple[bool, bool]:
        total = [*inside, *self.staged]
        return len(total) > self.places, sum(map(size_of, total)) > self.bytes

    def victims_for(self, number: int) -> list[int] | None:
        """Who has to go, the least recently used first, itself last; None if there is no room even then."""
        inside = [*self.order, number]
        victims = []
        for other in sorted(self.order, key=lambda it: (it == number, self.order[it])):
            too_many, too_large = self.over(inside)
            if not self.holds.get(other) and (too_many or (too_large and size_of(other))):
                victims.append(other)
                inside.remove(other)
        return None if any(self.over(inside)) else victims

    def remove(self, number: int) -> None:
        del self.order[number]
        self.doomed.discard(number)


class DiskMachine(RuleBasedStateMachine):
    @initialize(
        places=st.integers(1, 5), bytes_=st.integers(6, 20), first=st.lists(numbers, min_size=2, unique=True)
    )
    def start(self, places: int, bytes_: int, first: list[int]) -> None:
        self.loop = asyncio.new_event_loop()
        self.path = Path(tempfile.mkdtemp())
        self.model = Model(places, bytes_)
        self.staged: list[Staged] = []
        self.now_s = 0.0
        self.reopen()
        self.put(first)

    def reopen(self) -> None:
        capacity = Capacity(self.model.places, self.model.bytes)
        self.opened = Opened(self.path, capacity)
        self.opened.clock.now_s = self.now_s
        self.tier = self.opened.tier
        self.loop.run_until_complete(self.tier.recover())

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.end()
            self.loop.close()
            shutil.rmtree(self.path)

    def end(self) -> None:
        for staged in list(self.staged):
            self.leave(staged)
        self.loop.run_until_complete(self.tier.close())

    def on_loop(self, call: Callable[[], T]) -> T:
        async def calls() -> T:
            return call()

        return self.loop.run_until_complete(calls())

    def leave(self, staged: Staged) -> None:
        self.staged.remove(staged)
        self.model.staged.remove(staged.number)
        self.loop.run_until_complete(staged.context.__aexit__(None, None, None))

    @rule(seconds=st.sampled_from([0.0, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.opened.clock.now_s = self.now_s

    # Coming

    @rule(number=numbers)
    def stage(self, number: int) -> None:
        if size_of(number) > self.model.bytes:
            return
        victims = self.model.victims_for(number)
        self.opened.evicted.clear()
        if victims is None:
            self.loop.run_until_complete(self.waits_in_vain(number))
            assert self.opened.evicted == []
            return
        self.loop.run_until_complete(self.stage_files(number))
        for victim in victims:
            self.model.remove(victim)
        self.model.staged.append(number)
        self.loop.run_until_complete(self.tier.settled())  # room may be there before the last victim is gone
        assert {fingerprint for fingerprint, _ in self.opened.evicted} == {fp(victim) for victim in victims}

    async def waits_in_vain(self, number: int) -> None:
        waiting = asyncio.create_task(self.stage_files(number))
        for _ in range(3):
            await self.tier.settled()
            await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting

    async def stage_files(self, number: int) -> None:
        context = self.tier.stage(fp(number), key=key(number), bytes=size_of(number))
        stage = await context.__aenter__()
        files = content(number, size_of(number))
        write_files(stage, files)
        self.staged.append(Staged(number, context, stage))

    @rule(several=st.lists(numbers, min_size=1, max_size=5))
    def put_several(self, several: list[int]) -> None:
        self.put(several)

    def put(self, several: list[int]) -> None:
        for number in several:
            before = len(self.staged)
            self.stage(number)
            if len(self.staged) > before:
                self.publish_staged(self.staged[-1])

    @precondition(lambda self: self.staged)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        self.publish_staged(data.draw(st.sampled_from(self.staged)))

    def publish_staged(self, staged: Staged) -> None:
        files = content(staged.number, size_of(staged.number))
        sizes = {name: len(data) for name, data in files.items()}
        self.loop.run_until_complete(staged.stage.publish(sizes))
        self.leave(staged)
        if staged.number not in self.model.order:
            self.model.use(staged.number, self.now_s)

    @precondition(lambda self: self.staged)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.staged)))

    # Using

    def pick(self, data: st.DataObject) -> int:
        """Rather one that is on disk."""
        return data.draw(st.sampled_from([*sorted(self.model.order), *range(5)]))

    @precondition(lambda self: sum(self.model.holds.values()) < 4)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        number = self.pick(data)
        self.tier.hold(fp(number))
        self.model.holds[number] = self.model.holds.get(number, 0) + 1
        self.model.doomed.discard(number)

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.holds)))
        self.on_loop(lambda: self.tier.release(fp(number)))
        self.model.holds[number] -= 1
        if not self.model.holds[number]:
            del self.model.holds[number]
            if number in self.model.doomed:
                self.model.remove(number)

    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        number = self.pick(data)
        self.tier.touch(fp(number), self.now_s)
        if number in self.model.order:
            self.model.use(number, self.now_s)

    @rule(data=st.data())
    def demote(self, data: st.DataObject) -> None:
        number = self.pick(data)
        self.tier.demote(fp(number))
        if number in self.model.order:
            self.model.use(number, -math.inf)

    # Going

    @rule(data=st.data(), cause=causes)
    def evict(self, data: st.DataObject, cause: Cause) -> None:
        number = self.pick(data)
        was_there = self.on_loop(lambda: self.tier.evict(fp(number), cause))
        assert was_there == (number in self.model.order)
        if number in self.model.order:
            if self.model.holds.get(number):
                self.model.doomed.add(number)
            else:
                self.model.remove(number)

    @rule(bytes_=st.integers(0, 5))
    def make_room(self, bytes_: int) -> None:
        expected = 0
        for number in sorted(self.model.order, key=self.model.order.__getitem__):
            if expected < bytes_ and size_of(number) and not self.model.holds.get(number):
                expected += size_of(number)
                self.model.remove(number)
        assert self.loop.run_until_complete(self.tier.make_room(bytes_)) == expected

    @rule()
    def check(self) -> None:
        report = self.loop.run_until_complete(self.tier.check(fix=True))
        assert report.is_clean

    # Dying

    @rule()
    def restart(self) -> None:
        self.end()
        self.forget_holds()
        self.reopen()

    @rule()
    def crash(self) -> None:
        """What a dying process leaves: stages half done, no save. The order is that of the files, at worst."""
        self.loop.run_until_complete(self.tier.settled())
        copy = Path(tempfile.mkdtemp())
        shutil.copytree(self.path, copy, dirs_exist_ok=True)
        self.end()
        shutil.rmtree(self.path)
        self.path = copy
        self.forget_holds()
        self.reopen()
        by_fingerprint = {fp(number): number for number in self.model.order}
        found = [by_fingerprint[record.fingerprint] for record in self.tier.records()]
        assert sorted(found) == sorted(self.model.order)
        for number in found:
            used_s = self.tier._recency.last_used_s(fp(number))
            assert used_s is not None
            self.model.use(number, used_s)

    def forget_holds(self) -> None:
        self.model.holds.clear()
        self.model.doomed.clear()

    # Always

    @invariant()
    def the_directory_is_what_the_model_says(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.loop.run_until_complete(self.tier.settled())
        self.tier.check_invariants()
        assert in_objects(self.path) == {fp(number) for number in self.model.order}
        assert in_staging(self.path) == {staged.stage.root.name for staged in self.staged}
        held = sum(map(size_of, (*self.model.order, *self.model.staged)))
        assert self.tier.usage == (len(self.model.order) + len(self.staged), held, ())
        assert bytes_of_files(self.path) == held <= self.model.bytes
        order = sorted(self.model.order, key=self.model.order.__getitem__)
        assert [record.fingerprint for record in self.tier.records()] == [fp(number) for number in order]


DiskMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestDisk = pytest.mark.slow(DiskMachine.TestCase)
