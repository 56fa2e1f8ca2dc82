"""A turn with a slot: the event is claimed together with its slot, or not at all."""

from __future__ import annotations

import pytest

from rlm.ledger.turns import Terms
from tests.store import looks, steps
from tests.store.windows import health, make_budget, set_health, stamps, take
from tests.values import replace

pytestmark = pytest.mark.both_servers


@pytest.fixture
def endpoint(settings):
    return settings.endpoints[steps.ENDPOINT]


@pytest.fixture
def run(running):
    return running(3)


def release(store, token, run, endpoint, number=1):
    """Release calls to an endpoint that differs from its configuration."""
    (made,) = steps.release(store, token, run)
    store.client.rpop(store.keys.releases)
    kind = store.settings.event_types[0]
    terms = Terms.of(kind, endpoint, store.keys, store.settings.run.guard_seconds, store.settings.revision)
    moments = (made.void, made.begin, made.deadline, made.call)
    store.turns.release(token, run.id, [type(made)(run.id, *moments, terms)] * number)


def assert_dropped(store, run):
    """Check that the turn claims nothing and takes no slot, and the call is no longer released."""
    before = {key: value for key, value in looks.snapshot(store).items() if ":window:" in key}
    assert steps.turn(store, run, with_slot=True).why == "none"
    after = {key: value for key, value in looks.snapshot(store).items() if ":window:" in key}
    assert after == before
    assert looks.released(store) == []
    assert looks.pending(store) == steps.event_ids(3)
    assert looks.calls(store, "worker-1") == {}


def test_an_event_is_claimed_with_its_slot(store, token, run, endpoint):
    """Its lease counts as that of a call under way; the call is noted with all windows of its slot."""
    before = looks.redis_us(store)
    slots = int(store.client.hget(store.keys.epoch, "slots"))

    claim = steps.claim_next(store, token, run, with_slot=True, lease_seconds=12)

    assert stamps(store, endpoint) == [int(claim.stamp)]
    assert before <= int(claim.stamp) <= looks.redis_us(store)
    assert looks.calls(store, "worker-1") == {claim.event_id: f"1:{endpoint.window_id}|{claim.stamp}|{endpoint.name}"}
    assert store.client.zscore(store.keys.inflight(steps.TYPE), claim.event_id) == int(claim.stamp) + 12_000_000
    assert (looks.counts(store).inflight, looks.counts(store).boarding) == (1, 0)
    assert (claim.suspect, claim.limits, claim.expected) == (False, {steps.ENDPOINT: "30/minute"}, {})
    assert int(store.client.hget(store.keys.epoch, "slots")) == slots + 1


def test_a_call_whose_slot_is_taken_meanwhile_is_dropped(store, token, run, endpoint):
    """The window is full; the next call, to another endpoint, is made."""
    take(store, endpoint, endpoint.limit.rules[0].amount)
    steps.release(store, token, run)

    assert_dropped(store, run)

    steps.release(store, token, run)
    steps.release(store, token, run, endpoint=steps.OVERFLOW)
    claim = steps.claim(store, run, with_slot=True)
    assert (claim.endpoint, claim.event_id) == (steps.OVERFLOW, steps.event_id(1))


def test_a_slot_is_free_only_a_period_and_the_guard_after_its_call(store, token, run, endpoint):
    """The guard is for the jitter between here and the server: after the period alone there is no slot yet."""
    (rule,) = endpoint.limit.rules
    called_us = looks.redis_us(store) - round(rule.seconds * 1_000_000)
    store.client.rpush(store.keys.window(endpoint.window_id), *[called_us] * rule.amount)
    steps.release(store, token, run)

    assert_dropped(store, run)


def test_an_event_that_failed_there_is_claimed_without_a_slot(store, token, running, endpoint):
    """In this run: another endpoint may be free, which its lane looks for; in the next run it counts no more."""
    run = running(1)
    store.ledger.retry(steps.claim_next(store, token, run, with_slot=True), steps.ENDPOINT, 0)
    store.recovery.promote([steps.TYPE], looks.redis_us(store))

    claim = steps.claim_next(store, token, run, with_slot=True)

    assert (claim.stamp, len(stamps(store, endpoint))) == ("", 1)
    store.ledger.spend(claim, steps.ENDPOINT)
    steps.finish(store, token, run)
    store.recovery.return_unsettled(run.id, [steps.TYPE])
    store.runs.close(run.id, {}, [steps.TYPE], wanted=0)
    following = steps.start_run(store, token)
    assert steps.claim_next(store, token, following, with_slot=True).stamp


def test_one_that_was_throttled_gets_its_slot_and_one_that_failed_elsewhere_once_it_is_connected(store, token, run):
    """Neither is a reason to look for another endpoint; but a retry goes over a fresh connection."""
    store.ledger.throttle(steps.claim_next(store, token, run), steps.ENDPOINT)
    assert steps.claim_next(store, token, run, with_slot=True).stamp
    second = steps.claim_next(store, token, run)
    store.ledger.retry(second, steps.OVERFLOW, 0)
    store.recovery.promote([steps.TYPE], looks.redis_us(store))

    claim = steps.claim_next(store, token, run, with_slot=True)

    assert (claim.event_id, claim.tries, claim.stamp, claim.endpoint) == (second.event_id, 1, "", steps.ENDPOINT)


@pytest.mark.parametrize("field", ["rest_until_us", "held_until_us", "paused_until_us"])
def test_an_endpoint_that_rests_gets_no_call(store, token, run, endpoint, field):
    """Whatever kind of rest it is, and until it is over."""
    set_health(store, endpoint, **{field: looks.redis_us(store) + 10_000_000})
    steps.release(store, token, run)

    assert_dropped(store, run)

    set_health(store, endpoint, **{field: looks.redis_us(store)})
    assert steps.claim_next(store, token, run, with_slot=True).stamp


def test_after_failures_a_call_is_suspect(store, token, run, endpoint):
    """A good answer to it is reported."""
    set_health(store, endpoint, failures=1)

    claim = steps.claim_next(store, token, run, with_slot=True)

    assert (claim.suspect, bool(claim.stamp)) == (True, True)


def test_one_probe_goes_at_a_time(store, token, run, endpoint):
    """The next one only after that had its time, as its terms say."""
    set_health(store, endpoint, probing=1)
    (released,) = steps.release(store, token, run)
    probe = steps.claim(store, run, with_slot=True)

    assert probe.suspect
    assert health(store, endpoint)["probe_until_us"] == int(probe.stamp) + released.of.probe
    steps.release(store, token, run)
    assert steps.turn(store, run, with_slot=True).claim is None
    set_health(store, endpoint, probe_until_us=looks.redis_us(store))
    assert steps.claim_next(store, token, run, with_slot=True).suspect


@pytest.mark.parametrize("name", [steps.ENDPOINT, "account"])
def test_a_limit_that_has_changed_since_the_release_drops_it(store, token, run, endpoint, name):
    """With a slot or without: the conductor releases anew by what is in force, the budget's too."""
    shared = replace(endpoint, budget=make_budget("5/minute"))
    for with_slot in (False, True):
        release(store, token, run, shared)
        store.client.hset(store.keys.limits, name, "1/hour")

        assert steps.turn(store, run, with_slot=with_slot).why == "none"

        assert looks.released(store) == []
    assert looks.pending(store) == steps.event_ids(3)
    store.client.hset(store.keys.limits, name, "5/minute" if name == "account" else endpoint.limit.text)
    release(store, token, run, shared)
    assert steps.claim(store, run, with_slot=True).stamp


def test_a_slot_is_taken_in_the_budget_too(store, token, run, endpoint):
    """Under the same stamp; the note names both windows."""
    budget = make_budget("5/minute")
    release(store, token, run, replace(endpoint, budget=budget))

    claim = steps.claim(store, run, with_slot=True)

    assert stamps(store, endpoint) == stamps(store, budget) == [int(claim.stamp)]
    note = f"1:{endpoint.window_id}|{claim.stamp}|{endpoint.name}|{budget.window_id}"
    assert looks.calls(store, "worker-1") == {claim.event_id: note}


@pytest.mark.parametrize("why", ["full", "rests"])
def test_a_budget_that_has_none_gives_none_of_the_endpoint(store, token, run, endpoint, why):
    """A slot in both, or in neither."""
    budget = make_budget("2/minute")
    shared = replace(endpoint, budget=budget)
    if why == "full":
        take(store, replace(endpoint, name="two", budget=budget), 2)
    else:
        set_health(store, budget, rest_until_us=looks.redis_us(store) + 10_000_000)
    release(store, token, run, shared)

    assert_dropped(store, run)


def test_a_server_that_nobody_vouched_for_takes_no_call(store, token, run, endpoint):
    """Its memory may be older than its slots: the call stays released, with or without a connection."""
    steps.release(store, token, run)
    store.client.hset(store.keys.epoch, "server", "another")

    for with_slot in (False, True):
        with looks.nothing_changes(store):
            assert steps.turn(store, run, with_slot=with_slot).why == "none"
    store.client.hdel(store.keys.epoch, "server")
    with looks.nothing_changes(store):
        assert steps.turn(store, run, with_slot=True).why == "none"


def test_windows_of_before_what_is_trusted_do_not_serve(store, token, run):
    """Until as much time has passed as their rules look back, and as calls may have been under way."""
    store.client.hset(store.keys.epoch, mapping={"since": looks.redis_us(store), "underway_us": 5_000_000})
    steps.release(store, token, run)

    assert_dropped(store, run)


def test_a_turn_takes_no_more_commands_than_it_needs(store, token, running):
    """Those inside of the script counted: what settles an event, claims the next, and takes its slot."""
    run, completed = running(21), None
    steps.release(store, token, run, 21)
    for number in range(21):
        if number == 1:
            store.client.config_resetstat()
        completed = steps.completed(steps.claim(store, run, with_slot=True, completed=completed))

    made = store.client.info("commandstats")
    assert sum(one["calls"] for name, one in made.items() if "config" not in name and "info" not in name) <= 25 * 20
