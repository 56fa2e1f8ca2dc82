"""One event from claim to settlement: the real lane, a real Valkey, a strict API; and the books always balance."""

from __future__ import annotations

import logging
import os
import signal
import threading
from unittest import mock

import pytest

from rlm.delivery.http import Connection
from tests.bench import FIRST, TYPE, Bench
from tests.ownserver import OwnServer
from tests.wait import wait_until

#: Seconds until something that ought to have happened has not.
PATIENCE = 10.0


@pytest.fixture
def bench(valkey_only_url, tmp_path):
    with Bench(valkey_only_url, tmp_path) as bench:
        yield bench


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
