"""The division of the wanted workers among hosts and supervisors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.processes.sharing import shares

CAPACITIES = st.dictionaries(st.text("abc~", min_size=1, max_size=3), st.integers(0, 40), max_size=8)


@given(wanted=st.integers(0, 200), capacities=CAPACITIES)
def test_all_that_are_wanted_run_and_nobody_runs_more_than_it_can(wanted, capacities):
    """As many as are wanted, or as all can take."""
    found = shares(wanted, capacities)

    assert sum(found.values()) == min(wanted, sum(capacities.values()))
    assert all(0 <= found[name] <= capacity for name, capacity in capacities.items())
    assert set(found) == set(capacities)


@given(wanted=st.integers(0, 200), capacities=CAPACITIES.filter(len))
def test_a_share_is_in_proportion_to_the_capacity(wanted, capacities):
    """Two hosts are never apart by more than a worker of either: none is passed over for one that has more."""
    found = shares(wanted, capacities)

    able = {name: capacity for name, capacity in capacities.items() if capacity}
    for one, capacity in able.items():
        for other, theirs in able.items():
            assert (2 * found[one] - 1) / capacity <= (2 * found[other] + 1) / theirs


@given(wanted=st.integers(0, 200), capacities=CAPACITIES)
def test_one_more_wanted_moves_nobody(wanted, capacities):
    """It is added to one host."""
    fewer, more = shares(wanted, capacities), shares(wanted + 1, capacities)

    assert sorted(more[name] - fewer[name] for name in more)[:-1] == [0] * max(0, len(more) - 1)
