"""claim_event: of all who hold a message of an event, one may send it, while the run is running and time is left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm.core.endpoint import ANSWER_SLACK_SECONDS
from rlm.core.expected import Expected
from rlm.core.run import State
from rlm.ledger.claims import Completion
from rlm.ledger.events import HOLD_SECONDS, POISON_DEATHS, Claim, ClaimCheck, Unclaimed
from tests.store import looks, steps

STALE = Unclaimed("stale")
ALONE = Unclaimed("alone")
WAITS = Unclaimed("waits")


@pytest.fixture
def run(running):
    return running(1)


@pytest.fixture
def released(store, token, run):
    (released,) = steps.release(store, token, run)
    return released


def test_a_claim_has_all_that_is_needed_to_send(store, token, run, released):
    """Also how the event fared so far, which is not at all."""
    store.publish_limits(token)

    claim = steps.claim(store, released, endpoints=[steps.ENDPOINT, "no such endpoint"])

    assert claim == Claim(
        release=released,
        worker_id="worker-1",
        remaining_seconds=claim.remaining_seconds,
        wallet_name="wallet of i1",
        item=steps.items(1, steps.TYPE)[0],
        endpoint=steps.ENDPOINT,
        attempt=0,
        tries=0,
        runs=0,
        last_endpoint="",
        limits={steps.ENDPOINT: "30/minute"},
    )
    assert 50 < claim.remaining_seconds <= 60


def test_a_claimed_event_is_in_flight(store, released):
    """Its worker and the end of its lease are known; it has no slot and no call yet."""
    before = looks.redis_us(store)

    steps.claim(store, released, lease_seconds=12)

    assert looks.where(store, released.event_id) == ["inflight"]
    assert looks.event(store, released.event_id)["owner"] == "worker-1"
    assert looks.calls(store, "worker-1") == {released.event_id: ""}
    lease = -store.client.zscore(store.keys.inflight(steps.TYPE), released.event_id)
    assert before + 12_000_000 <= lease <= looks.redis_us(store) + 12_000_000
    assert looks.counts(store).boarding == 1


def test_a_worker_claims_for_each_of_its_lanes(store, token, running):
    """Events of one worker are claimed one by one."""
    run = running(5)

    claims = [steps.claim(store, one) for one in steps.release(store, token, run, 5)]

    assert [claim.event_id for claim in claims] == steps.event_ids(5)
    assert set(looks.calls(store, "worker-1")) == set(steps.event_ids(5))
    assert looks.counts(store).inflight == 5


@pytest.mark.parametrize("worker", ["worker-1", "worker-2"])
def test_a_repeated_claim_is_stale(store, released, worker):
    """Whether the message came twice to one worker or to two, the first claim stands."""
    steps.claim(store, released)

    with looks.nothing_changes(store):
        assert steps.try_claim(store, released, worker) == STALE


@pytest.mark.parametrize("number", [0, 1, 3])
def test_another_release_number_is_stale(store, token, run, released, number):
    """A message that was delayed until its event was released again is worth nothing."""
    steps.claim(store, released)
    store.recovery.orphan_worker("worker-1")
    (again,) = steps.release(store, token, run)
    assert again.number == 2

    with looks.nothing_changes(store):
        assert steps.try_claim(store, ClaimCheck(released.event_id, run.id, number)) == STALE


def test_an_event_that_is_pending_again_is_stale(store, token, run):
    """A release that was void before its message came is no longer claimed."""
    (released,) = steps.release(store, token, run, claim_seconds=0)
    store.recovery.void_unclaimed([steps.TYPE], looks.redis_us(store))

    with looks.nothing_changes(store):
        assert steps.try_claim(store, released) == STALE


def test_a_release_whose_time_is_over_is_claimed_while_it_stands(store, token, run):
    """Better late than released again."""
    (released,) = steps.release(store, token, run, claim_seconds=0)

    assert isinstance(steps.try_claim(store, released), Claim)


def test_a_settled_event_is_stale(store, released):
    """An event is not sent again for an old message of it."""
    store.ledger.complete(Completion(steps.claim(store, released), steps.ENDPOINT, 0.1))

    with looks.nothing_changes(store):
        assert steps.try_claim(store, released) == STALE


def test_an_event_never_heard_of_is_stale(store, run):
    """A message may survive a ledger that was lost; nothing is created for it."""
    with looks.nothing_changes(store):
        assert steps.try_claim(store, ClaimCheck(f"never:{steps.TYPE}", run.id, 1)) == STALE


def test_another_run_is_stale(store, released):
    """A message belongs to the run that sent it."""
    with looks.nothing_changes(store):
        assert steps.try_claim(store, ClaimCheck(released.event_id, "another", released.number)) == STALE


@pytest.mark.parametrize("state", [State.DRAINING, State.PLANNING, State.FINISHING])
def test_a_run_that_is_not_running_is_stale(store, token, run, released, state):
    """From the moment it is finishing nothing is claimed."""
    steps.put_into(store, run, state)

    with looks.nothing_changes(store):
        assert steps.try_claim(store, released) == STALE


def test_a_cancelled_run_is_stale(store, run, released):
    """Though it is still running, until its conductor sees the mark."""
    store.runs.cancel(run.id)

    with looks.nothing_changes(store):
        assert steps.try_claim(store, released) == STALE


def test_a_worker_of_another_revision_claims_nothing(store, released):
    """It learns that it must be replaced; the event stays for one that is up to date."""
    with looks.nothing_changes(store):
        assert steps.try_claim(store, released, revision="older") == Unclaimed("revision")

    assert isinstance(steps.try_claim(store, released), Claim)


def test_an_event_that_no_longer_fits_is_pending_again(store, run, released):
    """No call begins that is expected to end after the deadline; the event keeps its place in the order."""
    assert steps.try_claim(store, released, expected_seconds=61) == Unclaimed("late")

    assert looks.where(store, released.event_id) == ["pending"]
    score = looks.event(store, released.event_id)["score"]
    assert store.client.zscore(store.keys.pending(steps.TYPE), released.event_id) == int(score)
    assert looks.calls(store, "worker-1") == {}


def test_what_is_published_of_its_calls_comes_with_a_claim(store, token, released):
    """For the type's own calls to the endpoints asked for; where nothing is published the worker's file holds."""
    told = Expected(2.5, 3.25)
    other = {(steps.OTHER_TYPE, steps.OVERFLOW): told, (steps.TYPE, "another"): told}
    store.measures.publish(token, {(steps.TYPE, steps.ENDPOINT): replace(told, error_rate=0.1), **other})

    claim = steps.claim(store, released, endpoints=[steps.OVERFLOW, steps.ENDPOINT])

    assert claim.expected == {(steps.TYPE, steps.ENDPOINT): told}


@pytest.mark.parametrize(
    ("published", "configured", "fits"),
    [
        ({}, 59, True),
        ({}, 61, False),
        ({}, 59.999, False),
        ({steps.ENDPOINT: 61}, 1, True),
        ({steps.ENDPOINT: 61, steps.OVERFLOW: 62}, 1, False),
        ({steps.ENDPOINT: 61, steps.OVERFLOW: 1}, 100, True),
        ({steps.ENDPOINT: 1}, 100, True),
        ({steps.ENDPOINT: 59.999}, 100, False),
    ],
)
def test_it_fits_where_the_fastest_of_its_endpoints_answers_in_time(
    store, token, released, published, configured, fits
):
    """As measured, where that is published, else as configured; and a moment for its way."""
    expected = {(steps.TYPE, endpoint): Expected(0.5, seconds) for endpoint, seconds in published.items()}
    store.measures.publish(token, expected)

    claim = steps.try_claim(
        store, released, expected_seconds=configured, endpoints=[steps.ENDPOINT, steps.OVERFLOW], budgets=["account"]
    )

    assert isinstance(claim, Claim) if fits else claim == Unclaimed("late")


def test_an_answer_needs_a_moment_more_than_its_call(store, released):
    """What would be answered at the very deadline is too late to be settled."""
    claim = steps.try_claim(store, released, expected_seconds=60 - ANSWER_SLACK_SECONDS / 2)

    assert claim == Unclaimed("late")


def test_after_the_deadline_nothing_fits(store, token, running):
    """Not even what takes no time at all."""
    run = running(1, window_seconds=-0.001)
    (released,) = steps.release(store, token, run)

    assert steps.try_claim(store, released) == Unclaimed("late")


def test_how_an_event_fared_goes_with_it(store, token, run, released):
    """Attempts count over all runs, tries within the run, and the last endpoint is known."""
    store.ledger.retry(steps.claim(store, released), steps.OVERFLOW, 0)
    store.recovery.promote([steps.TYPE], looks.redis_us(store))

    claim = steps.claim_next(store, token, run)

    assert (claim.attempt, claim.tries, claim.runs, claim.last_endpoint) == (1, 1, 0, steps.OVERFLOW)


def test_in_the_next_run_the_tries_start_anew(store, token, run, released):
    """An event that spent its attempts in one run has all of them in the next."""
    store.ledger.spend(steps.claim(store, released), steps.ENDPOINT)
    steps.finish(store, token, run)
    store.runs.return_unsettled(run.id, [steps.TYPE])
    store.runs.close(run.id, {}, [steps.TYPE], wanted=0)

    claim = steps.claim_next(store, token, steps.start_run(store, token))

    assert (claim.attempt, claim.tries, claim.runs) == (1, 0, 1)


def test_a_limit_set_by_hand_reaches_the_next_claim(store, released):
    """Limits in force are read with each claim, from Redis."""
    store.client.hset(store.keys.limits, mapping={steps.ENDPOINT: "1/hour", "other": "5/minute"})

    claim = steps.claim(store, released, endpoints=[steps.OVERFLOW, steps.ENDPOINT])

    assert claim.limits == {steps.ENDPOINT: "1/hour"}


def test_the_limits_of_budgets_come_with_it(store, released):
    """Budgets share the name space of the endpoints."""
    store.client.hset(store.keys.limits, mapping={steps.ENDPOINT: "1/hour", "account": "2/hour", "other": "3/hour"})

    claim = steps.claim(store, released, endpoints=[steps.ENDPOINT], budgets=["account", "unknown"])

    assert claim.limits == {steps.ENDPOINT: "1/hour", "account": "2/hour"}
    assert claim.expected == {}


def test_of_twenty_who_hold_the_message_one_claims_it(store, released):
    """The others learn that it is stale, and only one call is noted anywhere."""
    workers = [f"worker-{number}" for number in range(20)]

    claims = steps.at_once(*[lambda worker=worker: steps.try_claim(store, released, worker) for worker in workers])

    (winner,) = [claim for claim in claims if isinstance(claim, Claim)]
    assert claims.count(STALE) == 19
    assert looks.event(store, released.event_id)["owner"] == winner.worker_id
    assert [worker for worker in workers if looks.calls(store, worker)] == [winner.worker_id]
    assert looks.counts(store).unsettled == looks.counts(store).inflight == 1


@pytest.mark.parametrize("_", range(5))
def test_a_claim_against_the_end_of_its_time(store, token, run, _):
    """A release that becomes void while it is claimed is one or the other."""
    (released,) = steps.release(store, token, run, claim_seconds=0)
    now_us = looks.redis_us(store)

    voided, claim = steps.at_once(
        lambda: store.recovery.void_unclaimed([steps.TYPE], now_us), lambda: steps.try_claim(store, released)
    )

    assert looks.where(store, released.event_id) == (["pending"] if voided else ["inflight"])
    assert isinstance(claim, Claim) == (not voided)


def suspected(store, token, running, number=2, suspects=1):
    """Have events pending, the first of which two workers died of; return the releases of all."""
    run = running(number)
    for death in range(POISON_DEATHS - 1):
        for released in steps.release(store, token, run, suspects):
            steps.claim(store, released, f"dead-{death}")
        assert store.recovery.orphan_worker(f"dead-{death}") == suspects
    return steps.release(store, token, run, number)


def test_an_event_one_death_short_of_poison_is_carried_alone(store, token, running):
    """While a worker has it that worker gets no other, which is pending again at once; another worker gets it."""
    suspect, mate = suspected(store, token, running)

    steps.claim(store, suspect, "worker-1")

    assert steps.try_claim(store, mate, "worker-1") == ALONE
    assert looks.where(store, mate.event_id) == ["pending"]
    score = looks.event(store, mate.event_id)["score"]
    assert store.client.zscore(store.keys.pending(steps.TYPE), mate.event_id) == int(score)
    assert set(looks.calls(store, "worker-1")) == {suspect.event_id}
    (again,) = steps.release(store, token, store.runs.current())
    assert steps.claim(store, again, "worker-2").event_id == mate.event_id


def test_a_worker_that_has_another_is_kept_free_for_it(store, token, running):
    """It waits, released, and the worker gets no other until its hands are empty; then it is carried."""
    suspect, mate, third = suspected(store, token, running, 3)
    before = looks.redis_us(store)
    claim = steps.claim(store, mate, "worker-1")

    assert steps.try_claim(store, suspect, "worker-1") == WAITS
    assert steps.try_claim(store, third, "worker-1") == ALONE

    assert looks.where(store, suspect.event_id) == ["released"]
    assert store.client.zscore(store.keys.released(steps.TYPE), suspect.event_id) >= before + 1_000_000
    assert looks.where(store, third.event_id) == ["pending"]
    store.ledger.complete(Completion(claim, steps.ENDPOINT, 0.1))
    assert steps.claim(store, suspect, "worker-1")


def test_another_worker_may_have_it_meanwhile(store, token, running):
    """One with empty hands, should its message come there."""
    suspect, mate = suspected(store, token, running)
    steps.claim(store, mate, "worker-1")
    assert steps.try_claim(store, suspect, "worker-1") == WAITS

    assert steps.claim(store, suspect, "worker-2")


def test_a_worker_is_not_kept_free_for_ever(store, token, running):
    """When what waited for it does not ask again, others are claimed after a second."""
    suspect, mate, third = suspected(store, token, running, 3)
    steps.claim(store, mate, "worker-1")
    assert steps.try_claim(store, suspect, "worker-1") == WAITS
    assert 0 < store.client.pttl(store.keys.alone("worker-1")) <= 1000 * HOLD_SECONDS

    store.client.delete(store.keys.alone("worker-1"))  # as if it had expired

    assert steps.claim(store, third, "worker-1")


def test_what_a_worker_is_said_to_have_for_longer_than_a_call_lasts_does_not_hold_it_up(store, token, running):
    """An entry that nobody takes back is no reason never to send it; others wait for it as ever."""
    suspect, mate = suspected(store, token, running)
    store.client.hset(store.keys.calls("worker-1"), "stale:T", "")
    assert steps.try_claim(store, suspect, "worker-1") == WAITS

    assert steps.claim(store, suspect, "worker-1", patient=False)

    assert steps.try_claim(store, mate, "worker-1") == ALONE


def test_a_second_one_does_not_wait_for_the_first(store, token, running):
    """A worker that carries one alone sends the next back, patient or not: another worker may be free sooner."""
    first, second = suspected(store, token, running, suspects=2)
    steps.claim(store, first, "worker-1")

    assert steps.try_claim(store, second, "worker-1", patient=False) == ALONE

    assert looks.where(store, second.event_id) == ["pending"]
    assert store.client.get(store.keys.alone("worker-1")).decode() == first.event_id


def test_it_does_not_wait_past_the_time_that_its_call_needs(store, token, running):
    """Then it is pending again, and the worker is not kept free."""
    suspect, mate = suspected(store, token, running)
    steps.claim(store, mate, "worker-1")

    assert steps.try_claim(store, suspect, "worker-1", expected_seconds=61) == Unclaimed("late")

    assert looks.where(store, suspect.event_id) == ["pending"]
    assert not store.client.exists(store.keys.alone("worker-1"))


@pytest.mark.parametrize("settle", ["complete", "give_back", "orphan"])
def test_once_it_is_settled_the_worker_gets_others(store, token, running, settle):
    """However it ended."""
    suspect, mate = suspected(store, token, running)
    claim = steps.claim(store, suspect, "worker-1")
    if settle == "complete":
        store.ledger.complete(Completion(claim, steps.ENDPOINT, 0.1))
    elif settle == "give_back":
        store.ledger.give_back(claim)
    else:
        store.recovery.orphan_worker("worker-1")

    assert steps.claim(store, mate, "worker-1")
