"""The division of the wanted workers among hosts and supervisors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.ledger.processes import Offer, Process
from rlm.processes.sharing import divide, shares

CAPACITIES = st.dictionaries(st.text("abc~", min_size=1, max_size=3), st.integers(0, 40), max_size=8)


def supervisor(name, host=None, offer=None):
    return Process(id=name, pid=1, host=host or name, started_at=0.0, offer=offer)


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


@given(wanted=st.integers(0, 100), each=st.integers(1, 30), hosts=st.integers(1, 6))
def test_hosts_alike_get_alike_and_a_remainder_goes_by_name(wanted, each, hosts):
    """The first by name get one more."""
    found = shares(wanted, dict.fromkeys("abcdef"[:hosts], each))

    given_out = [found[name] for name in sorted(found)]
    assert given_out == sorted(given_out, reverse=True)
    assert max(given_out) - min(given_out) <= 1


@given(wanted=st.integers(0, 200), capacities=CAPACITIES.filter(len), data=st.data())
def test_nobody_gives_up_a_worker_because_another_goes(wanted, capacities, data):
    """So those who have seen it go and those who have not are never more than are wanted, together."""
    gone = data.draw(st.sampled_from(sorted(capacities)))
    before = shares(wanted, capacities)
    after = shares(wanted, {name: capacity for name, capacity in capacities.items() if name != gone})

    assert all(after[name] >= before[name] for name in after)
    assert sum(after[name] - before[name] for name in after) <= before[gone]


@given(wanted=st.integers(0, 200), capacities=CAPACITIES)
def test_one_more_wanted_moves_nobody(wanted, capacities):
    """It is added to one host."""
    fewer, more = shares(wanted, capacities), shares(wanted + 1, capacities)

    assert sorted(more[name] - fewer[name] for name in more)[:-1] == [0] * max(0, len(more) - 1)


def test_a_host_with_less_room_takes_what_it_can_and_the_others_the_rest():
    """The total is what the largest says, not what the smallest can."""
    offers = {"a": Offer(20, 0, 20), "b": Offer(20, 0, 20), "c": Offer(2, 0, 2)}
    found = divide(20, [supervisor(name, offer=offer) for name, offer in offers.items()])

    assert found == {"a": 10, "b": 9, "c": 1}
