"""One event from claim to settlement: the real lane, a real Valkey, a strict API; and the books always balance."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from unittest import mock

import pytest

from rlm.core.errors import StoreUnreachableError
from rlm.delivery.http import Connection, Connections
from tests.acceptance.scripted import OK, Server
from tests.bench import FIRST, TYPE, Bench
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


def test_an_event_that_cannot_be_sent_stands_in_nobodys_way(bench):
    """Its item was damaged in the ledger: no call, an attempt is spent, and the event behind it is sent."""
    broken, event_id = bench.take(2)
    bench.store.client.hset(bench.store.keys.event(broken), "item", "{")
    bench.carry()

    assert [one.event_id for one in bench.api.arrivals] == [event_id]


# -- time


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
        for connection in [bench.connections.connect(target.url, PATIENCE) for target in targets]:
            bench.connections.put_back(connection)
        wait_until(lambda: server.open == kept, message="all are open, and would die of a call")
        bench.take()

        bench.carry(until=lambda: bench.where() == {})

        assert (server.connections, len(server.requests)) == (kept + 1, 2)


# -- runs


def test_a_run_that_is_cancelled_keeps_what_was_answered(bench):
    """The event in hand is settled with the turn that gets no other one."""
    bench.take(2)
    real = Connection.receive

    def receive(*args):
        answer = real(*args)
        bench.store.runs.cancel(bench.run_id)
        return answer

    with mock.patch.object(Connection, "receive", receive):
        bench.carry(until=bench.calls)

    assert bench.calls() == [(FIRST, 1, 200)]
    assert bench.where() == {"pending": 1}
    assert bench.tally()[f"completed:{TYPE}"] == 1
    bench.check()


# -- Redis away


def test_a_call_whose_slot_could_not_be_moved_is_not_made_then(bench):
    """The event goes back, and is sent over the connection that was opened."""
    bench.take()
    with failing(bench.store.turns, "restamp", {1}, before=True):
        bench.carry()

    assert bench.calls() == [(FIRST, 1, 200)]
    bench.check()


def test_a_call_that_no_longer_fits_before_the_deadline_once_it_has_connected_is_not_made(make_bench):
    bench, connect, connected = make_bench(window=5.0, processing=2.5), Connections.connect, []
    bench.take()

    def slowly(*args, **more):
        time.sleep(2.7)
        connected.append(connect(*args, **more))
        return connected[-1]

    with mock.patch.object(Connections, "connect", slowly):
        bench.carry(until=lambda: connected and bench.counts().pending)

    assert bench.calls() == []
    bench.check()


def test_an_answer_after_the_claim_was_lost_changes_nothing(bench, caplog):
    """A worker taken for dead that comes back finds its event gone: no second settlement, no second count."""
    bench.take()
    real = Connection.receive

    def receive(*args):
        answer = real(*args)
        bench.store.ledger.reap("w1")
        bench.store.runs.cancel(bench.run_id)
        return answer

    with (
        mock.patch.object(Connection, "receive", receive),
        caplog.at_level(logging.INFO, "rlm.delivery.lane"),
    ):
        bench.carry(until=lambda: "came after its claim was lost" in caplog.text)

    assert bench.where() == {"pending": 1}
    assert bench.tally() == {f"taken:{TYPE}": 1, f"errors:{FIRST}": 1, f"trouble:{FIRST} worker lost": 1}
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
        bench.lanes.gate.stop()
        for lane in lanes:
            lane.join(PATIENCE)

        assert [status for _, _, status in bench.calls()] == [200, 200]
        bench.check()
