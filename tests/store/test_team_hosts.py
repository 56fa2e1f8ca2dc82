"""What is reported of missing workers if hosts are full or lost."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.ledger.processes import Offer, Process, Role
from scheduler import team
from scheduler.team import TeamWatch


@pytest.fixture
def watch(store, monkeypatch):
    """A watch without patience."""
    for name in ("PATIENCE_SECONDS", "FIRST_PATIENCE_SECONDS", "UNKNOWN_SECONDS"):
        monkeypatch.setattr(team, name, -1.0)
    return TeamWatch(store, "run", SimpleNamespace(lately_away=False))


def say(store, host, capacity=20):
    process = Process(f"{host}:1:x", 1, host, 0.0, offer=Offer(capacity, 0, 20))
    store.processes.announce(Role.SUPERVISOR, process)


def test_hosts_that_take_no_more_are_why(store, watch):
    """And not the log of a supervisor."""
    say(store, "a", 4)

    assert watch.look(4, 20).shortage == (
        "4 workers are ready of 20 wanted, and the hosts take no more: see `rlm worker list`"
    )


def test_where_no_supervisor_is_heard_of_it_says_what_to_start(watch, monkeypatch):
    """And for how long workers are missing: between two runs it was said, in an open one it was not."""
    monkeypatch.setattr("scheduler.team.system_clock", SimpleNamespace(monotonic=iter([10.0, 14.5]).__next__))

    watch.look(0, 3)
    team = watch.look(0, 3)

    assert team.shortage == (
        "no worker is ready of 3 wanted, and no supervisor is heard from: `rlm up` or `rlm supervisor` starts one"
    )
    assert team.short_seconds == 4.5


def test_of_workers_that_are_late_no_more_is_said_than_is_known(store, watch):
    """They may be starting, or their supervisor has just died: its entry does not say yet."""
    say(store, "a")

    missing = "those missing are not up yet: check whether their supervisor is alive, and its log"
    assert watch.look(1, 20).shortage == f"1 worker is ready of 20 wanted, and {missing}"


def test_a_supervisor_that_died_is_the_alarm(store, watch, caplog):
    """Instead of one for want of workers."""
    say(store, "a")
    store.client.delete(store.keys.process(Role.SUPERVISOR, "a:1:x"))
    watch.look(0, 20)
    watch.look(0, 20)

    assert [one.alarm for one in caplog.records if hasattr(one, "alarm")] == ["process_died"]
