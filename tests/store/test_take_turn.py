"""take_turn: a lane claims the first pending event for the next released call, and no other lane gets it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.errors import StoreError
from rlm.core.expected import Expected
from rlm.core.run import State
from rlm.ledger.claims import Claim, Held, LaneId
from rlm.ledger.turns import Terms, Turns
from tests.store import looks, steps
from tests.store.windows import make_budget
from tests.values import replace


@pytest.fixture
def run(running):
    return running(1)


def test_a_claim_has_all_that_is_needed_to_send(store, token, types, run):
    """Also how the event fared so far, which is not at all."""
    store.publish_limits(token)

    claim = steps.claim_next(store, token, run)

    assert claim == Claim(
        event_id=steps.event_id(1),
        run_id=run.id,
        lane=LaneId("worker-1", 1),
        number=1,
        endpoint=steps.ENDPOINT,
        remaining_seconds=claim.remaining_seconds,
        begin_seconds=claim.begin_seconds,
        call_seconds=0.1,
        lease_seconds=types[0].lease_seconds,
        wallet_name="wallet of i1",
        item=steps.items(1, steps.TYPE)[0],
        limits={one.name: one.limit.text for one in types[0].endpoints},
    )
    assert 50 < claim.remaining_seconds <= 60
    assert (claim.worker_id, claim.type) == ("worker-1", steps.TYPE)


def test_a_claimed_event_is_in_flight(store, token, run):
    """Its worker and the end of its lease are known; it has no slot and no call yet."""
    before = looks.redis_us(store)

    claim = steps.claim_next(store, token, run, lane=7, lease_seconds=12)

    assert looks.where(store, claim.event_id) == ["inflight"]
    event = looks.event(store, claim.event_id)
    assert (event["owner"], event["claims"]) == ("worker-1", "1")
    assert looks.calls(store, "worker-1") == {claim.event_id: "7:"}
    lease = -store.client.zscore(store.keys.inflight(steps.TYPE), claim.event_id)
    assert before + 12_000_000 <= lease <= looks.redis_us(store) + 12_000_000
    assert looks.counts(store).boarding == 1
    assert looks.released(store) == []


def test_events_are_claimed_by_priority_then_age(store, token):
    """Whatever the order in which they came, those of one type; each type's calls have their own."""
    ids = {"low": 1, "first": 9, "second": 9, "middle": 5}
    steps.push(store, *[steps.item(one, steps.TYPE, priority=priority) for one, priority in ids.items()])
    steps.push(store, steps.item("other", steps.OTHER_TYPE))
    run = steps.start_run(store, token)
    order = looks.pending(store)
    steps.release(store, token, run, 1, steps.OTHER_TYPE)

    assert steps.claim(store, run).event_id == f"other:{steps.OTHER_TYPE}"
    assert [steps.claim_next(store, token, run).event_id for _ in range(4)] == order


def test_what_is_completed_is_settled_while_the_epoch_cannot_be_read(store, token, run):
    """There is no slot until it is mended; the answer is written all the same, or the call would be made again."""
    claim = steps.claim_next(store, token, run)
    store.client.set(store.keys.epoch, "x")

    assert store.turns.complete(steps.completed(claim))

    assert steps.turn(store, run).claim is None
    assert looks.counts(store).unsettled == 0


def test_nothing_released_claims_nothing(store, run):
    """However many events wait."""
    with looks.nothing_changes(store):
        turn = steps.turn(store, run)

    assert (turn.settled, turn.claim, turn.why) == (False, None, "none")


def test_a_call_without_an_event_is_dropped(store, token, run):
    """The next one is for another type, which has an event; then no call is left."""
    steps.release(store, token, run, 3, steps.OTHER_TYPE)

    assert steps.claim_next(store, token, run).event_id == steps.event_id(1)

    steps.release(store, token, run, 3)
    assert steps.turn(store, run).why == "none"
    assert looks.released(store) == []


@pytest.mark.parametrize("moment", ["void", "begin"])
def test_a_call_whose_time_is_over_is_dropped(store, token, run, moment):
    """It is released too long ago, or would be answered after the deadline; the event waits for another."""
    steps.release(store, token, run, 2, **{moment: 0})

    assert steps.turn(store, run).why == "none"

    assert looks.released(store) == []
    assert looks.where(store, steps.event_id(1)) == ["pending"]
    assert steps.claim_next(store, token, run)


def test_a_call_of_another_run_is_dropped(store, token, running):
    """Its conductor may have been late; the run has its own."""
    run = running(1)
    (released,) = steps.release(store, token, run)
    other = type(released)("another", released.void, released.begin, released.deadline, released.call, released.of)
    store.client.delete(store.keys.releases)
    store.turns.release(token, run.id, [other])

    assert steps.turn(store, run).why == "none"

    assert looks.where(store, steps.event_id(1)) == ["pending"]


@pytest.mark.parametrize("state", [State.DRAINING, State.PLANNING, State.FINISHING])
def test_a_run_that_is_not_running_is_over(store, token, run, state):
    """In another state no call is released."""
    steps.put_into(store, run, state)

    with looks.nothing_changes(store):
        steps.release(store, token, run)
        assert steps.turn(store, run).why == "over"


@pytest.mark.parametrize("end", [lambda store, token, run: store.runs.advance(token, run, State.FINISHING), None])
def test_what_was_released_goes_with_the_run(store, token, run, end):
    """From the moment it is finishing, or cancelled, which its conductor sees later, nothing is claimed or released."""
    steps.release(store, token, run)
    end(store, token, run.id) if end else store.runs.cancel(run.id)

    with looks.nothing_changes(store):
        steps.release(store, token, run)
        assert steps.turn(store, run).why == "over"
    assert store.turns.releases() == []


def turns_of(store, revision):
    """Return the turns of a worker with another configuration."""
    settings = replace(store.settings, revision=revision)
    return Turns(SimpleNamespace(client=store.client, keys=store.keys, settings=settings))


def test_a_run_that_took_over_another_configuration_is_that_of_its_workers(store, token, run):
    """Calls released under another revision than the run's are taken by who has the run's, and by nobody else."""
    store.runs.note(token, run.id, revision="older")
    steps.release(store, token, run)
    steps.release(store, token, run)

    assert turns_of(store, "older").take(LaneId("worker-1", 1), run.id).claim
    assert turns_of(store, "third").take(LaneId("worker-1", 1), run.id).why == "revision"


def test_a_worker_of_another_revision_claims_nothing(store, token, types, run):
    """It learns that it must be replaced; the call stays for one that is up to date."""
    steps.release(store, token, run)
    older = turns_of(store, "older")

    with looks.nothing_changes(store):
        assert older.take(LaneId("worker-1", 1), run.id).why == "revision"

    assert steps.claim(store, run)


def test_how_an_event_fared_goes_with_it(store, token, run):
    """Attempts count over all runs, tries within the run, and the last endpoint is known."""
    store.ledger.retry(steps.claim_next(store, token, run), steps.OVERFLOW, 0)
    store.recovery.promote([steps.TYPE], looks.redis_us(store))

    claim = steps.claim_next(store, token, run)

    assert (claim.attempt, claim.tries, claim.runs, claim.last_endpoint) == (1, 1, 0, steps.OVERFLOW)
    assert claim.number == 2


def test_what_is_published_of_its_calls_comes_with_a_claim(store, token, run):
    """For the type's own calls to its endpoints; where nothing is published the worker's file holds."""
    told = Expected(2.5, 3.25)
    other = {(steps.OTHER_TYPE, steps.OVERFLOW): told, (steps.TYPE, "another"): told}
    store.measures.publish(token, {(steps.TYPE, steps.OVERFLOW): replace(told, error_rate=0.1), **other})

    assert steps.claim_next(store, token, run).expected == {(steps.TYPE, steps.OVERFLOW): told}


def test_the_limits_of_budgets_come_with_it(store, token, types, run):
    """Budgets share the name space of the endpoints."""
    first, *others, last = types[0].endpoints
    kind = replace(types[0], endpoints=(first, *others, replace(last, budget=make_budget("9/minute"))))
    turns = store.turns
    (released,) = steps.release(store, token, run)
    terms = Terms.of(kind, first, store.keys, 0)
    store.client.delete(store.keys.releases)
    moments = (released.void, released.begin, released.deadline, released.call)
    turns.release(token, run.id, [type(released)(run.id, *moments, terms)])
    store.client.hset(store.keys.limits, mapping={steps.OVERFLOW: "1/hour", "account": "2/hour", "other": "3/hour"})

    claim = turns.take(LaneId("worker-1", 1), run.id).claim

    assert claim.limits == {steps.OVERFLOW: "1/hour", "account": "2/hour"}


@pytest.mark.parametrize("kind", ["inflight", "calls"])
@pytest.mark.parametrize("with_slot", [False, True])
def test_what_redis_refuses_leaves_the_event_pending(store, token, run, kind, with_slot):
    """Its lane gives back what it may have noted, and the next one claims it."""
    steps.release(store, token, run)
    wrong = {"inflight": store.keys.inflight(steps.TYPE), "calls": store.keys.calls("worker-1")}[kind]
    store.client.set(wrong, "no place for an event")
    may_change = [store.keys.releases, store.keys.epoch, store.keys.calls("worker-1")]
    window_id = store.settings.endpoints[steps.ENDPOINT].window_id
    may_change += [store.keys.health(window_id), store.keys.window(window_id)]  # a slot that nobody uses does no harm

    with looks.nothing_changes(store, *may_change), pytest.raises(StoreError):
        steps.turn(store, run, with_slot=with_slot)

    store.client.delete(wrong)
    for held in store.ledger.held_by(LaneId("worker-1", 1)):
        assert not store.ledger.unclaim(LaneId("worker-1", 1), run.id, held)
    assert looks.calls(store, "worker-1") == {}
    assert steps.claim_next(store, token, run).event_id == steps.event_id(1)


def test_what_a_lane_has_in_hand_is_known_when_it_does_not_know_itself(store, token, running):
    """The answer to its turn was lost: it gives back what the ledger says that it has, and its slot."""
    run, lane, endpoint = running(3), LaneId("worker-1", 2), store.settings.endpoints[steps.ENDPOINT]
    other = steps.claim_next(store, token, run)
    mine, second = (steps.claim_next(store, token, run, lane=2, with_slot=one) for one in (False, True))

    held = store.ledger.held_by(lane)

    without, having = held
    assert without == Held(mine.event_id, mine.number, None)
    assert (having.event_id, having.call.endpoint, having.call.stamp) == (second.event_id, steps.ENDPOINT, second.stamp)
    assert store.windows.stamps(endpoint, 10) == [int(second.stamp)]
    assert all(store.ledger.unclaim(lane, run.id, one) for one in held)
    assert looks.pending(store) == [mine.event_id, second.event_id]
    assert looks.calls(store, "worker-1") == {other.event_id: "1:"}
    with looks.nothing_changes(store):
        assert store.ledger.held_by(lane) == []
        assert not store.ledger.unclaim(lane, run.id, without)
        assert not store.ledger.unclaim(lane, run.id, Held("never:heard", 1, None))


def test_a_slot_that_cannot_be_taken_leaves_the_event_pending(store, token, run):
    """The rubbish is at the old end of the window, which is read once a minute."""
    steps.release(store, token, run)
    endpoint = store.settings.endpoints[steps.ENDPOINT]
    store.client.rpush(store.keys.window(endpoint.window_id), "1000", "rubbish")

    claim = steps.claim(store, run, with_slot=True)

    assert looks.where(store, claim.event_id) == ["inflight"]


def test_a_worker_with_another_configuration_reads_what_comes_with_a_claim(store, token, run):
    """What follows a claim has names: a conductor may know more endpoints than the worker."""
    kind = store.settings.event_types[0]
    more = replace(kind, endpoints=(replace(kind.endpoints[0], name="of_the_conductor"), *kind.endpoints))
    terms = Terms.of(more, kind.endpoints[0], store.keys, store.settings.run.guard_seconds)
    store.publish_limits(token)
    steps.release(store, token, run, terms=terms)

    claim = steps.claim(store, run)

    assert claim.limits == {one.name: one.limit.text for one in kind.endpoints}
