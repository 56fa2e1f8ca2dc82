"""Redis is killed, restarted, away or frozen in mid-run: no call without a slot, and what is promised holds."""

from __future__ import annotations

import signal
import time

import pytest

from tests.blackbox.system import moment, until

pytestmark = pytest.mark.rest


@pytest.fixture
def system(mid_run):
    return mid_run


def test_redis_is_killed_and_starts_again(system):
    system.server.kill()
    system.server.start()
    system.assert_promises()


def test_redis_is_away_for_longer_than_a_run(system):
    system.server.kill()
    gone = time.monotonic()
    assert system.rlm("status", code=4).out == ""
    until("more than a run has passed", lambda: time.monotonic() > gone + 6)
    away = [call for call in system.api.calls if call.at > gone + 1]
    assert away == []
    system.server.start()
    system.assert_promises()
    for record in system.records():
        assert moment(record["finished_at"]) <= moment(record["deadline"]) + 1 or record["state"] == "failed"


def test_redis_freezes_for_a_while(system):
    pid = system.redis.info("server")["process_id"]
    system.server.signal(signal.SIGSTOP)
    frozen = time.monotonic()
    try:
        until("a while has passed", lambda: time.monotonic() > frozen + 2.5)
        assert [call for call in system.api.calls if call.at > frozen + 1] == []
    finally:
        system.server.signal(signal.SIGCONT)
    assert system.redis.info("server")["process_id"] == pid
    system.assert_promises()


def test_redis_is_killed_with_everything_else(system):
    system.stop()
    system.server.kill()
    system.server.start()
    system.up()
    system.assert_promises()
