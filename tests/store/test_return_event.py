"""return_event: a claimed event goes back unsettled, to be sent now, after a back-off, or in the next run."""

from __future__ import annotations

import pytest

from tests.store import looks, losses, steps

#: The ways to give an event back.
WAYS = {
    "give_back": lambda store, claim: store.ledger.give_back(claim),
    "postpone": lambda store, claim: store.ledger.postpone(claim, 60),
    "throttle": lambda store, claim: store.ledger.throttle(claim, steps.ENDPOINT),
    "pass_on": lambda store, claim: store.ledger.pass_on(claim, steps.ENDPOINT),
    "retry": lambda store, claim: store.ledger.retry(claim, steps.ENDPOINT, 60),
    "spend": lambda store, claim: store.ledger.spend(claim, steps.ENDPOINT),
}
#: The counts after a call that failed for the moment.
ERROR = {
    f"taken:{steps.TYPE}": 2,
    f"errors:{steps.ENDPOINT}": 1,
    f"failing:{steps.TYPE} {steps.ENDPOINT}": 1,
}
every_way = pytest.mark.parametrize("give", WAYS.values(), ids=WAYS)


@pytest.fixture
def run(running):
    return running(2)


@pytest.fixture
def claim(store, token, run):
    return steps.claim_next(store, token, run)


def history(store, claim):
    """Return the history of the event: attempts, tries in this run, runs spent, last endpoint."""
    event = looks.event(store, claim.event_id)
    return {name: event[name] for name in ("attempt", "tries", "runs", "last") if name in event}


def test_an_event_that_was_not_sent_is_pending_in_its_old_place(store, run, claim):
    """There was no call, and nothing else is counted."""
    assert store.ledger.give_back(claim)

    assert looks.pending(store) == steps.event_ids(2)
    assert looks.where(store, claim.event_id) == ["pending"]
    assert history(store, claim) == {}
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, f"unsent:{steps.TYPE}": 1}
    assert store.measures.follow(run.id, 0) == ([], {})


def test_an_event_that_waits_for_another_endpoint_is_in_back_off_and_spends_no_attempt(store, run, claim):
    """There was no call. It is pending again when the wait is over."""
    assert store.ledger.postpone(claim, 60)

    assert looks.where(store, claim.event_id) == ["backoff"]
    assert history(store, claim) == {}
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, f"unsent:{steps.TYPE}": 1}
    assert store.recovery.promote([steps.TYPE], store.now_us() + 61_000_000) == 1
    assert looks.pending(store) == steps.event_ids(2)


def test_an_event_that_its_host_could_not_send_is_pending_and_spends_no_attempt(store, run, claim):
    """The call is counted as an error; the endpoint has not failed, and the event may go there again at once."""
    assert store.ledger.pass_on(claim, steps.OVERFLOW)

    assert looks.pending(store) == steps.event_ids(2)
    assert history(store, claim) == {"last": steps.OVERFLOW}
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, f"errors:{steps.OVERFLOW}": 1}


def test_a_throttled_event_is_pending_and_spends_no_attempt(store, run, claim):
    """The call is counted as throttled."""
    assert store.ledger.throttle(claim, steps.OVERFLOW)

    assert looks.pending(store) == steps.event_ids(2)
    assert history(store, claim) == {"last": steps.OVERFLOW}
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, f"throttled:{steps.OVERFLOW}": 1}
    assert store.measures.follow(run.id, 0) == ([], {})


def test_an_event_to_retry_backs_off(store, run, claim):
    """An attempt and a try are spent; it is due by the clock of Redis."""
    before = looks.redis_us(store)

    assert store.ledger.retry(claim, steps.ENDPOINT, delay_seconds=60)

    assert looks.where(store, claim.event_id) == ["backoff"]
    due = store.client.zscore(store.keys.backoff(steps.TYPE), claim.event_id)
    assert before + 60_000_000 <= due <= looks.redis_us(store) + 60_000_000
    assert history(store, claim) == {"attempt": "1", "tries": "1", "last": steps.ENDPOINT}
    assert looks.tally(store, run) == ERROR
    assert store.measures.follow(run.id, 0) == ([], {(steps.TYPE, steps.ENDPOINT): 1})


def test_an_event_that_the_deadline_cut_is_no_failing_of_its_endpoint(store, run, claim):
    """The call is counted as an error, but nothing is said of the next ones by it."""
    assert store.ledger.retry(claim, steps.ENDPOINT, 60, cut=True)

    assert looks.where(store, claim.event_id) == ["backoff"]
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, f"errors:{steps.ENDPOINT}": 1}


def test_an_event_that_spent_its_attempts_waits_for_the_next_run(store, run, claim):
    """One of its runs is spent as well."""
    assert store.ledger.spend(claim, steps.ENDPOINT)

    assert looks.where(store, claim.event_id) == ["spent"]
    assert history(store, claim) == {"attempt": "1", "tries": "1", "runs": "1", "last": steps.ENDPOINT}
    assert looks.tally(store, run) == ERROR
    assert looks.counts(store).open == 1


@every_way
def test_an_event_given_back_is_nobodys(store, claim, give):
    """It has no owner and no call under way."""
    give(store, claim)

    assert "owner" not in looks.event(store, claim.event_id)
    assert looks.calls(store, "worker-1") == {}


@every_way
def test_a_repeated_call_changes_nothing(store, claim, give):
    """After a lost reply the worker may say it again: the attempt is spent once."""
    give(store, claim)

    with looks.nothing_changes(store):
        assert not give(store, claim)


@every_way
@pytest.mark.parametrize("lose", losses.ALL.values(), ids=losses.ALL)
def test_a_lost_claim_gives_nothing_back(store, token, running, give, lose):
    """However the claim was lost, a late word changes nothing but the worker's own note of the call."""
    run = running(1)
    claim = steps.claim_next(store, token, run)
    lose(store, token, run, claim)

    with looks.nothing_changes(store, store.keys.calls(claim.worker_id)):
        assert not give(store, claim)


def test_tries_count_within_a_run_and_attempts_over_all(store, token, running):
    """Two tries in the first run, one in the second, which began at zero."""
    run = running(1)
    store.ledger.retry(steps.claim_next(store, token, run), steps.ENDPOINT, 0)
    store.recovery.promote([steps.TYPE], looks.redis_us(store))
    claim = steps.claim_next(store, token, run)
    store.ledger.spend(claim, steps.OVERFLOW)
    assert history(store, claim) == {"attempt": "2", "tries": "2", "runs": "1", "last": steps.OVERFLOW}

    losses.run_closed(store, token, run, claim)
    claim = steps.claim_next(store, token, steps.start_run(store, token))
    store.ledger.spend(claim, steps.ENDPOINT)

    assert history(store, claim) == {"attempt": "3", "tries": "1", "runs": "2", "last": steps.ENDPOINT}
