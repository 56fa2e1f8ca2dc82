"""The leader reports a supervisor that died once, and none that signed off."""

from __future__ import annotations

import pytest

from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Offer, Process, Role
from rlm.processes import sharing
from scheduler.housekeeping import SupervisorWatch
from tests.clocks import SetClock
from tests.store import steps


@pytest.fixture
def clock(monkeypatch):
    made = SetClock()
    monkeypatch.setattr(sharing, "system_clock", made)
    return made


@pytest.fixture
def say(store):
    """Let a supervisor announce itself."""

    def say(name):
        process = Process(name, 1, name.partition(":")[0], 0.0, offer=Offer(20, 0, 20))
        store.processes.announce(Role.SUPERVISOR, process)

    return say


def look(watch, clock, seconds, *, aloud=True):
    """Look every second."""
    for _ in range(seconds):
        clock.time += 1.0
        watch.look(aloud=aloud)


def vanish(store, name):
    steps.silence(store, Role.SUPERVISOR, name)


def alarms(caplog):
    return [one.alarm for one in caplog.records if hasattr(one, "alarm")]


def test_a_supervisor_that_vanished_is_reported_once(store, clock, say, caplog):
    """After a heartbeat's life; it leaves the register. One that is back is another."""
    watch = SupervisorWatch(store)
    say("a:1:x")
    say("b:1:x")
    look(watch, clock, 1)
    vanish(store, "b:1:x")
    look(watch, clock, int(HEARTBEAT_TTL_SECONDS) - 1)
    assert alarms(caplog) == []

    look(watch, clock, 30)
    assert alarms(caplog) == ["process_died"]
    assert "b:1:x" in caplog.text
    assert store.processes.missing(Role.SUPERVISOR) == []


@pytest.mark.parametrize("what", ["signed off", "was heard again", "is not ours to report"])
def test_nobody_is_reported_who(store, clock, say, caplog, what):
    """After a step of the clock of Redis all entries end at once, and are there again with the next heartbeat."""
    watch = SupervisorWatch(store)
    say("a:1:x")
    look(watch, clock, 1)
    if what == "signed off":
        store.processes.sign_off(Role.SUPERVISOR, store.processes.alive(Role.SUPERVISOR)[0])
    else:
        vanish(store, "a:1:x")
    look(watch, clock, 5, aloud=what != "is not ours to report")
    if what == "was heard again":
        say("a:1:x")
    look(watch, clock, 20, aloud=what != "is not ours to report")

    assert alarms(caplog) == []


def test_other_hosts_are_looked_for_until_they_are_gone(store, clock, say):
    """The caller looks more often while there are some."""
    watch = SupervisorWatch(store)
    assert not watch.look(aloud=True)
    say("b:1:x")
    assert watch.look(aloud=True)
    store.processes.sign_off(Role.SUPERVISOR, store.processes.alive(Role.SUPERVISOR)[0])
    vanish(store, "b:1:x")
    look(watch, clock, 10)
    assert not watch.look(aloud=True)
