"""orphan_event: a dead worker's events are pending again or dead letters, and their slots stay blocked from now."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Budget, Endpoint, Limit
from rlm.ledger.claims import Admitted, Call, Completion
from rlm.ledger.recovery import POISON_DEATHS
from rlm.ledger.scripts import Script
from tests.store import looks, steps
from tests.values import replace
from tests.wait import wait_until

SCRIPT = Script("orphan_event")


@pytest.fixture
def run(running):
    return running(2)


@pytest.fixture
def endpoint(settings):
    return settings.endpoints[steps.ENDPOINT]


def take_slot(store, claim, endpoint):
    """Take the slot for this claim's call."""
    slot = store.windows.acquire(endpoint, Call(claim.lane, claim.event_id, endpoint.name))
    assert isinstance(slot, Admitted)
    return int(slot.stamp)


def expire(store):
    """Take back expired claims, after the clock has moved on."""
    now = looks.redis_us(store)
    wait_until(lambda: looks.redis_us(store) > now)
    return store.recovery.orphan_expired([steps.TYPE], looks.redis_us(store))


def test_a_worker_without_events_leaves_nothing(store, run):
    """Nor does one that nobody ever heard from."""
    with looks.nothing_changes(store):
        assert store.recovery.orphan_worker("worker-1") == 0
        assert store.recovery.orphan_expired([], looks.redis_us(store)) == 0
        assert store.recovery.orphan_expired([steps.TYPE], looks.redis_us(store)) == 0


def test_an_event_without_a_slot_is_pending_in_its_old_place(store, token, run):
    """No call was sent, so no attempt is spent and no endpoint has an error; the death is remembered."""
    claim = steps.claim_next(store, token, run)

    assert store.recovery.orphan_worker("worker-1") == 1

    assert looks.pending(store) == steps.event_ids(2)
    assert looks.where(store, claim.event_id) == ["pending"]
    event = looks.event(store, claim.event_id)
    assert event["deaths"] == "1"
    assert not {"owner", "attempt", "last"} & set(event)
    assert looks.calls(store, "worker-1") == {}
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2}


def lost(endpoint, calls=1):
    """Return the tally of calls whose worker was lost."""
    return {f"errors:{endpoint}": calls, f"trouble:{endpoint} worker lost": calls}


def test_an_event_with_a_slot_may_have_been_sent(store, token, run, endpoint):
    """An attempt is spent and the call is an error of its endpoint, whose slot is blocked from now."""
    claim = steps.claim_next(store, token, run)
    stamp = take_slot(store, claim, endpoint)

    assert store.recovery.orphan_worker("worker-1") == 1

    event = looks.event(store, claim.event_id)
    assert (event["deaths"], event["attempt"], event["last"]) == ("1", "1", steps.ENDPOINT)
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, **lost(steps.ENDPOINT)}
    (moved,) = store.windows.stamps(endpoint, 10)
    assert stamp < moved <= looks.redis_us(store)
    assert store.windows.sent(endpoint, 10) == [stamp]


def test_blocked_slots_keep_the_window_in_order(store, token, run, endpoint):
    """Slots that others took later stay, and none of them comes before a younger one."""
    claim = steps.claim_next(store, token, run)
    stamp = take_slot(store, claim, endpoint)
    others = [int(store.windows.acquire(endpoint).stamp) for _ in range(3)]

    store.recovery.orphan_worker("worker-1")

    moved, *rest = store.windows.stamps(endpoint, 10)
    assert rest == others[::-1]
    assert moved >= others[-1] > stamp


def test_all_events_of_a_worker_are_taken_back_and_no_others(store, token, running):
    """Each with its own call."""
    run = running(30)
    steps.release(store, token, run, 30)
    claims = [steps.claim(store, run, "worker-1" if number < 20 else "worker-2") for number in range(30)]

    assert store.recovery.orphan_worker("worker-1") == 20

    assert looks.pending(store) == steps.event_ids(20)
    assert set(looks.calls(store, "worker-2")) == {one.event_id for one in claims[20:]}
    assert looks.counts(store).inflight == 10


def test_a_repeated_call_changes_nothing(store, token, run, endpoint):
    """A death is counted once, and a slot moved once."""
    take_slot(store, steps.claim_next(store, token, run), endpoint)
    store.recovery.orphan_worker("worker-1")

    with looks.nothing_changes(store):
        assert store.recovery.orphan_worker("worker-1") == 0


def test_a_settled_event_is_not_taken_back(store, token, run):
    """The worker died after its last word was heard."""
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.1))

    with looks.nothing_changes(store):
        assert store.recovery.orphan_worker("worker-1") == 0


def test_a_note_that_outlived_its_claim_is_cleared_and_its_slot_blocked(store, token, run, endpoint):
    """The run took the event back while its call was under way, then the worker died: its server may have it."""
    claim = steps.claim_next(store, token, run)
    stamp = take_slot(store, claim, endpoint)
    steps.finish(store, token, run)
    store.recovery.return_unsettled(run.id, [steps.TYPE])
    before = looks.event(store, claim.event_id)

    assert store.recovery.orphan_worker("worker-1") == 0

    assert looks.calls(store, "worker-1") == {}
    assert store.windows.stamps(endpoint, 10)[0] > stamp
    assert looks.event(store, claim.event_id) == before
    assert looks.where(store, claim.event_id) == ["pending"]


def test_what_another_worker_has_by_now_is_not_taken_from_it(store, token, run):
    """A note left by an earlier claim is no claim."""
    claim = steps.claim_next(store, token, run)
    store.recovery.orphan_worker("worker-1")
    store.client.hset(store.keys.calls("worker-1"), claim.event_id, "")
    steps.claim_next(store, token, run, "worker-2")

    with looks.nothing_changes(store, store.keys.calls("worker-1")):
        assert store.recovery.orphan_worker("worker-1") == 0


@pytest.mark.parametrize("sent", [True, False])
def test_an_event_that_workers_keep_dying_of_is_a_dead_letter(store, token, run, endpoint, sent):
    """At the third death, wherever the first ones were."""
    for death in range(1, POISON_DEATHS + 1):
        assert looks.letters(store) == []
        claim = steps.claim_next(store, token, run, f"worker-{death}")
        if claim.alone:
            assert store.ledger.begin_alone(claim)
        if sent:
            take_slot(store, claim, endpoint)
        assert store.recovery.orphan_worker(f"worker-{death}") == 1

    (letter,) = looks.letters(store)
    assert (letter["reason"], letter["event_id"], letter["run_id"]) == ("poison", claim.event_id, run.id)
    assert letter["item"]["id"] == "i1"
    assert looks.where(store, claim.event_id) == []
    left = looks.event(store, claim.event_id)
    assert left["state"] == "failed"
    assert not {"item", "owner"} & set(left)
    assert 3_500_000 < store.client.pttl(store.keys.event(claim.event_id)) <= 3_600_000
    errors = lost(steps.ENDPOINT, POISON_DEATHS) if sent else {}
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, f"failed:{steps.TYPE}": 1, **errors}


def test_an_event_whose_workers_were_ended_in_haste_is_no_poison(store, token, run, endpoint):
    """However often somebody wants all to end at once: it is pending again, an attempt being spent on each call."""
    for _ in range(POISON_DEATHS + 1):
        claim = steps.claim_next(store, token, run)
        take_slot(store, claim, endpoint)
        assert store.recovery.orphan_worker("worker-1", died=False) == 1

    assert looks.letters(store) == []
    assert looks.where(store, claim.event_id) == ["pending"]
    event = looks.event(store, claim.event_id)
    assert "deaths" not in event
    assert event["attempt"] == str(POISON_DEATHS + 1)


def test_deaths_count_over_runs(store, token, running):
    """What kills a worker a run is found out all the same."""
    run = running(1)
    for death in range(POISON_DEATHS):
        store.ledger.begin_alone(steps.claim_next(store, token, run))
        assert store.recovery.orphan_worker("worker-1") == 1
        if death < POISON_DEATHS - 1:
            steps.finish(store, token, run)
            store.runs.close(run.id, {}, [steps.TYPE], wanted=0)
            run = steps.start_run(store, token)

    assert len(looks.letters(store)) == 1
    assert looks.tally(store, run) == {f"carried:{steps.TYPE}": 1, f"failed:{steps.TYPE}": 1}


def test_a_poisoned_event_is_forgotten_without_dedupe(make_store, token, running):
    """`queue.dedupe_seconds = 0` leaves the letter alone, the newest in the list."""
    run, store = running(1), make_store(queue={"dedupe_seconds": 0})
    store.client.lpush(store.keys.failed, b'{"id": "older"}')
    for _ in range(POISON_DEATHS):
        store.ledger.begin_alone(steps.claim_next(store, token, run))
        store.recovery.orphan_worker("worker-1")

    assert looks.event(store, steps.event_id(1)) == {}
    older, letter = looks.letters(store)
    assert (older["id"], letter["event_id"]) == ("older", steps.event_id(1))


@pytest.mark.parametrize("sent", [True, False])
def test_an_expired_lease_is_taken_back(store, token, run, endpoint, sent):
    """A worker that is frozen, or on a host that is gone, holds its event no longer than a call may take."""
    claim = steps.claim_next(store, token, run, lease_seconds=0)
    if sent:
        take_slot(store, claim, endpoint)

    assert expire(store) == 1

    assert looks.where(store, claim.event_id) == ["pending"]
    assert looks.calls(store, "worker-1") == {}
    assert looks.event(store, claim.event_id).get("attempt") == ("1" if sent else None)


@pytest.mark.parametrize("sent", [True, False])
def test_a_lease_that_has_not_run_out_stays(store, token, run, endpoint, sent):
    """Even for a caller whose clock is an hour ahead: the clock of Redis decides."""
    claim = steps.claim_next(store, token, run)
    if sent:
        take_slot(store, claim, endpoint)

    with looks.nothing_changes(store):
        assert store.recovery.orphan_expired([steps.TYPE], looks.redis_us(store) + 3_600_000_000) == 0


def test_many_expired_leases_are_taken_back_and_no_others(store, token, running):
    """Of several workers."""
    run = running(30)
    for number in range(30):
        steps.claim_next(store, token, run, f"worker-{number % 3}", lease_seconds=0 if number < 20 else 60)

    assert expire(store) == 20

    assert looks.pending(store) == steps.event_ids(20)
    assert looks.counts(store).inflight == 10
    assert expire(store) == 0


def orphan(store, run, event_id, worker, call="", when="dead"):
    """Call the script with values that were read a moment ago."""
    keys = store.keys
    window_id, stamp, endpoint = call.partition(":")[2].split("|") if "|" in call else ("", "", "")
    return SCRIPT(
        store.client,
        event=keys.event(event_id),
        inflight=keys.inflight(steps.TYPE),
        pending=keys.pending(steps.TYPE),
        calls=keys.calls(worker),
        tally=keys.tally(run.id),
        failed=keys.failed,
        event_id=event_id,
        worker=worker,
        call=call,
        stamp=stamp,
        endpoint=endpoint,
        when=when,
        type_name=steps.TYPE,
        windows=[{"window": keys.window(window_id), "moved": keys.moved(window_id)}] if window_id else [],
        dedupe_ms=3_600_000,
        poison=POISON_DEATHS,
        letter="{}",
        entry="[]",
        kept_ms=60_000,
    )


@pytest.mark.parametrize("when", ["dead", "expired"])
def test_a_slot_taken_since_the_call_was_read_stops_it(store, token, run, endpoint, when):
    """Else the slot would be forgotten: it is read again, and taken back with its slot the next time."""
    claim = steps.claim_next(store, token, run, lease_seconds=0)
    take_slot(store, claim, endpoint)

    with looks.nothing_changes(store):
        assert orphan(store, run, claim.event_id, "worker-1", call="", when=when) == b""

    assert store.recovery.orphan_worker("worker-1") == 1


@pytest.mark.parametrize("when", ["dead", "expired"])
def test_another_worker_is_not_robbed(store, token, run, when):
    """The event went from one worker to the next since it was read whose it was."""
    claim = steps.claim_next(store, token, run, lease_seconds=0)

    with looks.nothing_changes(store):
        assert orphan(store, run, claim.event_id, "another", when=when) == b""


def test_death_and_expiry_noticed_at_once_count_once(store, token, running):
    """The supervisor sees the death, the conductor the lease."""
    run = running(10)
    for _ in steps.release(store, token, run, 10, lease_seconds=0):
        steps.claim(store, run)

    taken_back = steps.at_once(*[lambda: store.recovery.orphan_worker("worker-1")] * 5, *[lambda: expire(store)] * 5)

    assert sum(taken_back) == 10
    assert {looks.event(store, one)["deaths"] for one in steps.event_ids(10)} == {"1"}
    assert looks.pending(store) == steps.event_ids(10)


@pytest.fixture
def sharing():
    """Two endpoints that share a budget: the budget, then they."""
    budget = Budget("account", Limit.parse("90/minute"))
    return budget, *(
        Endpoint(name, f"http://127.0.0.1:1/{name}", Limit.parse("90/minute"), 10, budget=budget)
        for name in ("one", "two")
    )


def test_the_slot_in_the_budget_is_blocked_from_now_too(store, token, run, sharing):
    """Under the same stamp, after those that others took of the budget later."""
    budget, one, two = sharing
    claim = steps.claim_next(store, token, run)
    stamp = take_slot(store, claim, one)
    others = [int(store.windows.acquire(two).stamp) for _ in range(3)]

    assert store.recovery.orphan_worker("worker-1") == 1

    (moved,) = store.windows.stamps(one, 10)
    assert store.windows.stamps(budget, 10) == [moved, *others[::-1]]
    assert moved >= others[-1] > stamp
    assert store.windows.sent(one, 10) == [stamp]
    assert store.windows.sent(budget, 10) == [stamp, *others]
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 2, **lost("one")}


def test_a_note_without_a_budget_is_read_as_it_was_written(store, token, run, sharing):
    """A worker that noted its call before its endpoint had a budget is taken back from all the same."""
    budget, one, _ = sharing
    claim = steps.claim_next(store, token, run)
    stamp = take_slot(store, claim, replace(one, budget=None))
    assert looks.calls(store, "worker-1") == {claim.event_id: f"1:{one.window_id}|{stamp}|one"}

    assert store.recovery.orphan_worker("worker-1") == 1

    assert store.windows.stamps(one, 10)[0] > stamp
    assert store.windows.stamps(budget, 10) == []
