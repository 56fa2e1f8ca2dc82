"""A closed run's record of endpoints and budgets; calls that nobody reports any more leave nothing."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from redis.connection import AbstractConnection

from rlm.admin import report
from rlm.core.clock import system_clock
from rlm.core.documents import CallCounts
from rlm.core.endpoint import in_force
from rlm.core.run import State, Trigger
from rlm.delivery import run_end
from rlm.ledger.claims import Call, Completion
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.ledger.reading import books
from rlm.ledger.scripts import CHUNK
from scheduler.leader import LEASE_SECONDS, RENEW_SECONDS
from scheduler.ticks import open_run
from tests.clocks import SetClock
from tests.store import looks, steps
from tests.store.windows import make_budget, stamps, take
from tests.values import as_json, replace
from tests.wait import wait_until

BUDGET = make_budget("50/minute")
#: Commands and pipelines that the end of a run takes, each a round trip.
MOST_TRIPS = 20
#: How long a step of an end takes that is slow.
SLOW_SECONDS = 2.0


@pytest.fixture
def shared(store):
    """Let the first two endpoints of the first type share an account; return them, with their budget."""
    named = {name: replace(store.settings.endpoints[name], budget=BUDGET) for name in (steps.ENDPOINT, steps.OVERFLOW)}
    store.settings = replace(store.settings, endpoints={**store.settings.endpoints, **named})
    return named


@pytest.fixture
def call(store, token):
    """Complete `number` calls of a run at an endpoint, each with a slot."""

    def call(run, endpoint, number):
        take(store, in_force(endpoint, store.limits()), number)
        for _ in range(number):
            assert store.turns.complete(Completion(steps.claim(store), endpoint.name, 0.1))

    return call


def close(store, token, run):
    steps.finish(store, token, run)
    return run_end.close_run(store, run.id)


@pytest.mark.parametrize(("completed", "kept"), [(1, 3), (2, 0)])
def test_workers_stay_only_if_something_is_left_over(store, token, running, completed, kept):
    """The next run needs them again; else those leave that are not always there."""
    run = running(2)
    for _ in range(completed):
        steps.complete(store, steps.claim(store))
    store.runs.advance(token, run.id, State.FINISHING, plan=json.dumps({"workers": 3, "threads": 5}))

    run_end.close_run(store, run.id)

    assert store.processes.wanted() == max(store.settings.workers.min, kept)


def test_a_record_tells_what_the_endpoints_of_a_budget_did_together(store, token, running, shared, call):
    """Their answers are summed; the peak is that of the budget's own window."""
    run = running(9)
    call(run, shared[steps.ENDPOINT], 3)
    call(run, shared[steps.OVERFLOW], 2)
    store.ledger.throttle(steps.claim(store), steps.OVERFLOW)
    steps.fail(store, steps.claim(store), "backoff", delay_us=60_000_000)
    together = {"calls": 7, "completed": 5, "throttled": 1, "errors": 1, "peak_in_window": 5, "limit": "50/minute"}

    open_budgets = report.status(store, None).by_budget
    record = close(store, token, run)

    assert together.items() <= as_json(open_budgets["account"]).items()
    assert record.by_budget == {"account": CallCounts(**together)}
    assert record.by_endpoint[steps.ENDPOINT].peak_in_window == 3
    limit = shared[steps.OVERFLOW].limit.text
    alone = {"calls": 3, "completed": 2, "throttled": 1, "errors": 0, "peak_in_window": 2, "limit": limit}
    assert record.by_endpoint[steps.OVERFLOW] == CallCounts(**alone, p50_ms=100.0, p95_ms=100.0)


def test_slots_of_earlier_runs_are_no_part_of_a_peak(store, token, running, shared, call):
    """They still count in the window, for another record."""
    take(store, shared[steps.ENDPOINT], 4)
    run = running(1)
    call(run, shared[steps.OVERFLOW], 1)

    assert close(store, token, run).by_budget["account"].peak_in_window == 1


def test_calls_after_the_tick_that_the_run_before_sent_are_no_part_of_a_run_that_opened_late(
    store, token, shared, call
):
    """Nor is a limit that was changed meanwhile: the run began with it."""
    store.publish_limits(token)
    take(store, shared[steps.ENDPOINT], 4)
    store.control.limit(shared[steps.ENDPOINT], "29/minute", "user@host")
    steps.push(store, steps.item("i1", steps.TYPE))
    open_run(store, token, Trigger.SCHEDULE, store.now() - 5)
    run = store.runs.current()
    steps.drain(store, token, run)
    steps.put_into(store, State.RUNNING)
    call(run, shared[steps.ENDPOINT], 1)

    found = close(store, token, run).by_endpoint[steps.ENDPOINT]

    assert (found.calls, found.peak_in_window, found.limit) == (1, 1, "29/minute")
    assert not found.limit_before


def test_a_budget_that_was_not_called_is_in_the_record(store, token, running, shared):
    """With zeros, as an endpoint is."""
    record = close(store, token, running(1))

    assert {one.budget for one in shared.values()} == {BUDGET}
    assert record.by_budget["account"] == CallCounts(limit="50/minute")


def test_calls_a_minute_count_to_the_last_call_that_failed(store, token, running, monkeypatch):
    """Not to the last completed one: calls that fail for a minute after it are calls, and take their time."""
    run, endpoint = running(2), store.settings.endpoints[steps.ENDPOINT]
    take(store, endpoint)
    assert store.turns.complete(Completion(steps.claim(store), endpoint.name, 0.1))
    take(store, endpoint)
    store.ledger.retry(steps.claim(store), endpoint.name, 60)
    real = books.read_calls

    def earlier(*found):
        return [one._replace(at_us=one.at_us - 20_000_000) for one in real(*found)]

    monkeypatch.setattr(books, "read_calls", earlier)

    used = close(store, token, run).used

    assert 5 < used.calls_per_minute < 6.1  # two in 20 s
    assert used.lanes < 0.1


def test_a_limit_set_by_hand_is_the_one_on_record(store, token, running, shared, call):
    """The peak is counted over its period, not over the file's."""
    store.client.hset(store.keys.limits, mapping={steps.ENDPOINT: "5 per 30 seconds", "account": "7 per hour"})
    run = running(2)
    call(run, shared[steps.ENDPOINT], 2)

    record = close(store, token, run)

    assert record.by_endpoint[steps.ENDPOINT].limit == "5 per 30 seconds"
    assert record.by_budget["account"] == CallCounts(calls=2, completed=2, peak_in_window=2, limit="7 per hour")


@pytest.fixture
def under_way(store, token, shared):
    """Claim the run's next event under a lease and take a slot for its call; return claim and slot."""

    def begin(run, lease_seconds):
        claim = steps.claim_next(store, token, run, lease_seconds=lease_seconds)
        slot = store.windows.acquire(shared[steps.ENDPOINT], Call(claim.lane, claim.event_id, steps.ENDPOINT))
        now = looks.redis_us(store)
        wait_until(lambda: looks.redis_us(store) > now)
        return claim, slot

    return begin


def test_nothing_is_left_of_a_call_that_nobody_will_report_any_more(store, token, running, shared, under_way):
    """Its lane gave up, Redis being away past its lease and the deadline: its slots count from now, and nobody died."""
    run = running(2)
    claim, slot = under_way(run, 0.0)
    take(store, shared[steps.OVERFLOW])

    record = close(store, token, run)

    assert looks.calls(store, "worker-1") == {}
    (moved,) = stamps(store, shared[steps.ENDPOINT])
    assert moved > int(slot.stamp)
    assert moved == stamps(store, BUDGET)[0]
    assert len(stamps(store, BUDGET)) == 2
    event = looks.event(store, claim.event_id)
    assert (event["attempt"], event.get("deaths"), event.get("owner")) == ("1", None, None)
    assert looks.pending(store) == steps.event_ids(2)
    assert (record.counts.leftover, record.by_endpoint[steps.ENDPOINT].errors) == (2, 1)


def test_an_event_whose_lease_ran_out_without_a_slot_is_left_over_as_it_was(store, token, running):
    """Nothing was sent of it, and its worker is not busy with it any more."""
    run = running(1)
    claim = steps.claim_next(store, token, run, lease_seconds=0)
    now = looks.redis_us(store)
    wait_until(lambda: looks.redis_us(store) > now)

    close(store, token, run)

    assert looks.calls(store, "worker-1") == {}
    assert not {"attempt", "deaths", "owner"} & set(looks.event(store, claim.event_id))


def test_a_call_whose_lane_is_still_at_it_keeps_its_slot_and_its_note(store, token, running, shared, under_way):
    """Its connection may be open: the lane blocks the slot from when it closes it, and clears the note."""
    run = running(1)
    claim, slot = under_way(run, 60.0)

    close(store, token, run)

    assert set(looks.calls(store, "worker-1")) == {claim.event_id}
    blocked = store.windows.block(shared[steps.ENDPOINT], slot, Call(claim.lane, claim.event_id, steps.ENDPOINT))
    assert int(blocked.stamp) > int(slot.stamp)
    assert not store.ledger.retry(claim, steps.ENDPOINT, 1.0)
    assert looks.calls(store, "worker-1") == {}


def test_a_run_closed_by_many_at_once_blocks_each_slot_once(store, token, running, shared, under_way):
    """Ten closers, as many slots as before."""
    run = running(5)
    for _ in range(5):
        under_way(run, 0.0)
    steps.finish(store, token, run)

    records = steps.at_once(*[lambda: run_end.close_run(store, run.id)] * 10)

    assert len([one for one in records if one]) == 1
    assert looks.calls(store, "worker-1") == {}
    assert len(stamps(store, BUDGET)) == len(stamps(store, shared[steps.ENDPOINT])) == 5
    assert {looks.event(store, one)["attempt"] for one in steps.event_ids(5)} == {"1"}


def test_more_leases_than_one_step_takes_back_are_all_taken_back(store, token, running):
    """However many lanes had given up."""
    run = running(CHUNK + 1)
    for _ in steps.release(store, token, run, CHUNK + 1, lease_seconds=0):
        steps.claim(store, run)
    now = looks.redis_us(store)
    wait_until(lambda: looks.redis_us(store) > now)

    close(store, token, run)

    assert looks.calls(store, "worker-1") == {}
    assert looks.counts(store).pending == CHUNK + 1


@pytest.mark.parametrize(("held", "trips"), [(0, 7), (2, 10)])
def test_closing_a_run_takes_few_round_trips(store, token, running, call, monkeypatch, held, trips):
    """However many types, endpoints and budgets there are: 0.1 s each to a Redis far away, and a run is to end in time.

    Three more if calls are under way, which are given back, and whose trails say so.
    """
    steps.push(store, *steps.items(20, *(one.name for one in store.settings.event_types)))
    run = running(0)
    for endpoint in list(store.endpoints().values())[:4]:
        call(run, endpoint, 1)
    for number in range(held):
        steps.release(store, token, run)
        steps.claim(store, run, lane=number + 1)
    steps.finish(store, token, run)
    assert store.runs.current()
    for script in (store.runs._script(name) for name in ("return_unsettled", "close_run")):
        store.client.script_load(script.source)  # as in every run but the first
    sent, send = [], AbstractConnection.send_packed_command
    monkeypatch.setattr(
        AbstractConnection, "send_packed_command", lambda *args, **more: sent.append(1) or send(*args, **more)
    )

    record = run_end.close_run(store, run.id)

    assert (record.counts.completed, record.counts.leftover) == (4, 96)
    assert len(sent) - 1 <= trips  # the last wakes those who wait for it


def test_closing_takes_no_more_round_trips_the_more_endpoints_were_called(store, token, running, call, monkeypatch):
    """A Redis that is slow to answer, in a fail-over or under load, would hold up the end by each of them."""
    trips, real = [], AbstractConnection.send_packed_command
    monkeypatch.setattr(
        AbstractConnection, "send_packed_command", lambda *args, **how: trips.append(args) or real(*args, **how)
    )
    numbers = []
    for called in ([steps.ENDPOINT], [steps.ENDPOINT, steps.OVERFLOW]):
        run = running(4)  # the second time they are those that the first run left over
        for name in called:
            call(run, store.endpoints()[name], 1)
        steps.finish(store, token, run)
        trips.clear()
        assert run_end.close_run(store, run.id).counts.completed == len(called)
        numbers.append(len(trips))

    assert numbers[0] <= MOST_TRIPS
    assert numbers[1] <= numbers[0]


def test_the_lease_is_prolonged_while_a_run_ends(store, conductor, monkeypatch):
    """However long its end-of-run actor lets it wait, and each step of its end takes: no standby comes in between."""
    clock, renewed = SetClock(system_clock.monotonic()), []
    for module in ("scheduler.leader", "scheduler.conductor"):
        monkeypatch.setattr(f"{module}.system_clock", clock)
    contend = store.leases.contend
    monkeypatch.setattr(store.leases, "contend", lambda *what: renewed.append(clock.time) or contend(*what))

    def take_long(step):
        def slow(*what, **options):
            clock.sleep(SLOW_SECONDS)
            return step(*what, **options)

        return slow

    for part, step in ((store.recovery, "orphan_expired"), (store.recovery, "return_unsettled"), (store.runs, "close")):
        monkeypatch.setattr(part, step, take_long(getattr(part, step)))
    monkeypatch.setattr(run_end, "read_ending", take_long(run_end.read_ending))
    store.processes.announce(Role.WORKER, Process("w", 1, "h", 0.0, WorkerState.READY, 5))
    run = steps.start_run(store, conductor._leader.token)

    began = clock.time
    assert conductor.close_open(run.id).run_id == run.id

    assert clock.time - began > LEASE_SECONDS
    moments = [began, *renewed, clock.time]
    assert max(after - before for before, after in pairwise(moments)) < LEASE_SECONDS - RENEW_SECONDS
