"""Compressed waiting items in a whole system: killed processes, letters, leftovers, and back to uncompressed."""

from __future__ import annotations

import json

import pytest

from rlm.sandbox.mockapi import service
from tests.acceptance.system import make_item
from tests.faults.crashes import PAIR, crashing
from tests.faults.mishaps import kill_workers
from tests.leftbehind import nothing_left_behind
from tests.wait import wait_until

pytestmark = pytest.mark.long

ITEMS = 2000
#: Seconds of a window in which not all are sent, and of one in which the rest is.
SHORT, LONG = "8", "90"
SINCE = "2026-11-28T10:15:00.000Z"


@pytest.fixture
def bodies(monkeypatch):
    """The JSON of every call that the API has read."""
    found, decode = [], service._decode_call

    def noting(body):
        found.append(json.loads(body))
        return decode(body)

    monkeypatch.setattr(service, "_decode_call", noting)
    return found


@pytest.mark.timeout(600)
def test_every_item_comes_as_it_was_whatever_happens(tmp_path, bodies):
    """To the API, a dead letter, a retry and each command; also once the setting is off while some are still packed."""
    env = {"RLM_QUEUE__COMPRESS": "true", "RLM_RUN__WINDOW_SECONDS": SHORT, "RLM_WORKERS__MIN": "2"}
    with nothing_left_behind(tmp_path), crashing(tmp_path / "s", env=env) as system:
        items = {
            f"e{n}": make_item(f"e{n}", *types_of(system, n), note=f"{n} ✓", timestamp=SINCE) for n in range(ITEMS)
        }
        system.api.set_faults({"rebalance_api": {"status": 422, "error_rate": 0.2}})

        events = system.push(items.values())
        first = run_with_deaths(system)
        assert 0 < first["counts"]["failed"] < first["counts"]["leftover"]
        assert packed(system) > 0.9 * first["counts"]["leftover"]
        assert_looks_right(system, items)

        switch_off(system)
        system.api.set_faults({"rebalance_api": {}})
        assert "retried" in system.rlm("failed", "retry", "--all", "--yes").stdout
        last = system.await_record(system.ask_for_run(), timeout=2 * float(LONG))
        assert last["counts"]["leftover"] == last["counts"]["failed"] == 0 == packed(system)

        assert set(system.answered()) == set(events)
        assert [one for one in bodies if one["item"] != items[one["item"]["id"]]] == []
        assert [one for one in bodies if one["wallet_name"] != one["item"]["wallet_name"]] == []
        system.assert_promises(events, [first, last])


def types_of(system, number):
    return system.types[number % 5 :][: 1 + number % 2]


def run_with_deaths(system):
    """Let a scheduler die in the drain and workers during the run; return the record."""
    system.arm("scheduler", "drain.chunk_taken:5")
    reply = system.asked()
    system.await_crash("scheduler", timeout=20)
    system.start_scheduler(system.dead_scheduler())
    wait_until(lambda: len(system.api.arrivals) > 50, timeout=30, message="calls are made")
    kill_workers(system)
    answer = wait_until(reply, message="who asked for the run is answered")
    return system.await_record(answer.get("run_id") or answer["open"])


def packed(system):
    """Count the events whose items are packed."""
    keys = [system.store.keys.event(one) for one in system.pending()]
    kept = [system.store.client.hget(key, "item") for key in keys]
    assert all(kept)
    return sum(not one.startswith(b"{") for one in kept)


def assert_looks_right(system, items):
    """Check that each command shows the original items of leftovers and dead letters."""
    left = json.loads(system.rlm("queue", "list", "50", "--json").stdout)["events"]
    assert {(one["wallet_name"], one["since"]) for one in left} == {
        (items[one["event_id"].partition(":")[0]]["wallet_name"], SINCE) for one in left
    }
    assert json.loads(system.rlm("explain", left[0]["event_id"], "--json").stdout)
    assert json.loads(system.rlm("queue", "stats", "--json").stdout)
    letters = system.letters()
    assert letters
    assert [one for one in letters if one["item"] != items[one["item"]["id"]]] == []
    shown = json.loads(system.rlm("failed", "show", letters[0]["id"], "--json").stdout)
    assert json.dumps(items[letters[0]["item"]["id"]]) in json.dumps(shown)


def switch_off(system):
    """Restart everything without the setting."""
    for name in (*PAIR, "supervisor"):
        system.stop(name)
    system._env |= {"RLM_QUEUE__COMPRESS": "false", "RLM_RUN__WINDOW_SECONDS": LONG}
    system.start_all()
