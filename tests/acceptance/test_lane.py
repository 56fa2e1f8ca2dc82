"""One event from claim to settlement: the real lane, a real Valkey, a strict API; and the books always balance."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from contextlib import ExitStack, contextmanager
from unittest import mock

import pytest

from rlm.core.endpoint import Budget, Limit, Success
from rlm.core.errors import StoreUnreachableError
from rlm.core.expected import FIRST_BACKOFF_SECONDS
from rlm.core.window import FAILING
from rlm.ledger.embedded import EmbeddedServer
from tests.bench import FIRST, SECOND, TYPE, Bench
from tests.values import replace
from tests.wait import wait_until

#: With a guard so short an answer that took long is late, seconds. With that of a bench none is, and every slot is used
#: that was taken, however busy the machine.
SHORT_GUARD = 0.15


@pytest.fixture
def make_bench(valkey_only_url, tmp_path):
    """Make benches on the session's server."""
    with ExitStack() as stack:

        def make(**options):
            return stack.enter_context(Bench(valkey_only_url, tmp_path, **options))

        yield make


@pytest.fixture
def bench(make_bench):
    return make_bench()


@contextmanager
def gone(target, verb, times=1, after=0, *, applied=False):
    """Let `times` calls of `verb` fail after `after` calls, once Redis has `applied` them; yield those that failed."""
    real = getattr(target, verb)
    before, failed = [], []

    def fail(*args, **kwargs):
        if len(before) < after or len(failed) == times:
            before.append(args)
            return real(*args, **kwargs)
        failed.append(args)
        if applied:
            real(*args, **kwargs)
        raise StoreUnreachableError("Redis cannot be reached")

    with mock.patch.object(target, verb, fail):
        yield failed


def rest_of(bench, name=FIRST):
    """Return for how long an endpoint rests."""
    endpoint = bench.settings.endpoints[name]
    return bench.store.windows.look([endpoint])[1][name].rest_seconds


def all_done(bench):
    return lambda: not bench.where()


# -- what an answer leads to


def test_an_event_that_is_taken_is_completed(bench):
    """2xx: one call, at the first endpoint, its key the event's id, and the event is settled."""
    (event_id,) = bench.take()
    bench.carry()

    assert [(one.endpoint, one.event_id, one.attempt, one.run_id) for one in bench.api.arrivals] == [
        (FIRST, event_id, 1, bench.run_id)
    ]
    assert bench.where() == {}
    assert bench.tally() == {f"taken:{TYPE}": 1, f"completed:{TYPE}": 1, f"delivered:{FIRST}": 1}
    assert bench.event(event_id)["state"] == "completed"
    (call,) = bench.store.calls.of_run(bench.run_id)
    assert (call.type, call.endpoint, call.end) == (TYPE, FIRST, "completed")
    bench.check()


@pytest.mark.parametrize(
    ("fault", "rest"),
    [
        ({"throttle": 7}, 7.0),
        ({"throttle": 7, "retry_after": "date"}, 7.0),
        ({"throttle": 7, "retry_after": "none"}, 1.0),
        ({"throttle": 100_000}, 86_400.0),
    ],
    ids=["seconds", "date", "none", "absurd"],
)
def test_a_throttled_event_goes_elsewhere_and_spends_nothing(bench, fault, rest):
    """429: the endpoint rests for what it asked, a period if it did not say; the event's attempt does not advance."""
    (event_id,) = bench.take()
    bench.api.set_fault(FIRST, **fault)
    bench.carry()

    assert rest - 1.5 <= rest_of(bench) <= rest + 1.0
    assert bench.calls() == [(FIRST, 1, 429), (SECOND, 1, 200)]
    assert {one.event_id for one in bench.api.arrivals} == {event_id}
    assert bench.where() == {}
    assert bench.tally()[f"throttled:{FIRST}"] == bench.tally()[f"trouble:{FIRST} HTTP 429"] == 1
    bench.check()


@pytest.mark.rest
def test_an_endpoint_that_refuses_for_ever_and_asks_for_no_rest_is_not_besieged(bench):
    """`Retry-After: 0` each time: one event was sent 44 times a second."""
    bench.take()
    bench.api.set_fault("*", throttle=0)
    until = time.monotonic() + 3.5
    bench.carry(until=lambda: time.monotonic() > until)

    assert 6 <= len(bench.api.arrivals) <= 10
    bench.check()


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425])
def test_a_failed_event_waits_and_is_tried_again(bench, status):
    """5xx, 408, 425: back-off, then attempt 2 with the same key."""
    (event_id,) = bench.take()
    bench.api.set_fault(FIRST, status=status)
    bench.carry()

    assert bench.where() == {"backoff": 1}
    due = bench.store.client.zscore(bench.store.keys.backoff, event_id)
    assert 0 < (due - bench.now_us()) / 1e6 < 1.5 * FIRST_BACKOFF_SECONDS
    bench.api.set_fault(FIRST)
    bench.carry(until=all_done(bench))

    assert [(attempt, answer) for _, attempt, answer in bench.calls()] == [(1, status), (2, 200)]
    assert {one.event_id for one in bench.api.arrivals} == {event_id}
    bench.check()


def test_an_event_that_spent_its_attempts_waits_for_the_next_run_and_at_last_is_a_dead_letter(make_bench):
    """max_attempts calls in a run, in max_runs runs; the attempt counts over all of them, the key never changes."""
    bench = make_bench(max_attempts=2, max_runs=2)
    (event_id,) = bench.take()
    bench.api.set_fault("*", status=500)

    bench.carry(until=lambda: bench.where() == {"spent": 1})
    bench.check()
    assert len(bench.calls()) == 2
    bench.end_run()
    bench.open_run()
    assert bench.where() == {"pending": 1}
    bench.carry(until=all_done(bench))

    assert [attempt for _, attempt, _ in bench.calls()] == [1, 2, 3, 4]
    assert {one.event_id for one in bench.api.arrivals} == {event_id}
    (letter,) = bench.letters()
    assert (letter["reason"], letter["event_id"], letter["run_id"]) == ("attempts_spent", event_id, bench.run_id)
    assert letter["item"]["id"] == event_id.rpartition(":")[0]
    assert letter["detail"].startswith("2 attempts in each of 2 runs failed, the last at ")
    assert bench.tally()[f"failed:{TYPE}"] == 1


def test_an_unexpected_answer_is_tried_again(bench):
    """An answer 2xx that is not what the settings call success."""
    bench.change_endpoints(lambda one: replace(one, success=Success(field="result")))
    bench.take()

    bench.carry()

    assert bench.where() == {"backoff": 1}
    assert f"trouble:{FIRST} unexpected_answer" in bench.tally()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422, 301, 302, 307])
def test_a_rejected_event_is_a_dead_letter_at_once(bench, status):
    """Any other 4xx, and 3xx: one call, one letter that says which answer."""
    (event_id,) = bench.take()
    bench.api.set_fault(FIRST, status=status)
    bench.carry()

    assert bench.calls() == [(FIRST, 1, status)]
    assert bench.where() == {}
    (letter,) = bench.letters()
    assert (letter["reason"], letter["event_id"], letter["run_id"]) == ("rejected", event_id, bench.run_id)
    assert letter["detail"].startswith(f"{FIRST} answered HTTP {status}")
    counted = {f"errors:{FIRST}": 1, f"trouble:{FIRST} HTTP {status}": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, f"failed:{TYPE}": 1, **counted}
    bench.check()


def test_an_event_that_cannot_be_sent_does_not_stand_in_the_way(bench):
    """It is a dead letter at once, and the lane claims the one behind it."""
    broken, event_id = bench.take(2)
    bench.store.client.hset(bench.store.keys.event(broken), "item", "{")
    bench.carry()

    assert [one.event_id for one in bench.api.arrivals] == [event_id]
    assert [one["event_id"] for one in bench.letters()] == [broken]
    assert bench.where() == {}
    bench.check()


# -- slots


def test_full_windows_send_nothing(make_bench):
    """Where no endpoint has a slot the event stays as it was: no call, no attempt, no slot."""
    bench = make_bench(limit="2 per 60 second")
    bench.take(5)
    bench.carry(until=lambda: bench.where() == {"pending": 1} and len(bench.calls()) == 4)

    assert [endpoint for endpoint, _, _ in bench.calls()] == [FIRST, FIRST, SECOND, SECOND]
    assert (len(bench.stamps(FIRST)), len(bench.stamps(SECOND))) == (2, 2)
    bench.check()


def test_many_lanes_at_once_never_exceed_a_limit_and_lose_nothing(make_bench):
    """Eight lanes at 2 x 20 slots a period: the strict server refuses none, and all is completed."""
    bench = make_bench(limit="20 per 0.5 second", guard=0.1)
    bench.take(100)
    bench.carry(lanes=8, until=lambda: bench.tally().get(f"completed:{TYPE}") == 100)

    assert [status for _, _, status in bench.calls()] == [200] * 100
    assert len({one.event_id for one in bench.api.arrivals}) == 100
    bench.check()


def test_a_limit_set_by_hand_holds_at_once(bench):
    """Workers go by the limits in Redis, not by their file."""
    for name in (FIRST, SECOND):
        bench.store.control.limit(bench.settings.endpoints[name], "1 per 60 second", "somebody")
    bench.take(3)
    bench.carry(until=lambda: len(bench.calls()) == 2 and bench.where() == {"pending": 1})

    assert [endpoint for endpoint, _, _ in bench.calls()] == [FIRST, SECOND]


def test_a_budget_holds_for_its_endpoints_together(bench):
    """It has one slot, whatever each of them allows."""
    budget = Budget("account", Limit.parse("1 per 60 second"))
    bench.change_endpoints(lambda one: replace(one, budget=budget))
    bench.store.rules.publish(bench.token, bench.settings.event_types, {})
    bench.take(3)
    bench.carry(until=lambda: bench.where() == {"pending": 2})

    assert len(bench.calls()) == 1


def test_a_call_that_left_late_is_stamped_anew(make_bench):
    """Where sending itself took long, the slot counts from when it was sent: as if it had been taken only then."""
    bench = make_bench(guard=0.1)
    bench.take()
    real, left = bench.dispatcher.send, []

    def send(*args):
        time.sleep(0.06)
        trouble = real(*args)
        left.append(bench.now_us())
        return trouble

    with mock.patch.object(bench.dispatcher, "send", send):
        bench.carry()

    (stamp,) = bench.stamps()
    assert stamp >= left[0]
    assert bench.where() == {}
    bench.check()


@pytest.mark.parametrize("fault", [{"hang": True}, {"reset": True}], ids=["time-out", "cut"])
def test_a_call_without_an_answer_blocks_its_slot_from_its_end(make_bench, fault):
    """Time-out or cut connection: the slot counts for a period from when the connection was closed, and no shorter."""
    bench = make_bench(timeout=0.4, max_attempts=2)
    bench.take()
    bench.api.set_fault(FIRST, **fault)
    began = bench.now_us()
    bench.carry()
    ended = bench.now_us()

    (stamp,) = bench.stamps()
    if "hang" in fault:
        assert stamp >= began + 400_000
    assert began < stamp <= ended
    assert bench.where() == {"backoff": 1}
    what = "no answer in time" if "hang" in fault else "connection cut"
    failed = {f"errors:{FIRST}": 1, f"failing:{TYPE} {FIRST}": 1, f"trouble:{FIRST} {what}": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, **failed}
    bench.check()


def test_a_call_that_may_have_been_read_late_counts_from_then(make_bench):
    """Its answer came later than calls take, by more than the guard: as if it had been read that much later."""
    bench = make_bench(guard=SHORT_GUARD)
    bench.take()
    bench.api.set_fault(FIRST, slow=20.0)
    began = bench.now_us()
    bench.carry()
    ended = bench.now_us()

    (stamp,) = bench.stamps()
    assert began + (0.4 - 0.02 - SHORT_GUARD) * 1e6 <= stamp <= ended
    assert bench.where() == {}
    bench.check()


def test_a_refused_connection_uses_no_slot(bench):
    """Nobody there: the slot is given back, and the attempt is spent."""
    bench.take()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    bench.redirect(FIRST, f"http://127.0.0.1:{port}/")
    bench.store.rules.publish(bench.token, bench.settings.event_types, {})
    bench.carry()

    assert bench.stamps(FIRST) == []
    assert bench.where() == {"backoff": 1}
    assert bench.tally()[f"trouble:{FIRST} connection refused"] == 1


def test_an_endpoint_that_keeps_failing_is_rested_and_one_good_answer_reopens_it(make_bench):
    """After so many failures in a row its share goes elsewhere; then one probe, and it is as before."""
    bench = make_bench(max_attempts=100)
    bench.take(FAILING)
    bench.api.set_fault(FIRST, status=500)
    bench.carry(until=lambda: rest_of(bench) > 0.5)
    assert len([one for one in bench.calls() if one[0] == FIRST]) >= FAILING

    bench.take(3)
    bench.api.set_fault(FIRST)
    bench.carry(until=all_done(bench))
    wait_until(lambda: rest_of(bench) == 0, message="a probe is allowed")
    bench.take()
    bench.carry()

    assert bench.calls()[-1] == (FIRST, 1, 200)
    first = bench.settings.endpoints[FIRST]
    assert bench.store.windows.look([first])[1][FIRST].free > 1
    bench.check()


# -- time


def test_an_event_that_no_longer_fits_is_not_sent(make_bench):
    """With less than its expected time to the deadline an event stays where it is for the next run."""
    bench = make_bench(window=0.5, processing=0.4)
    bench.take()
    wait_until(lambda: bench.deadline_in() < 0.35, message="too little time is left")
    bench.carry(until=lambda: bench.deadline_in() < 0)

    assert bench.where() == {"pending": 1}
    assert bench.calls() == []
    bench.check()


def test_a_call_under_way_at_the_deadline_is_cut_and_spends_no_run(make_bench):
    """At the deadline the call ends, not at its time-out; the event is left over with an attempt more, no run less."""
    bench = make_bench(window=2.0, processing=0.1, timeout=5.0, max_attempts=1, max_runs=1)
    (event_id,) = bench.take()
    bench.api.set_fault(FIRST, hang=True)
    bench.carry(until=lambda: bench.event(event_id).get("attempt"))

    assert -0.5 < bench.deadline_in() <= 0
    assert bench.where() in ({"backoff": 1}, {"pending": 1})
    cut = {f"errors:{FIRST}": 1, f"trouble:{FIRST} cut by the deadline": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, **cut}
    assert bench.letters() == []
    assert bench.event(event_id)["attempt"] == "1"
    bench.end_run()
    bench.open_run(window=30.0)
    assert bench.where() == {"pending": 1}


# -- runs and revisions


def test_a_run_that_is_cancelled_keeps_what_was_answered(bench):
    """The event in hand is settled, and no other one is claimed."""
    bench.take(2)
    real = bench.dispatcher.receive

    def receive(*args):
        outcome = real(*args)
        bench.store.runs.cancel(bench.run_id)
        return outcome

    with mock.patch.object(bench.dispatcher, "receive", receive):
        bench.carry(until=lambda: bench.where() == {"pending": 1})

    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.tally()[f"completed:{TYPE}"] == 1
    bench.check()


def test_a_worker_of_another_revision_claims_nothing_and_says_so(bench):
    """The run has another configuration: nothing is called, and the worker knows that it must be replaced."""
    bench.take()
    outdated = bench.make_lanes("w2", revision="another")
    outdated.carry()

    assert outdated.outdated
    assert (bench.calls(), bench.where()) == ([], {"pending": 1})
    bench.carry()
    assert bench.where() == {}


def test_a_connection_that_was_closed_meanwhile_costs_neither_event_nor_slot(bench):
    """A new one is opened."""
    bench.take()
    bench.carry()
    ((_, kept),) = bench.dispatcher._idle
    kept._sock.shutdown(socket.SHUT_RD)
    bench.take()
    bench.carry()

    assert [status for _, _, status in bench.calls()] == [200, 200]
    assert len(bench.stamps()) == 2
    assert bench.where() == {}
    bench.check()


# -- Redis away


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("after", range(3))
def test_a_turn_that_is_lost_is_repeated(bench, after, applied):
    """Before Redis has it, or its answer: nothing is sent twice, counted twice, or given up."""
    ids = bench.take(2)
    with gone(bench.store.turns, "take", times=3, after=after, applied=applied) as lost:
        bench.carry()

    assert len(lost) == 3
    assert sorted(one.event_id for one in bench.api.arrivals) == sorted(ids)
    assert bench.tally() == {f"taken:{TYPE}": 2, f"completed:{TYPE}": 2, f"delivered:{FIRST}": 2}
    assert len(bench.stamps()) == 2
    assert bench.where() == {}
    bench.check()


def test_redis_gone_before_the_call_is_sent_sends_nothing(bench):
    """The slot of a new connection could not be moved to now: the event goes back, the connection is kept."""
    bench.take()
    with gone(bench.store.turns, "restamp"):
        bench.carry()

    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.tally()[f"unsent:{TYPE}"] == 1
    assert len(bench.stamps()) == 1
    bench.check()


def test_an_answer_after_the_claim_was_lost_changes_nothing(bench, caplog):
    """A worker taken for dead that comes back finds its event gone: no second settlement, no second count."""
    bench.take()
    real, reaped = bench.dispatcher.receive, []

    def receive(*args):
        outcome = real(*args)
        if not reaped:
            reaped.append(bench.store.recovery.reap("w1"))
            bench.store.runs.cancel(bench.run_id)
        return outcome

    with mock.patch.object(bench.dispatcher, "receive", receive), caplog.at_level(logging.INFO, "rlm.delivery.lane"):
        bench.carry(until=lambda: "came after its claim was lost" in caplog.text)

    assert reaped == [1]
    assert bench.where() == {"pending": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, f"errors:{FIRST}": 1, f"trouble:{FIRST} worker lost": 1}


def test_a_mistake_of_our_own_loses_nothing(bench, caplog):
    """An exception nobody thought of is logged with its place, and the event goes back."""
    bench.take()
    with mock.patch.object(bench.dispatcher, "connect", side_effect=RuntimeError("oops")):
        bench.carry(until=lambda: "could not be handled" in caplog.text)

    assert bench.where() == {"pending": 1}
    bench.check()
    bench.carry()
    assert bench.where() == {}


def test_a_server_killed_between_answer_and_settlement_loses_nothing(tmp_path):
    """The real thing: Valkey is killed while calls are under way, comes back with its data, and they are settled."""
    server = EmbeddedServer(tmp_path / "data")
    server.join()
    try:
        with Bench(server.url, tmp_path, processing=0.02) as bench:
            bench.take(2)
            bench.api.set_fault(FIRST, slow=25.0)
            killed = []

            def kill_and_go_on():
                if not killed and len(bench.api.arrivals) == 2:
                    killed.append(bench.store.client.info("server")["process_id"])
                    os.kill(killed[0], signal.SIGKILL)
                    wait_until(lambda: all(status for _, _, status in bench.calls()), message="both are answered")
                    server.join()
                return killed and not bench.where()

            bench.carry(lanes=2, until=kill_and_go_on)

            assert [status for _, _, status in bench.calls()] == [200, 200]
            bench.check()
    finally:
        server.leave()
