"""One event from claim to settlement: the real lane, a real Valkey, a strict API; and the books always balance."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest import mock

import pytest

from rlm.core.endpoint import Success
from rlm.core.errors import StoreUnreachableError
from tests.acceptance.scripted import OK, Server
from tests.bench import FIRST, SECOND, TYPE, Bench
from tests.ownserver import OwnServer
from tests.values import replace
from tests.wait import wait_until

#: Seconds until something that ought to have happened has not.
PATIENCE = 10.0


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
def failing(target, verb, which, *, before):
    """Let the calls of `verb` that are numbered in `which` fail, `before` or after they had their effect."""
    real, calls = getattr(target, verb), []

    def call(*args):
        calls.append(args)
        number = len(calls)
        if number in which and before:
            raise StoreUnreachableError("Redis cannot be reached")
        reply = real(*args)
        if number in which:
            raise StoreUnreachableError("its answer was lost")
        return reply

    with mock.patch.object(target, verb, call):
        yield calls


# -- what an answer leads to


def test_an_unexpected_answer_is_tried_again(bench):
    """A 200 that is not what success is by the configuration does not complete an event."""
    bench.change_endpoints(lambda one: replace(one, success=Success(field="result")))
    bench.take()
    bench.carry(until=lambda: bench.where() == {"backoff": 1})

    assert f"trouble:{FIRST} unexpected_answer" in bench.tally()


def test_an_event_that_cannot_be_sent_is_a_dead_letter_and_stands_in_nobodys_way(bench):
    """Its item was damaged in the ledger: no call, and the event behind it is sent."""
    broken, event_id = bench.take(2)
    bench.store.client.hset(bench.store.keys.event(broken), "item", "{")
    bench.carry()

    assert [one.event_id for one in bench.api.arrivals] == [event_id]
    assert [one["event_id"] for one in bench.letters()] == [broken]
    bench.check()


# -- slots


@pytest.mark.parametrize("fault", [{"hang": True}, {"reset": True}], ids=["time-out", "cut"])
def test_a_call_without_an_answer_blocks_its_slot_from_its_end(make_bench, fault):
    """Time-out or cut connection: the slot counts for a period from when the connection was closed, and no shorter."""
    bench = make_bench(timeout=0.4, max_attempts=2)
    bench.take()
    bench.api.set_fault(FIRST, **fault)
    began = bench.now_us()
    bench.carry(until=lambda: bench.where() == {})

    (stamp,) = bench.stamps()
    assert stamp > began + (400_000 if "hang" in fault else 0)
    assert [(endpoint, attempt) for endpoint, attempt, _ in bench.calls()] == [(FIRST, 1), (SECOND, 2)]
    bench.check()


def test_a_refused_connection_uses_no_slot(bench):
    """Nobody there: no slot stays taken, the attempt is spent, the event goes elsewhere."""
    bench.take()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    bench.redirect(FIRST, f"http://127.0.0.1:{port}/")
    bench.carry(until=lambda: bench.where() == {})

    assert bench.stamps(FIRST) == []
    assert bench.calls() == [(SECOND, 2, 200)]


# -- time


def test_a_call_under_way_at_the_deadline_is_cut_and_spends_no_run(make_bench):
    """At the deadline the call ends, not at its time-out; the event is left over with an attempt more, no run less."""
    bench = make_bench(window=0.6, processing=0.1, timeout=5.0, max_attempts=1, max_runs=1)
    (event_id,) = bench.take()
    bench.api.set_fault(FIRST, hang=True)
    bench.carry(until=lambda: bench.tally().get(f"trouble:{FIRST} cut by the deadline"))

    assert bench.deadline_in() <= 0
    assert bench.letters() == []
    assert bench.event(event_id)["attempt"] == "1"
    bench.end_run()
    bench.open_run(window=30.0)
    assert bench.where() == {"pending": 1}


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

        bench.carry(until=lambda: bench.where() == {})

        assert (server.connections, len(server.requests)) == (kept + 1, 2)


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
    bench.check()


# -- runs


def test_a_run_that_is_cancelled_keeps_what_was_answered(bench):
    """The event in hand is settled with the turn that gets no other one."""
    bench.take(2)
    real = bench.dispatcher.receive

    def receive(*args):
        outcome = real(*args)
        bench.store.runs.cancel(bench.run_id)
        return outcome

    with mock.patch.object(bench.dispatcher, "receive", receive):
        bench.carry(until=bench.calls)

    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.where() == {"pending": 1}
    assert bench.tally()[f"completed:{TYPE}"] == 1
    bench.check()


# -- Redis away


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_turn_whose_answer_is_lost_settles_and_claims_once(bench, nth):
    """The same number repeats the answer: nothing is counted twice, sent twice, or forgotten."""
    ids = bench.take(3)
    with failing(bench.store.turns, "take", {nth}, before=False):
        bench.carry()

    assert sorted(one.event_id for one in bench.api.arrivals) == sorted(ids)
    assert len(bench.stamps()) == 3
    bench.check()


def test_a_call_whose_slot_could_not_be_moved_is_not_made_then(bench):
    """The event goes back, and is sent over the connection that was opened."""
    bench.take()
    with failing(bench.store.turns, "restamp", {1}, before=True):
        bench.carry()

    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.tally()[f"unsent:{TYPE}"] == 1
    bench.check()


@pytest.mark.parametrize(
    "fault",
    [{}, {"throttle": 30}, {"status": 500}, {"hang": True}, {"slow": 15.0}],
    ids=["good answer", "throttle", "error", "time-out", "late answer"],
)
def test_redis_gone_just_after_the_answer_changes_no_outcome(make_bench, fault):
    """The call has been made: its outcome is written once Redis is back, and nothing is sent twice."""
    bench = make_bench(timeout=0.5, guard=0.15)
    bench.take()
    bench.api.set_fault(FIRST, **fault)
    turns, real, answered = bench.store.turns, bench.dispatcher.receive, []
    take = turns.take

    def away(ask):
        if answered and len(answered) < 4:
            answered.append(ask)
            raise StoreUnreachableError("Redis cannot be reached")
        return take(ask)

    def receive(*args):
        outcome = real(*args)
        answered.append(outcome)
        return outcome

    with mock.patch.object(bench.dispatcher, "receive", receive), mock.patch.object(turns, "take", away):
        bench.carry(until=lambda: bench.where() == {})

    assert [endpoint for endpoint, _, _ in bench.calls()] == (
        [FIRST] if "slow" in fault or not fault else [FIRST, SECOND]
    )
    bench.check()


def test_an_answer_after_the_claim_was_lost_changes_nothing(bench, caplog):
    """A worker taken for dead that comes back finds its event gone: no second settlement, no second count."""
    bench.take()
    real = bench.dispatcher.receive

    def receive(*args):
        outcome = real(*args)
        bench.store.recovery.reap("w1")
        bench.store.runs.cancel(bench.run_id)
        return outcome

    with (
        mock.patch.object(bench.dispatcher, "receive", receive),
        caplog.at_level(logging.INFO, "rlm.delivery.lane"),
    ):
        bench.carry(until=lambda: "came after its claim was lost" in caplog.text)

    assert bench.where() == {"pending": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, f"errors:{FIRST}": 1, f"trouble:{FIRST} worker lost": 1}
    bench.check()


def test_a_call_that_is_given_back_is_not_asked_for_again_and_again(bench):
    """Mostly the host is too busy for it to leave in time, and would be kept busy with calls of which none is made."""
    bench.take()
    began, every = time.monotonic(), range(1, 1000)
    fresh = partial(bench.dispatcher.connect, fresh=True)  # over a kept connection it would leave
    with (
        mock.patch.object(bench.dispatcher, "connect", lambda endpoint, seconds, **_: fresh(endpoint, seconds)),
        failing(bench.store.turns, "restamp", every, before=True) as tried,
    ):
        bench.carry(lanes=5, until=lambda: time.monotonic() > began + 1)

    assert 2 < len(tried) < 25
    assert bench.where() == {"pending": 1}
    bench.check()


def test_a_server_killed_between_answer_and_settlement_loses_nothing(tmp_path):
    """The real thing: Valkey is killed while calls are under way, comes back with its data, and they are settled."""
    with OwnServer(tmp_path / "data") as server, Bench(server.url, tmp_path, processing=0.02) as bench:
        bench.take(2)
        bench.api.set_fault(FIRST, slow=25.0)
        lanes = [threading.Thread(target=bench.lanes.carry) for _ in range(2)]
        for lane in lanes:
            lane.start()
        wait_until(lambda: len(bench.api.arrivals) == 2, message="both calls are under way")
        pid = bench.store.client.info("server")["process_id"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(status for _, _, status in bench.calls()), message="both are answered")
        assert all(lane.is_alive() for lane in lanes)
        server.start()
        wait_until(lambda: bench.where() == {}, message="both are settled")
        bench.lanes.stop()
        for lane in lanes:
            lane.join(PATIENCE)

        assert [status for _, _, status in bench.calls()] == [200, 200]
        bench.check()
