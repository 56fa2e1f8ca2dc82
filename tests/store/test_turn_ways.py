"""Turns on a host whose way to an endpoint is shut: its lanes leave those calls to others, with one probe at a time."""

from __future__ import annotations

import pytest
from msgspec import structs

from rlm.ledger.recovery import POISON_DEATHS
from rlm.ledger.ways import FAILING, FIRST_SHUT_SECONDS, RECENT_SECONDS
from tests.store import looks, steps
from tests.store.ways import A, B, fail, pass_time

pytestmark = pytest.mark.both_servers

HERE, THERE = f"{A}:1:1", f"{B}:1:1"


@pytest.fixture
def run(running):
    return running(4)


@pytest.fixture
def first(settings):
    return settings.endpoints[steps.ENDPOINT]


@pytest.fixture
def second(settings):
    return settings.endpoints[steps.OVERFLOW]


def shut(store, *endpoints, host=A):
    """Shut the ways of a host."""
    for endpoint in endpoints:
        store.ways.open(endpoint, B)
        fail(store, endpoint, host, times=FAILING)


def test_what_this_host_cannot_call_is_left_to_the_others(store, token, run, first):
    """In its order, and its event is the next one of whoever takes it."""
    shut(store, first)
    released = steps.release(store, token, run, 2)

    turn = steps.turn(store, run, HERE)

    assert (turn.claim, turn.why) == (None, "shut")
    assert store.turns.releases() == released
    assert steps.claim(store, run, THERE).event_id == steps.event_id(1)


def test_the_first_call_that_it_can_make_is_its_own(store, token, run, first):
    """Those before it stay where they are."""
    shut(store, first)
    kept = steps.release(store, token, run, 2)
    steps.release(store, token, run, 1, endpoint=steps.OVERFLOW)

    claim = steps.claim(store, run, HERE)

    assert claim.endpoint == steps.OVERFLOW
    assert not claim.suspect
    assert store.turns.releases() == kept


def test_what_it_has_completed_is_settled_all_the_same(store, token, run, first):
    """Also where no call is left that it could make."""
    claim = steps.claim_next(store, token, run, HERE)
    shut(store, first)
    steps.release(store, token, run)

    turn = steps.turn(store, run, HERE, completed=steps.completed(claim))

    assert (turn.settled, turn.why) == (True, "shut")
    assert looks.where(store, claim.event_id) == []


def test_after_the_rest_one_lane_is_to_connect_and_no_event_waits_for_that(store, token, run, first):
    """It may hang: the call stays for the others, in its order. Any other lane of the host leaves it to them."""
    shut(store, first)
    pass_time(store, FIRST_SHUT_SECONDS)
    released = steps.release(store, token, run, 2)

    turn = steps.turn(store, run, HERE, with_slot=True)

    assert (turn.claim, turn.why, turn.probe) == (None, "probe", first.name)
    assert store.turns.releases() == released
    assert steps.turn(store, run, HERE, lane=2).why == "shut"
    assert steps.claim(store, run, THERE).event_id == steps.event_id(1)


def test_who_has_connected_probes_with_one_call(store, token, run, first):
    """Any other waits for its answer; it is suspect, so that its answer is told."""
    shut(store, first)
    pass_time(store, FIRST_SHUT_SECONDS)
    steps.release(store, token, run, 2)
    steps.turn(store, run, HERE)

    probe = steps.claim(store, run, HERE, with_slot=True, reached=[first.name])

    assert (probe.suspect, bool(probe.stamp)) == (True, True)
    assert steps.turn(store, run, HERE, lane=2, reached=[first.name]).why == "shut"
    store.ways.open(first, A)
    assert not steps.claim(store, run, HERE, lane=2).suspect


def test_a_probe_that_could_not_connect_shuts_the_way_for_longer(store, token, run, first):
    """As a call that fails does."""
    shut(store, first)
    pass_time(store, FIRST_SHUT_SECONDS)
    steps.release(store, token, run)
    steps.turn(store, run, HERE)

    assert fail(store, first).shut_seconds == 2 * FIRST_SHUT_SECONDS
    assert steps.turn(store, run, HERE, reached=[first.name]).why == "shut"


def test_a_probe_that_is_never_told_of_is_followed_by_another(store, token, run, first):
    """Two seconds after it was to connect; after its time-out and two seconds if it was a call."""
    shut(store, first)
    pass_time(store, FIRST_SHUT_SECONDS)
    steps.release(store, token, run, 2)
    steps.turn(store, run, HERE)
    pass_time(store, 2)
    assert steps.turn(store, run, HERE, lane=2).probe == first.name
    steps.claim(store, run, HERE, lane=2, reached=[first.name])
    pass_time(store, 2)
    assert steps.turn(store, run, HERE).why == "shut"

    pass_time(store, first.timeout_seconds)

    assert steps.turn(store, run, HERE).probe == first.name


def test_an_event_to_be_carried_alone_probes_like_any_other(store, token, run, first):
    """The first that waits must not keep a way shut for good."""
    for death in range(POISON_DEATHS - 1):
        steps.claim_next(store, token, run, f"dead-{death}")
        store.recovery.orphan_worker(f"dead-{death}")
    shut(store, first)
    pass_time(store, FIRST_SHUT_SECONDS)
    steps.release(store, token, run)
    steps.turn(store, run, HERE)

    claim = steps.claim(store, run, HERE, reached=[first.name])

    assert (claim.alone, claim.suspect) == (True, True)


def test_a_few_failures_shut_nothing_and_make_it_suspect(store, token, run, first):
    """So that a good answer ends the streak."""
    store.ways.open(first, B)
    fail(store, first, times=FAILING - 1)

    assert steps.claim_next(store, token, run, HERE).suspect
    assert not steps.claim_next(store, token, run, THERE).suspect


def test_a_host_that_is_cut_off_tries_one_call_at_a_time(store, token, run, first, second, settings):
    """Wherever its way is due, or not known: it may reach one, and must not fail a call at each."""
    others = [one for one in settings.endpoints.values() if one.window_id not in {first.window_id, second.window_id}]
    shut(store, *others[:2])
    assert store.ways.look()[A].cut_off
    pass_time(store, FIRST_SHUT_SECONDS)
    for endpoint in (first, second):
        steps.release(store, token, run, 1, endpoint=endpoint.name)

    assert steps.turn(store, run, HERE).probe == first.name
    assert steps.turn(store, run, HERE, lane=2).why == "shut"
    tried = steps.claim(store, run, HERE, reached=[first.name])

    assert (tried.endpoint, tried.suspect) == (first.name, True)
    assert steps.turn(store, run, HERE, lane=2).why == "shut"
    pass_time(store, 2)
    assert steps.turn(store, run, HERE, lane=2).probe == second.name


def test_an_endpoint_that_failed_the_event_last_is_no_probe_of_its_way(store, token, run, first):
    """The event would go elsewhere, and nothing be learned."""
    claim = steps.claim_next(store, token, run, HERE)
    store.ledger.retry(claim, steps.ENDPOINT, 0)
    store.recovery.promote([steps.TYPE], looks.redis_us(store))
    shut(store, first)
    pass_time(store, FIRST_SHUT_SECONDS)
    steps.release(store, token, run)

    assert steps.turn(store, run, HERE).why == "shut"


def test_a_thousand_calls_that_it_cannot_make_are_not_all_looked_at(store, token, run, first):
    """No turn holds Redis up; others are to make them."""
    shut(store, first)
    released = steps.release(store, token, run, 1000)

    assert steps.turn(store, run, HERE).why == "shut"
    assert len(store.turns.releases()) == len(released)


def complete(store, token, run, endpoint, *, worker=HERE):
    """Let a worker claim the next event and complete it at an endpoint; return whether it was completed."""
    claim = steps.claim_next(store, token, run, worker=worker)
    return store.turns.complete(structs.replace(steps.completed(claim), window_id=endpoint.window_id))


def noted(store, endpoint):
    """Return when an endpoint's last answer to host A was recorded, and its last answer to any host."""
    return [store.client.zscore(key, A) for key in (store.keys.well(endpoint.window_id), store.keys.well_hosts)]


def test_an_event_that_is_completed_notes_that_the_endpoint_answers_its_host(store, token, run, first, second):
    """Else whoever fails to call it would not know whose trouble that is. Now and then is enough."""
    complete(store, token, run, first)
    at = noted(store, first)
    assert None not in at
    assert noted(store, second) == [None, at[1]]
    complete(store, token, run, first)
    assert noted(store, first) == at
    pass_time(store, RECENT_SECONDS / 10)

    complete(store, token, run, first)

    assert all(later > before for later, before in zip(noted(store, first), at, strict=True))


def test_it_is_noted_at_once_while_calls_fail(store, token, run, first, second):
    """Wherever: it is the last answer by which is told whether a host is cut off, and whether a streak goes on."""
    store.ways.open(first, B)
    complete(store, token, run, first)
    fail(store, first, times=FAILING - 1)
    fail(store, second, B)

    complete(store, token, run, first)

    assert fail(store, first).shut_seconds == 0


def test_a_claim_that_was_lost_notes_nothing(store, token, run, first):
    """A host that was frozen would tell what was true long ago."""
    claim = steps.claim_next(store, token, run, worker=HERE)
    store.ledger.give_back(claim)

    assert not store.turns.complete(structs.replace(steps.completed(claim), window_id=first.window_id))

    assert noted(store, first) == [None, None]


def test_what_cannot_be_noted_is_no_reason_not_to_settle(store, token, run, first):
    """The call was made, and its event is completed."""
    for key in (store.keys.well(first.window_id), store.keys.well_hosts):
        store.client.set(key, "no zset")

    assert complete(store, token, run, first)
