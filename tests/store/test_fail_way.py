"""fail_way: whose fault a call without an answer is; a way that is shut, probed, and a host that is cut off."""

from __future__ import annotations

import pytest

from rlm.ledger.processes import Process, Role
from rlm.ledger.ways import CUT_OFF_WAYS, FAILING, FIRST_SHUT_SECONDS, LONGEST_SHUT_SECONDS, RECENT_SECONDS
from tests.store.ways import A, B, fail, pass_time, shut
from tests.store.windows import make_endpoint

ONE, TWO, THREE = (make_endpoint(name=name) for name in ("one", "two", "three"))


def test_with_one_host_alone_it_is_the_endpoint_s(store):
    """There is nobody to compare with, so all stays as it is: nothing is shut."""
    for _ in range(2 * FAILING):
        assert not fail(store, ONE).of_host

    assert shut(store) == []


def test_what_fails_for_one_and_is_answered_to_another_is_the_host_s(store):
    """From the first failure on; its way is shut after a few in a row, and nobody else's."""
    store.ways.open(ONE, B)

    found = [fail(store, ONE) for _ in range(FAILING)]

    assert all(one.of_host for one in found)
    assert [one.shut_seconds for one in found] == [0.0] * (FAILING - 1) + [FIRST_SHUT_SECONDS]
    assert shut(store) == [ONE.window_id]
    assert shut(store, B) == []


def test_where_nobody_is_answered_any_more_it_is_the_endpoint_s(store):
    """The first to fail is not blamed for it when the other fails as well, nor is the other."""
    store.ways.open(ONE, A)
    store.ways.open(ONE, B)

    assert fail(store, ONE, A).of_host
    assert not fail(store, ONE, B).of_host
    assert not fail(store, ONE, A).of_host


def test_one_that_is_answered_again_counts_again(store):
    """Its failure was a whim."""
    store.ways.open(ONE, B)
    fail(store, ONE, B)
    assert not fail(store, ONE, A).of_host

    store.ways.open(ONE, B)

    assert fail(store, ONE, A).of_host


def test_an_answer_of_long_ago_shows_nothing(store):
    """The endpoint may have failed since."""
    store.ways.open(ONE, B)
    pass_time(store, RECENT_SECONDS + 1)

    assert not fail(store, ONE).of_host


def test_an_answer_of_the_host_itself_ends_its_streak(store):
    """Few of its calls fail, for whatever reason: its way is open."""
    store.ways.open(ONE, B)
    for _ in range(3):
        fail(store, ONE, times=FAILING - 1)
        pass_time(store, 0.1)
        store.ways.open(ONE, A)

    assert shut(store) == []


def test_a_host_that_cannot_call_is_shut_at_once(store):
    """No route, no descriptors: nobody needs to compare, and the endpoint has nothing to do with it."""
    found = fail(store, ONE, here=True)

    assert found.of_host
    assert found.shut_seconds == FIRST_SHUT_SECONDS


def test_one_call_that_heard_nothing_for_seconds_is_enough(store):
    """A host with few lanes would take too long to find out. Where nobody is answered it is no more than a failure."""
    assert not fail(store, ONE, silent=True).of_host
    store.ways.open(ONE, A)
    store.ways.open(ONE, B)

    assert fail(store, ONE, silent=True).shut_seconds == FIRST_SHUT_SECONDS


def test_calls_from_before_the_rest_do_not_prolong_it(store):
    """All that were under way fail at the same time."""
    store.ways.open(ONE, B)

    found = fail(store, ONE, times=20)

    assert found.of_host
    assert 0 < found.shut_seconds <= FIRST_SHUT_SECONDS


def test_each_failed_probe_doubles_the_rest(store):
    """Up to a bound: a host that is back is not kept out for long."""
    store.ways.open(ONE, B)
    rests = [fail(store, ONE, times=FAILING).shut_seconds]
    for _ in range(6):
        pass_time(store, rests[-1])
        store.ways.open(ONE, B)
        rests.append(fail(store, ONE).shut_seconds)

    assert rests == [1, 2, 4, 8, LONGEST_SHUT_SECONDS, LONGEST_SHUT_SECONDS, LONGEST_SHUT_SECONDS]


def test_a_host_to_which_nothing_gets_through_is_cut_off(store):
    """Once several ways are shut and no answer came from anywhere since; that is news once."""
    for endpoint in (ONE, TWO, THREE):
        store.ways.open(endpoint, A)
        store.ways.open(endpoint, B)
    pass_time(store, 1)

    assert fail(store, ONE, times=FAILING).state == ""
    found = fail(store, TWO, times=FAILING)

    assert (found.state, found.news) == ("cut", 1)
    (host,) = store.ways.look().values()
    assert (host.host, host.cut_off, len(host.shut)) == (A, True, CUT_OFF_WAYS)
    again = fail(store, THREE)
    assert (again.state, again.news) == ("cut", 0)
    assert again.shut_seconds == FIRST_SHUT_SECONDS  # one is enough by now


def test_a_host_that_something_gets_through_to_is_not(store):
    """Only some of its ways are in trouble, which is news once a probe has failed as well."""
    for host in (A, B):
        for endpoint in (ONE, TWO, THREE):
            store.ways.open(endpoint, host)
    pass_time(store, 1)
    fail(store, ONE, times=FAILING)
    pass_time(store, 0.1)
    store.ways.open(THREE, A)
    pass_time(store, 0.1)

    assert fail(store, TWO, times=FAILING).state == ""
    pass_time(store, FIRST_SHUT_SECONDS)
    found = fail(store, TWO)

    assert (found.state, found.news) == ("part", 1)
    assert not store.ways.look()[A].cut_off


def test_a_clock_that_was_set_back_shuts_nothing_for_long(store):
    """A rest that ends far ahead is over, and an answer from ahead shows nothing."""
    store.ways.open(ONE, B)
    fail(store, ONE, times=FAILING)
    pass_time(store, -7200)

    assert not fail(store, ONE).of_host


def test_a_way_is_open_again_once_every_host_that_there_is_fails_there(store):
    """Else its events would never be called, and never spend an attempt: it is the endpoint's trouble by then."""
    register(store, A, B)
    store.ways.open(ONE, B)
    fail(store, ONE, A, times=FAILING)
    assert shut(store) == [ONE.window_id]
    assert not fail(store, ONE, B).of_host
    pass_time(store, FIRST_SHUT_SECONDS)

    found = fail(store, ONE, A)

    assert (found.of_host, found.shut_seconds) == (False, 0.0)
    assert store.ways.look() == {}


def test_a_way_stays_shut_while_a_host_that_there_is_may_reach_it(store):
    """At the start of a run nobody has been answered lately, which says nothing of the endpoint."""
    register(store, A, B)
    store.ways.open(ONE, B)
    fail(store, ONE, A, times=FAILING)
    pass_time(store, RECENT_SECONDS + 1)

    assert not fail(store, ONE, A).of_host
    assert shut(store) == [ONE.window_id]


def test_the_way_of_a_host_that_is_left_alone_opens(store):
    """The others, which were answered, have gone; and it is cut off no more once too few of its ways are shut."""
    register(store, A)
    for endpoint in (ONE, TWO):
        store.ways.open(endpoint, B)
        fail(store, endpoint, A, times=FAILING)
    assert store.ways.look()[A].cut_off
    pass_time(store, RECENT_SECONDS + 1)

    fail(store, ONE, A)
    assert (shut(store), store.ways.look()[A].cut_off) == ([TWO.window_id], False)
    fail(store, TWO, A)

    assert store.ways.look() == {}


@pytest.mark.parametrize("other", ["lost", "idle"])
def test_a_host_that_makes_no_calls_keeps_no_way_shut(store, other):
    """It never fails; one that would start workers may reach the endpoint."""
    register(store, A)
    register(store, B, role=Role.SUPERVISOR)
    if other == "lost":
        store.client.delete(store.keys.process(Role.SUPERVISOR, f"{B}:1:1"))
    store.ways.open(ONE, B)
    fail(store, ONE, A, times=FAILING)
    pass_time(store, RECENT_SECONDS + 1)

    fail(store, ONE, A)

    assert shut(store) == ([ONE.window_id] if other == "idle" else [])


def register(store, *hosts, role=Role.WORKER):
    """Register a process of each host."""
    for host in hosts:
        store.processes.announce(role, Process(f"{host}:1:1", 1, host, 0.0))
