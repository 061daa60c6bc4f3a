"""What a hot request and a miss cost, in counts that do not depend on the machine: against the budget, and whatever the catalog."""

from __future__ import annotations

import pytest

from regression import budget
from regression.budget import LARGE, MISS, PYTHON, RENEW, SMALL, Measured, complaints, growth

FEW, MANY = 1_000, 100_000
DOORS = ("native", "oip")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("budget")]


@pytest.fixture(scope="module", name="found")
def _found() -> Measured:
    return budget.measure(FEW, MANY)


@pytest.mark.timeout(budget.LIMIT_S + 30)
class TestRequest:
    """A hot one, and one whose model has to be loaded. Measured once for all of these."""

    @pytest.mark.parametrize("door", [*DOORS, MISS])
    def test_costs_no_more_than_the_budget(self, found: Measured, door: str) -> None:
        recorded = budget.recorded().get(PYTHON)
        if recorded is None:
            pytest.skip(f"no counts are recorded for Python {PYTHON}; record them with: {RENEW}")
        now, modules = (
            (found.costs[MISS], found.modules[MISS])
            if door == MISS
            else (found.doors(FEW)[door], found.modules[str(FEW)][door])
        )
        wrong = list(complaints(door, now, recorded["costs"][door]))
        changed = growth(modules, recorded["modules"][door])
        assert not wrong, "\n".join(
            [*wrong, "Instructions by module, against the record:", *changed, f"If it is meant: {RENEW}"]
        )

    @pytest.mark.parametrize("door", DOORS)
    def test_costs_no_more_of_a_bare_application_than_it_did(self, found: Measured, door: str) -> None:
        wrong = list(complaints(door, found.doors(FEW)[door], budget.recorded()["to bare"][door]))
        assert not wrong, "\n".join([*wrong, f"If it is meant: {RENEW}"])

    @pytest.mark.parametrize("door", DOORS)
    def test_costs_the_same_whatever_the_number_of_models(self, found: Measured, door: str) -> None:
        few, many = found.doors(FEW)[door], found.doors(MANY)[door]
        assert {count: many[count] for count in SMALL} == {count: few[count] for count in SMALL}
        assert {count: many[count] for count in LARGE} == pytest.approx(
            {count: few[count] for count in LARGE}, rel=budget.TOLERANCE / 2
        )
