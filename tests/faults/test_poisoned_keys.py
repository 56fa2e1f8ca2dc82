"""Keys of a running system are poisoned: nothing dies, all else continues, doctor names the key, all recovers."""

from __future__ import annotations

import pytest

from tests.faults.sweep import sweep
from tests.leftbehind import nothing_left_behind

pytestmark = pytest.mark.rest

#: The worst of each kind: a total stop that nobody told of, and the end of the scheduler.
WORST = {"current-ghost", "types-undecodable"}


def assert_survived(outcomes):
    assert outcomes
    assert [one for one in outcomes if not one.ok] == []


def test_the_worst_poisons_cost_what_they_hit_alone(tmp_path):
    """A run without a hash, a name that is no text; the events of all types are delivered."""
    with nothing_left_behind(tmp_path):
        assert_survived(list(sweep(tmp_path, wanted=lambda one: one.name in WORST)))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("during", [False, True], ids=["between runs", "in a run"])
def test_every_poison_costs_what_it_hits_alone(tmp_path, during):
    """Each key family in each way, one after the other, on systems that go on with the next."""
    with nothing_left_behind(tmp_path):
        assert_survived(list(sweep(tmp_path, during=during)))
