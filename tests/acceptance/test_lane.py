"""One event from claim to settlement: the real lane, a real Valkey, a strict API; and the books always balance."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from unittest import mock

import pytest

from rlm.core.endpoint import Budget, Limit, Success
from rlm.core.errors import StoreError, StoreUnreachableError
from rlm.core.expected import FIRST_BACKOFF_SECONDS, Expected
from rlm.core.run import State
from rlm.core.window import FAILING
from rlm.delivery.attempt import LEASE_SLACK_SECONDS
from rlm.ledger.claims import Admitted, LaneId
from rlm.ledger.embedded import EmbeddedServer
from rlm.ledger.recovery import POISON_DEATHS
from tests.acceptance.scripted import OK, Server
from tests.bench import FIRST, SECOND, TYPE, Bench
from tests.values import replace
from tests.wait import wait_until

#: Seconds until something that ought to have happened has not.
PATIENCE = 10.0
#: With a guard so short an answer that took long is late, seconds. With that of a bench none is, and every slot is used
#: that was taken, however busy the machine.
SHORT_GUARD = 0.15


@pytest.fixture
def make_bench(valkey_only_url, tmp_path):
    """Make benches on the session's server; check the books of each at the end."""
    with ExitStack() as stack:

        def make(**options):
            return stack.enter_context(Bench(valkey_only_url, tmp_path, **options))

        yield make


@pytest.fixture
def bench(make_bench):
    return make_bench()


@contextmanager
def gone(target, verb, times=1, after=0, error=StoreUnreachableError):
    """Let `times` calls of `verb` fail after `after` calls; yield the counter of its calls."""
    real = getattr(target, verb)
    before, calls = [], []

    def fail(*args, **kwargs):
        if len(before) < after:
            before.append(args)
            return real(*args, **kwargs)
        calls.append(args)
        if len(calls) <= times:
            raise error("Redis cannot be reached")
        return real(*args, **kwargs)

    with mock.patch.object(target, verb, fail):
        yield calls


@contextmanager
def in_doubt(bench):
    """Let slots be taken only once a connection is open, as while this host's way may be cut."""
    with mock.patch.object(type(bench.dispatcher), "in_doubt", new=True):
        yield


@contextmanager
def short_leases():
    """Make a lease only slightly longer than a call may last."""
    with ExitStack() as patches:
        for module in ("rlm.core.endpoint", "rlm.delivery.attempt"):
            patches.enter_context(mock.patch(f"{module}.LEASE_SLACK_SECONDS", 0.4))
        yield


# -- what an answer leads to


def test_an_event_that_is_taken_is_completed(bench):
    """2xx: one call, at the endpoint meant for it, its key the event's id, and the event is settled."""
    (event_id,) = bench.take()
    bench.carry(endpoint=SECOND)

    assert [(one.endpoint, one.event_id, one.attempt, one.run_id) for one in bench.api.arrivals] == [
        (SECOND, event_id, 1, bench.run_id)
    ]
    assert bench.where() == {}
    assert bench.tally() == {f"taken:{TYPE}": 1, f"completed:{TYPE}": 1, f"delivered:{SECOND}": 1}
    assert bench.event(event_id)["state"] == "completed"
    assert [call.pair for call in bench.store.measures.completed(bench.run_id)] == [(TYPE, SECOND)]
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

    assert bench.where() == {"pending": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, f"throttled:{FIRST}": 1, f"trouble:{FIRST} HTTP 429": 1}
    _, views = bench.store.windows.look(list(bench.settings.endpoints.values()))
    assert rest - 1.5 <= views[FIRST].rest_seconds <= rest + 1.0
    assert (views[FIRST].free, views[SECOND].free > 0) == (0, True)

    bench.carry()  # still meant for the first, which rests: nothing is claimed
    assert bench.where() == {"pending": 1}
    bench.carry(endpoint=SECOND)

    assert bench.calls() == [(FIRST, 1, 429), (SECOND, 1, 200)]
    assert {one.event_id for one in bench.api.arrivals} == {event_id}
    assert bench.where() == {}
    bench.check()


@pytest.mark.rest
def test_an_endpoint_that_refuses_for_ever_and_asks_for_no_rest_is_not_besieged(bench):
    """`Retry-After: 0` each time: one event was sent 44 times a second."""
    bench.take()
    bench.api.set_fault(FIRST, throttle=0)
    until = time.monotonic() + 3.5
    while time.monotonic() < until:
        bench.carry()

    assert 3 <= len(bench.api.arrivals) <= 5
    assert bench.where() == {"pending": 1}
    bench.check()


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425])
def test_a_failed_event_waits_and_is_tried_elsewhere(bench, status):
    """5xx, 408, 425: back-off, then attempt 2 with the same key, at another endpoint than the one that failed."""
    (event_id,) = bench.take()
    bench.api.set_fault(FIRST, status=status)
    bench.carry()

    assert bench.where() == {"backoff": 1}
    due = bench.store.client.zscore(bench.store.keys.backoff, event_id)
    assert 0.3 * FIRST_BACKOFF_SECONDS < (due - bench.now_us()) / 1e6 < 1.5 * FIRST_BACKOFF_SECONDS
    assert bench.store.recovery.promote([TYPE], bench.now_us()) == 0

    wait_until(lambda: bench.store.recovery.promote([TYPE], bench.now_us()), message="the back-off is over")
    bench.carry()

    wait_until(lambda: bench.calls() == [(FIRST, 1, status), (SECOND, 2, 200)], message="both are noted as answered")
    assert {one.event_id for one in bench.api.arrivals} == {event_id}
    assert bench.where() == {}
    bench.check()


def test_an_event_that_spent_its_attempts_waits_for_the_next_run_and_at_last_is_a_dead_letter(make_bench):
    """max_attempts calls in a run, in max_runs runs; the attempt counts over all of them, the key never changes."""
    bench = make_bench(max_attempts=2, max_runs=2)
    (event_id,) = bench.take()
    bench.api.set_fault("*", status=500)

    bench.carry()
    bench.promote()
    bench.carry()
    assert bench.where() == {"spent": 1}
    assert bench.promote() == 0
    bench.carry()
    assert bench.where() == {"spent": 1}
    bench.check()

    first_calls = bench.calls()
    bench.end_run()
    bench.open_run()
    assert bench.where() == {"pending": 1}
    bench.carry()
    bench.promote()
    bench.carry()

    assert bench.where() == {}
    assert [attempt for _, attempt, _ in bench.calls()] == [1, 2, 3, 4]
    assert len(first_calls) == 2
    assert {one.event_id for one in bench.api.arrivals} == {event_id}
    (letter,) = bench.letters()
    assert (letter["reason"], letter["event_id"], letter["run_id"]) == ("attempts_spent", event_id, bench.run_id)
    assert letter["item"]["id"] == event_id.rpartition(":")[0]
    assert letter["detail"].startswith("2 attempts in each of 2 runs failed, the last at ")
    assert bench.tally()[f"failed:{TYPE}"] == 1


def test_an_unexpected_answer_is_tried_again_as_its_type_says(bench):
    """Another type may share the endpoint and ask for nothing."""
    shared = bench.settings.endpoints
    bench.change_endpoints(lambda one: replace(one, success=Success(field="result")))
    bench.settings = replace(bench.settings, endpoints=shared)
    bench.lanes = bench.make_lanes("w1")
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


# -- slots


def test_full_windows_send_nothing(make_bench):
    """Where no endpoint has a slot the event stays or goes back as it was: no call, no attempt, no slot."""
    bench = make_bench(limit="2 per 60 second")
    bench.take(5)
    for endpoint in (FIRST, SECOND):
        bench.release(2, endpoint)
        bench.lanes.carry(bench.run_id)
    assert bench.where() == {"pending": 1}

    bench.carry()
    with in_doubt(bench):  # it is claimed, and given back
        bench.carry()

    assert bench.where() == {"pending": 1}
    assert bench.tally()[f"unsent:{TYPE}"] == 1
    assert sorted(endpoint for endpoint, _, _ in bench.calls()) == [FIRST, FIRST, SECOND, SECOND]
    assert (len(bench.stamps(FIRST)), len(bench.stamps(SECOND))) == (2, 2)
    bench.check()


def test_an_endpoint_that_this_host_does_not_reach_is_tried_only_if_it_is_meant(make_bench):
    """Instead of one without a slot it is not: the event goes back, and other hosts may send it there."""
    bench = make_bench(limit="1 per 60 second")
    bench.take(2)
    bench.carry()
    with mock.patch.object(bench.lanes._health, "reaches", lambda one: one.name == FIRST):
        with in_doubt(bench):  # it is claimed without a slot
            bench.carry()
        assert bench.where() == {"pending": 1}
        assert bench.tally()[f"unsent:{TYPE}"] == 1

        bench.carry(endpoint=SECOND)

    assert bench.calls() == [(FIRST, 1, 200), (SECOND, 1, 200)]
    bench.check()


def test_many_lanes_at_once_never_exceed_a_limit_and_lose_nothing(make_bench):
    """Eight lanes that race for 2 x 20 slots a period: the strict server refuses none, and all is completed."""
    bench = make_bench(limit="20 per 0.5 second", guard=0.1)
    bench.take(100)
    done = threading.Event()

    def lane(number):
        lanes = bench.make_lanes(f"w{number}")
        for endpoint in itertools.cycle((FIRST, SECOND)):
            if done.is_set():
                return
            bench.release(endpoint=endpoint)
            lanes.carry(bench.run_id)

    threads = [threading.Thread(target=lane, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: bench.tally().get(f"completed:{TYPE}") == 100, message="all are completed")
    finally:
        done.set()
        for thread in threads:
            thread.join(PATIENCE)

    assert [status for _, _, status in bench.calls()] == [200] * 100
    assert len({one.event_id for one in bench.api.arrivals}) == 100
    bench.check()


def test_a_limit_set_by_hand_holds_at_once(bench):
    """Workers go by the limits in Redis, not by their file."""
    bench.take(3)
    bench.store.client.hset(bench.store.keys.limits, mapping={FIRST: "1 per 60 second", SECOND: "1 per 60 second"})
    for endpoint in (FIRST, SECOND):
        bench.release(2, endpoint)
        bench.lanes.carry(bench.run_id)

    assert sorted(endpoint for endpoint, _, _ in bench.calls()) == [FIRST, SECOND]
    assert bench.where() == {"pending": 1}


@pytest.mark.parametrize("connected", [False, True])
def test_a_call_released_by_a_limit_that_was_changed_since_is_not_made(bench, connected):
    """The lane claims nothing for it; the conductor releases by the new limit."""
    bench.take(3)
    if connected:
        bench.carry()
    before = bench.calls()
    bench.release()
    bench.store.client.hset(bench.store.keys.limits, FIRST, "3 per 60 second")
    bench.lanes.carry(bench.run_id)
    assert (bench.calls(), bench.where()) == (before, {"pending": 3 - len(before)})

    bench.carry()
    assert len(bench.calls()) == len(before) + 1
    bench.check()


def test_a_budget_set_by_hand_holds_at_once(bench):
    """The budget that both endpoints hang on has one slot, whatever each of them and the file allow."""
    budget = Budget("account", Limit.parse("100 per 1 second"))
    bench.change_endpoints(lambda one: replace(one, budget=budget))
    bench.take(3)
    bench.store.client.hset(bench.store.keys.limits, "account", "1 per 60 second")
    bench.release(3)
    bench.lanes.carry(bench.run_id)

    assert len(bench.calls()) == 1
    assert bench.where() == {"pending": 2}


def test_a_slot_that_took_too_long_to_get_is_given_back_by_its_own_id(make_bench):
    """A reply of Redis that was long on its way would make the call leave late: that slot is never used."""
    bench = make_bench(guard=0.1, limit="2 per 60 second")
    bench.take()
    real, slow = bench.store.windows.acquire, []

    def acquire(endpoint, call=None):
        slot = real(endpoint, call)
        if isinstance(slot, Admitted) and not slow:
            slow.append(slot.stamp)
            time.sleep(0.06)  # more than 0.4 of the guard
        return slot

    with in_doubt(bench), mock.patch.object(bench.store.windows, "acquire", acquire):
        bench.carry()
    while bench.where():
        bench.carry()

    assert len(slow) == 1
    stamps = bench.stamps(FIRST) + bench.stamps(SECOND)
    assert len(stamps) == len(bench.api.arrivals) == 1
    assert int(slow[0]) not in stamps
    bench.check()


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
        assert ended - began >= 400_000
        assert stamp >= began + 400_000
    assert began < stamp <= ended
    assert ended - stamp < 300_000  # less than the call lasted that hung; it counts from its end
    assert bench.where() == {"backoff": 1}
    what = "no answer in time" if "hang" in fault else "connection cut"
    failed = {f"errors:{FIRST}": 1, f"failing:{TYPE} {FIRST}": 1, f"trouble:{FIRST} {what}": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, **failed}
    assert bench.store.measures.completed(bench.run_id) == []

    bench.promote()
    bench.carry()
    assert [(endpoint, attempt) for endpoint, attempt, _ in bench.calls()] == [(FIRST, 1), (SECOND, 2)]
    bench.check()


def test_an_answered_call_keeps_the_slot_it_had(make_bench):
    """An answer that takes no longer than calls take there proves that the server read it in time: the stamp stays."""
    bench = make_bench(guard=SHORT_GUARD)
    bench.take()
    bench.api.set_fault(FIRST, slow=10.0)  # 0.2 s; the rest of what it may take is for a busy machine
    bench.store.measures.publish(bench.token, {(TYPE, FIRST): Expected(0.35, 0.4)})
    with restamped(bench) as noted:
        bench.carry()

    assert noted == []
    assert bench.calls() == [(FIRST, 1, 200)]


@contextmanager
def restamped(bench, failures=0):
    """Record the moments to which slots are put back, in seconds of Redis time; Redis fails the first times."""
    real, noted = bench.store.windows.block, []

    def block(endpoint, slot, call, **told):
        if not told.get("ago_seconds"):  # it only left late, or has no answer
            return real(endpoint, slot, call, **told)
        noted.append(bench.now_us() / 1e6 - told["ago_seconds"])
        if len(noted) <= failures:
            raise StoreUnreachableError("Redis cannot be reached")
        return real(endpoint, slot, call, **told)

    with mock.patch.object(bench.store.windows, "block", block):
        yield noted


def test_a_call_that_may_have_been_read_late_counts_from_then(make_bench):
    """Its answer came later than calls take, by more than the guard: as if it had been read that much later."""
    bench = make_bench(guard=SHORT_GUARD)
    bench.take()
    bench.api.set_fault(FIRST, slow=20.0)
    began = bench.now_us()
    bench.carry()
    ended = bench.now_us()

    (stamp,) = bench.stamps()
    assert began + (0.4 - 0.02 - SHORT_GUARD) * 1e6 <= stamp <= ended - (0.02 + SHORT_GUARD) * 1e6
    assert bench.where() == {}
    bench.check()


def test_redis_gone_when_a_late_answer_comes_is_waited_for(make_bench):
    """The slot is stamped anew before the event is settled, and for the same moment however long that takes."""
    bench = make_bench(guard=SHORT_GUARD)
    bench.take()
    bench.api.set_fault(FIRST, slow=20.0)
    with restamped(bench, failures=3) as noted:
        bench.carry()

    assert len(noted) == 4
    assert max(noted) - min(noted) < 0.1  # three pauses take longer
    assert bench.stamps()[0] / 1e6 == pytest.approx(noted[-1], abs=0.1)
    assert bench.where() == {}
    assert bench.calls() == [(FIRST, 1, 200)]
    bench.check()


def test_a_refused_connection_uses_no_slot(bench):
    """Nobody there: no slot is taken, the attempt is spent, the event goes elsewhere."""
    bench.take()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    bench.redirect(FIRST, f"http://127.0.0.1:{port}/")
    bench.carry()

    assert bench.stamps(FIRST) == []
    assert bench.where() == {"backoff": 1}
    bench.promote()
    bench.carry()
    assert bench.calls() == [(SECOND, 2, 200)]


def test_an_endpoint_that_keeps_failing_is_rested_and_one_good_answer_reopens_it(make_bench):
    """After so many failures in a row its share goes elsewhere; then one probe, and it is as before."""
    bench = make_bench(max_attempts=100)
    bench.take(FAILING + 3)
    bench.api.set_fault(FIRST, status=500)
    for _ in range(FAILING):
        bench.carry()
    first = bench.settings.endpoints[FIRST]
    assert bench.store.windows.look([first])[1][FIRST].rest_seconds > 0.5
    bench.carry()
    assert len(bench.calls()) == FAILING
    bench.carry(endpoint=SECOND)
    assert bench.calls()[-1][0] == SECOND

    bench.api.set_fault(FIRST)
    wait_until(lambda: bench.store.windows.look([first])[1][FIRST].free == 1, message="a probe is allowed")
    bench.carry()

    assert bench.calls()[-1] == (FIRST, 1, 200)
    assert bench.store.windows.look([first])[1][FIRST].free > 1
    bench.check()


# -- time


def test_an_event_that_no_longer_fits_is_not_sent(make_bench):
    """With less than its expected time to the deadline an event stays where it is for the next run."""
    bench = make_bench(window=0.5, processing=0.4)
    bench.take()
    bench.release()
    wait_until(lambda: bench.deadline_in() < 0.35, message="too little time is left")
    bench.lanes.carry(bench.run_id)

    assert bench.where() == {"pending": 1}
    assert bench.calls() == []
    bench.check()


def test_an_endpoint_that_is_too_slow_for_the_time_left_is_passed_over(make_bench):
    """As it is measured, not as the file says, even where nothing else has a slot."""
    bench = make_bench(window=5.0, limit="1 per 60 second")
    bench.take(2)
    bench.store.measures.publish(bench.token, {(TYPE, SECOND): Expected(4.0, 6.0)})
    bench.carry()
    bench.dispatcher.close()
    bench.carry()

    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.where() == {"pending": 1}
    bench.check()


def test_an_endpoint_that_is_faster_than_configured_takes_what_would_not_have_fitted(make_bench):
    """The other way round: by the file no time is left, by what was measured there is some, at the second one alone."""
    bench = make_bench(window=1.0, processing=1.5, limit="1 per 60 second")
    bench.take(3)
    bench.api.set_fault(SECOND, slow=0.02)
    bench.carry()
    assert (bench.calls(), bench.where()) == ([], {"pending": 3})

    bench.store.measures.publish(bench.token, {(TYPE, SECOND): Expected(0.03, 0.05)})
    bench.carry(endpoint=FIRST)
    assert (bench.calls(), bench.where()) == ([], {"pending": 3})
    bench.carry(endpoint=SECOND)

    assert bench.calls() == [(SECOND, 1, 200)]
    assert bench.where() == {"pending": 2}
    bench.check()


def test_a_retry_goes_over_a_fresh_connection(bench):
    """A server closes what it kept open just as calls arrive there: what else is kept to it may be dying as well."""

    def script(peer):
        fresh = server.connections > kept
        while peer.request() and fresh:
            peer.send(OK)

    kept = 4
    with Server(script) as server:
        bench.change_endpoints(lambda one: replace(one, url=f"{server.url}/{one.name}"))
        targets = [*bench.settings.endpoints.values()] * 2
        opened = [bench.dispatcher.connect(target, PATIENCE) for target in targets]
        for target, connection in zip(targets, opened, strict=True):
            bench.dispatcher.keep(target, connection)
        wait_until(lambda: server.open == kept, message="all are open, and would die of a call")
        bench.take()

        bench.carry()
        assert bench.where() == {"backoff": 1}
        bench.promote()
        bench.carry()

        assert bench.where() == {}
        assert (server.connections, len(server.requests)) == (kept + 1, 2)


def test_a_call_under_way_at_the_deadline_is_cut_and_spends_no_run(make_bench):
    """At the deadline the call ends, not at its time-out; the event is left over with an attempt more, no run less."""
    bench = make_bench(window=0.6, processing=0.1, timeout=5.0, max_attempts=1, max_runs=1)
    (event_id,) = bench.take()
    bench.api.set_fault(FIRST, hang=True)
    bench.carry()

    assert -0.3 < bench.deadline_in() <= 0
    assert bench.where() == {"backoff": 1}
    cut = {f"errors:{FIRST}": 1, f"trouble:{FIRST} cut by the deadline": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, **cut}
    assert bench.letters() == []
    assert bench.event(event_id)["attempt"] == "1"
    (stamp,) = bench.stamps()
    assert bench.now_us() - stamp < 300_000
    bench.end_run()
    bench.open_run(window=30.0)
    assert bench.where() == {"pending": 1}


# -- messages, released calls and revisions


def test_a_message_that_is_lost_costs_no_event(bench):
    """Whichever lane is woken next makes all calls that are released, each once."""
    ids = bench.take(5)
    bench.release(2)
    bench.release(3)
    bench.lanes.carry(bench.run_id)

    assert sorted(one.event_id for one in bench.api.arrivals) == sorted(ids)
    assert bench.where() == {}
    bench.check()


def test_a_call_that_is_void_or_has_no_event_is_not_made(bench):
    """One that was taken too late, and one too many; the next one is made all the same."""
    bench.take()
    bench.release(claim_seconds=0.0)
    bench.lanes.carry(bench.run_id)
    assert (bench.calls(), bench.where()) == ([], {"pending": 1})

    bench.release(2)
    bench.lanes.carry(bench.run_id)

    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.store.turns.releases() == []
    bench.check()


@pytest.mark.parametrize("stale", ["run", "cancelled", "finishing"])
def test_a_message_of_what_is_over_leads_to_no_call(bench, stale):
    """Another run's, a cancelled or finishing run's: nothing is claimed, nothing sent."""
    bench.take()
    bench.release()
    run_id = bench.run_id
    if stale == "run":
        run_id = "other"
    elif stale == "cancelled":
        bench.store.runs.cancel(bench.run_id)
    else:
        bench.store.runs.advance(bench.token, bench.run_id, State.FINISHING)
    bench.lanes.carry(run_id)

    assert bench.calls() == []
    assert bench.where() == ({"released": 1} if stale == "run" else {"pending": 1})
    assert not bench.lanes.outdated
    bench.check()


def test_a_run_that_ends_between_two_turns_keeps_what_was_answered(bench):
    """The event in hand is settled with the turn that claims no other one."""
    bench.take(2)
    bench.release(2)
    real = bench.dispatcher.receive

    def receive(*args):
        outcome = real(*args)
        bench.store.runs.cancel(bench.run_id)
        return outcome

    with mock.patch.object(bench.dispatcher, "receive", receive):
        bench.lanes.carry(bench.run_id)

    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.where() == {"pending": 1}
    assert bench.tally()[f"completed:{TYPE}"] == 1
    bench.check()


def test_a_worker_of_another_revision_claims_nothing_and_says_so(bench):
    """The run has another configuration: nothing is called, and the worker knows that it must be replaced."""
    bench.take()
    bench.release()
    outdated = bench.make_lanes("w2", revision="another")
    for _ in range(2):
        outdated.carry(bench.run_id)

    assert outdated.outdated
    assert (bench.calls(), bench.where()) == ([], {"released": 1})

    bench.lanes.carry(bench.run_id)
    assert not bench.lanes.outdated
    assert bench.where() == {}


def test_an_event_that_cannot_be_sent_does_not_stand_in_the_way(bench):
    """It is put aside for the conductor to condemn, and the lane claims the one behind it."""
    broken, event_id = bench.take(2)
    bench.store.client.hdel(bench.store.keys.event(broken), "wallet")
    bench.carry()
    assert [one.event_id for one in bench.api.arrivals] == [event_id]
    assert bench.where() == {"pending": 1}

    bench.carry()  # it is not found again
    bench.store.recovery.condemn_unsound(bench.token, bench.run_id, [TYPE])

    assert [one["event_id"] for one in bench.letters()] == [broken]
    assert len(bench.calls()) == 1
    bench.check()


# -- connections at hand


def idle(bench):
    """Return the kept connections."""
    return [connection for _, connection in bench.dispatcher._idle]


def test_an_event_is_claimed_with_its_slot(bench):
    """One step in Redis between two calls: no slot is asked for, and the connection is the one that was kept."""
    bench.take(4)
    bench.carry()
    kept = idle(bench)
    bench.release(3)
    with gone(bench.store.windows, "acquire", times=99) as asked, mock.patch.object(bench.dispatcher, "_open") as new:
        bench.lanes.carry(bench.run_id)

    assert (asked, new.call_count) == ([], 0)
    assert (idle(bench), len(kept)) == (kept, 1)
    assert [status for _, _, status in bench.calls()] == [200] * 4
    assert len(bench.stamps()) == 4
    bench.check()


def test_a_connection_that_was_closed_meanwhile_costs_neither_event_nor_slot(bench):
    """A new one is opened."""
    bench.take(2)
    bench.carry()
    (kept,) = idle(bench)
    kept._sock.shutdown(socket.SHUT_RD)
    bench.carry()

    assert kept not in idle(bench)
    assert [status for _, _, status in bench.calls()] == [200, 200]
    assert len(bench.stamps()) == 2
    assert bench.where() == {}
    bench.check()


def test_a_slot_whose_claim_was_long_on_its_way_is_given_back(make_bench):
    """The call would leave late: that slot is never used, and another one is taken."""
    bench = make_bench(guard=0.1)
    bench.take(2)
    bench.carry()
    real, slow = bench.store.turns.take, []

    def turn(*args, **options):
        taken = real(*args, **options)
        if taken.claim and taken.claim.stamp:
            slow.append(int(taken.claim.stamp))
            time.sleep(0.06)  # more than 0.4 of the guard
        return taken

    with mock.patch.object(bench.store.turns, "take", turn):
        bench.carry()
    while bench.where():
        bench.carry()

    assert len(slow) == 1
    stamps = bench.stamps(FIRST) + bench.stamps(SECOND)
    assert len(stamps) == len(bench.api.arrivals) == 2
    assert slow[0] not in stamps
    bench.check()


def test_a_slot_that_counts_no_more_when_its_claim_arrives_is_not_used(make_bench):
    """Another call has taken its place meanwhile: the event is given back, and nothing is sent."""
    bench = make_bench(guard=0.1, limit="1 per 60 second")
    bench.take()
    real, others = bench.store.turns.take, []

    def turn(*args, **options):
        taken = real(*args, **options)
        if taken.claim and taken.claim.stamp and not others:
            endpoint = bench.store.endpoints()[FIRST]
            bench.store.client.delete(bench.store.keys.window(endpoint.window_id))  # as if its period were over
            others.append(bench.store.windows.acquire(endpoint))
            time.sleep(0.06)  # more than 0.4 of the guard
        return taken

    with mock.patch.object(bench.store.turns, "take", turn):
        bench.carry()

    assert [isinstance(one, Admitted) for one in others] == [True]
    assert bench.api.arrivals == []
    assert bench.where() == {"pending": 1}


# -- carried alone


def take_suspect(bench):
    """Take an event of which two workers died."""
    (event_id,) = bench.take()
    for death in range(POISON_DEATHS - 1):
        bench.release()
        claim = bench.store.turns.take(LaneId(f"dead-{death}", 1), bench.run_id).claim
        assert claim.event_id == event_id
        assert bench.store.recovery.orphan_worker(f"dead-{death}") == 1
    return event_id


@contextmanager
def carrying(bench, number=1):
    """Release calls and carry events in `number` lanes, which have ended at the end of the block."""
    bench.release(number)
    lanes = [threading.Thread(target=bench.lanes.carry, args=(bench.run_id,)) for _ in range(number)]
    for lane in lanes:
        lane.start()
    try:
        yield
    finally:
        for lane in lanes:
            lane.join(PATIENCE)
        assert not any(lane.is_alive() for lane in lanes)


@contextmanager
def answers_held(bench):
    """Hold every answer back until the yielded event is set, at the latest at the end."""
    real, go = bench.dispatcher.receive, threading.Event()

    def receive(*args):
        outcome = real(*args)
        go.wait(PATIENCE)
        return outcome

    with mock.patch.object(bench.dispatcher, "receive", receive):
        try:
            yield go
        finally:
            go.set()


def waits(bench, event_id):
    """Return whether a lane has the event and waits to carry it alone."""
    return (bench.store.client.hget(bench.store.keys.calls("w1"), event_id) or b"").endswith(b":-")


def test_the_lanes_of_a_worker_that_carries_one_alone_take_nothing_from_others(bench):
    """What is released stays so for other workers; and they rest before they are back for another message."""
    take_suspect(bench)
    (mate,) = bench.take()
    with answers_held(bench) as go, carrying(bench):
        wait_until(bench.calls, message="it is on its way")
        bench.release()
        began = time.monotonic()
        bench.lanes.carry(bench.run_id)
        assert 0.2 < time.monotonic() - began < 1
        assert bench.where() == {"inflight": 1, "released": 1}

        go.set()
        bench.make_lanes("w2").carry(bench.run_id)
    assert bench.api.arrivals[-1].event_id == mate
    assert bench.where() == {}
    bench.check()


def test_of_two_events_to_be_carried_alone_a_worker_keeps_one(bench):
    """The other one goes back as it was: another worker may be free sooner."""
    bench.take()
    real, began, both = bench.store.turns.take, [], threading.Barrier(2)

    def turn(*args, **kwargs):
        began.append(args)
        if len(began) <= 2:
            both.wait(PATIENCE)
        return real(*args, **kwargs)

    with answers_held(bench) as go, carrying(bench):
        wait_until(bench.calls, message="the other is on its way")
        suspects = {take_suspect(bench)}
        bench.store.client.zadd(bench.store.keys.ready(TYPE), {next(iter(suspects)): 2**50})
        suspects.add(take_suspect(bench))
        with mock.patch.object(bench.store.turns, "take", turn), carrying(bench, 2):
            wait_until(lambda: bench.where() == {"inflight": 2, "pending": 1}, message="one is back")
            wait_until(lambda: any(waits(bench, one) for one in suspects), message="the other waits")
            go.set()
    assert len(bench.calls()) == 2
    assert bench.where() == {"pending": 1}

    bench.carry()
    assert {one.event_id for one in bench.api.arrivals} > suspects
    bench.check()


def test_a_worker_that_leaves_does_not_wait_to_carry_one_alone(bench):
    """The wait and the call together could outlast its grace period, and it would be taken for one that died of it."""
    bench.take()
    with answers_held(bench) as go, carrying(bench):
        wait_until(bench.calls, message="the other is on its way")
        first = take_suspect(bench)
        with carrying(bench):
            wait_until(lambda: waits(bench, first), message="it waits")
            bench.lanes.leaving = True

        assert bench.where() == {"pending": 1, "inflight": 1}
        assert len(bench.calls()) == 1
        go.set()
    assert bench.where() == {"pending": 1}
    bench.check()


# -- Redis away


def test_redis_gone_at_the_claim_is_no_exception(bench, caplog):
    """The lane is free for another message; the release is taken with that, or becomes void by itself."""
    bench.take()
    bench.release()
    with gone(bench.store.turns, "take"):
        bench.lanes.carry(bench.run_id)

    assert bench.calls() == []
    assert bench.where() == {"released": 1}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    bench.lanes.carry(bench.run_id)
    assert bench.where() == {}
    bench.check()


@contextmanager
def losing(bench, nth=1):
    """Lose the answer to the nth turn: Redis took it, but the lane does not know."""
    real, turns = bench.store.turns.take, []

    def turn(*args, **kwargs):
        taken = real(*args, **kwargs)
        turns.append(taken)
        if len(turns) == nth:
            raise StoreUnreachableError("the answer is lost")
        return taken

    with mock.patch.object(bench.store.turns, "take", turn):
        yield turns


def test_a_claim_whose_answer_is_lost_is_given_back_at_once(bench):
    """The event is pending again once Redis answers, not when its lease ends; its slot is free too."""
    (event_id,) = bench.take()
    bench.release()
    with losing(bench) as turns, gone(bench.store.ledger, "unclaim", times=2) as calls:
        bench.lanes.carry(bench.run_id)

    assert turns[0].claim.stamp
    assert len(calls) == 3
    assert bench.calls() == []
    assert bench.where() == {"pending": 1}
    assert bench.stamps() == []
    bench.carry()
    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.api.arrivals[-1].event_id == event_id
    bench.check()


def test_a_turn_whose_answer_is_lost_settles_what_was_completed_once(bench):
    """It was settled, and another event claimed: that is given back, nothing is counted twice, nothing sent twice."""
    ids = bench.take(2)
    bench.release(2)
    with losing(bench, nth=2):
        bench.lanes.carry(bench.run_id)

    assert bench.where() == {"pending": 1}
    assert bench.tally()[f"completed:{TYPE}"] == bench.tally()[f"delivered:{FIRST}"] == 1
    assert len(bench.stamps()) == 1
    bench.check()

    bench.carry()
    assert sorted(one.event_id for one in bench.api.arrivals) == sorted(ids)
    assert bench.where() == {}
    bench.check()


@pytest.mark.parametrize("verb", ["take", "retry"])
def test_an_answer_that_could_not_be_settled_is_not_taken_for_a_claim_that_is_not_known(make_bench, verb):
    """Its call was made: when the answer to a later turn is lost, its slot stays taken, and its lease has to end."""
    with short_leases():
        bench = make_bench(timeout=0.2)
        (event_id,) = bench.take()
        if verb == "retry":
            bench.api.set_fault(FIRST, status=500)
        part = bench.store.turns if verb == "take" else bench.store.ledger
        with gone(part, verb, times=10**9, after=int(verb == "take"), error=StoreError):
            bench.carry()
        assert bench.where() == {"inflight": 1}
        bench.take()
        bench.release()
        with losing(bench):
            bench.lanes.carry(bench.run_id)

        assert bench.where() == {"inflight": 1, "pending": 1}
        assert [one.event_id for one in bench.store.ledger.held_by(LaneId("w1", 1))] == [event_id]
        assert len(bench.stamps()) == len(bench.calls()) == 1


def test_redis_gone_between_claim_and_slot_sends_nothing(bench):
    """No slot, no call: the event goes back, and the connection that was opened is not lost."""
    bench.take()
    with in_doubt(bench), gone(bench.store.windows, "acquire"):
        bench.carry()
    assert bench.where() == {"pending": 1}
    assert bench.calls() == []
    assert bench.tally() == {f"taken:{TYPE}": 1, f"unsent:{TYPE}": 1}
    bench.check()

    kept = idle(bench)
    assert len(kept) == 1
    bench.carry()
    assert idle(bench) == kept
    assert bench.where() == {}
    bench.check()


def test_redis_gone_between_answer_and_settlement_is_waited_for(bench):
    """The call has been made: its outcome is written once Redis is back, and nothing is sent twice."""
    bench.take()
    with gone(bench.store.turns, "take", times=5, after=1) as calls:
        bench.carry()

    assert len(calls) == 6
    assert bench.where() == {}
    assert bench.calls() == [(FIRST, 1, 200)]
    bench.check()


@pytest.mark.parametrize(
    ("verb", "fault", "failures", "where"),
    [
        ("reopen", {}, 1, {}),
        ("rest", {"throttle": 30}, 0, {"pending": 1}),
        ("fail", {"status": 500}, 0, {"backoff": 1}),
        ("block", {"hang": True}, 0, {"backoff": 1}),
        ("block", {"reset": True}, 0, {"backoff": 1}),
        ("block", {"slow": 15.0}, 0, {}),
    ],
    ids=["good answer", "throttle", "error", "time-out", "cut", "late answer"],
)
def test_redis_gone_just_after_the_answer_changes_no_outcome(make_bench, verb, fault, failures, where):
    """What the windows must learn of an answer is told them once Redis is back, and the event is settled by it."""
    bench = make_bench(timeout=0.5, guard=SHORT_GUARD)
    bench.take()
    first = bench.settings.endpoints[FIRST]
    for _ in range(failures):
        bench.store.breaker.fail(first, first_rest_seconds=1.0, failing=FAILING)
    bench.api.set_fault(FIRST, **fault)
    told = bench.store.breaker if hasattr(bench.store.breaker, verb) else bench.store.windows
    with gone(told, verb, times=3) as calls:
        bench.carry()
    ended = bench.now_us()

    assert len(calls) == 4
    assert bench.where() == where
    assert len(bench.calls()) == 1
    if verb == "rest":
        assert bench.store.windows.look([first])[1][FIRST].rest_seconds > 28
    if verb == "block" and where:  # without an answer
        assert ended - bench.stamps()[0] < 200_000
    bench.check()


def test_redis_gone_just_after_a_late_send_still_awaits_the_answer(make_bench):
    """The call is under way: it is neither forgotten nor sent again, and its slot is stamped anew later."""
    bench = make_bench(guard=0.1)
    bench.take()
    real, left = bench.dispatcher.send, []

    def send(*args):
        time.sleep(0.06)
        left.append(bench.now_us())
        return real(*args)

    with mock.patch.object(bench.dispatcher, "send", send), gone(bench.store.windows, "block", times=2):
        bench.carry()

    assert bench.where() == {}
    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.stamps()[0] >= left[0]
    bench.check()


@pytest.mark.rest
def test_an_answer_is_kept_until_redis_is_back_however_long_that_takes(make_bench):
    """Nobody could take the event meanwhile, though its lease has ended: it is settled, and not sent again."""
    with short_leases():
        bench = make_bench(timeout=0.2)
        bench.take()
        (event_type,) = bench.settings.event_types
        real, tried = bench.store.turns.take, []

        def take(*args, **kwargs):
            tried.append(time.monotonic())
            if len(tried) > 1 and tried[-1] < tried[1] + 2 * event_type.lease_seconds:
                raise StoreUnreachableError("Redis cannot be reached")
            return real(*args, **kwargs)

        with mock.patch.object(bench.store.turns, "take", take):
            bench.carry()

    assert bench.where() == {}
    assert bench.calls() == [(FIRST, 1, 200)]
    assert len(tried) < 30, "once the lease has ended it is tried less often"
    bench.check()


@pytest.mark.parametrize("error", [StoreError, StoreUnreachableError], ids=["refused", "away, and to end"])
def test_an_outcome_that_cannot_be_written_within_the_lease_is_given_up(make_bench, caplog, error):
    """Beyond its lease the event is somebody else's: the lane is free again, and says what it lost."""
    with short_leases():
        bench = make_bench(timeout=0.2)
        bench.take()
        with gone(bench.store.turns, "take", times=10**9, after=1, error=error) as calls, carrying(bench):
            wait_until(lambda: calls, message="it cannot be settled")
            bench.lanes.leaving = error is StoreUnreachableError
    bench.lanes.leaving = False

    assert "could not be settled before its lease ended" in caplog.text
    assert bench.where() == {"inflight": 1}

    wait_until(lambda: bench.store.recovery.orphan_expired([TYPE], bench.now_us()), message="the lease has run out")
    assert bench.where() == {"pending": 1}
    bench.carry()
    assert [attempt for _, attempt, _ in bench.calls()] == [1, 2]


def test_an_answer_after_the_claim_was_lost_changes_nothing(bench, caplog):
    """A worker taken for dead that comes back finds its event gone: no second settlement, no second count."""
    bench.take()
    real = bench.dispatcher.receive

    def receive(*args):
        outcome = real(*args)
        assert bench.store.recovery.orphan_worker("w1") == 1
        return outcome

    with mock.patch.object(bench.dispatcher, "receive", receive), caplog.at_level(logging.INFO, "rlm.delivery.lane"):
        bench.carry()

    assert bench.where() == {"pending": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, f"errors:{FIRST}": 1, f"trouble:{FIRST} worker lost": 1}
    assert "came after its claim was lost" in caplog.text
    bench.check()


def test_a_mistake_of_our_own_loses_nothing(bench, caplog):
    """An exception nobody thought of is logged with its place, and the event goes back."""
    bench.take()
    with mock.patch.object(bench.dispatcher, "connect", side_effect=RuntimeError("oops")):
        bench.carry()

    assert bench.where() == {"pending": 1}
    assert [record.levelno for record in caplog.records if "could not be handled" in record.message] == [logging.ERROR]
    bench.check()


def test_a_connection_that_takes_long_is_not_taken_from_the_time_of_the_call(make_bench):
    """The call has its time-out after it, and ends so that a second of its lease is left all the same."""
    bench = make_bench(timeout=0.5)
    bench.take()
    bench.api.set_fault(FIRST, hang=True)
    real = bench.dispatcher.connect

    def connect(endpoint, seconds, **how):
        time.sleep(0.4)
        return real(endpoint, seconds, **how)

    with mock.patch.object(bench.dispatcher, "connect", connect):
        began = time.monotonic()
        bench.carry()
        took = time.monotonic() - began

    assert 0.9 <= took < 0.5 + LEASE_SLACK_SECONDS / 2


def test_a_slot_that_takes_long_is_not_taken_from_the_time_of_the_call(make_bench):
    """Else a Redis that is slow for a while had calls sent with no time left for an answer, all of them in vain."""
    bench = make_bench(timeout=0.4, processing=0.3, guard=0.1)
    bench.take()
    real, asked = bench.store.windows.acquire, []

    def acquire(endpoint, call=None):
        asked.append(endpoint)
        if len(asked) <= 6:
            time.sleep(0.05)  # too late to use the slot, which is asked for again
        return real(endpoint, call)

    with in_doubt(bench), mock.patch.object(bench.store.windows, "acquire", acquire):
        bench.carry()

    assert len(asked) == 7
    assert [one.status for one in bench.api.arrivals] == [200]
    assert not bench.where()


def test_a_server_killed_between_answer_and_settlement_loses_nothing(tmp_path):
    """The real thing: Valkey is killed while calls are under way, comes back with its data, and they are settled."""
    server = EmbeddedServer(tmp_path / "data")
    server.join()
    try:
        with Bench(server.url, tmp_path, processing=0.02) as bench:
            bench.take(2)
            bench.release(2)
            bench.api.set_fault(FIRST, slow=25.0)
            lanes = [threading.Thread(target=bench.lanes.carry, args=(bench.run_id,)) for _ in range(2)]
            for lane in lanes:
                lane.start()
            wait_until(lambda: len(bench.api.arrivals) == 2, message="both calls are under way")
            pid = bench.store.client.info("server")["process_id"]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: all(status for _, _, status in bench.calls()), message="both are answered")
            assert all(lane.is_alive() for lane in lanes)
            server.join()
            for lane in lanes:
                lane.join(PATIENCE)

            assert bench.where() == {}
            assert [status for _, _, status in bench.calls()] == [200, 200]
            bench.check()
    finally:
        server.leave()
