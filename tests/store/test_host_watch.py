"""The leader reports a lost host once, and reports when it is back."""

from __future__ import annotations

import pytest

from rlm.ledger.processes import BRISK_SECONDS, HEARTBEAT_TTL_SECONDS, Offer, Process, Role
from rlm.processes import sharing
from scheduler import housekeeping
from scheduler.housekeeping import HostWatch
from tests.clocks import SetClock


@pytest.fixture
def clock(monkeypatch):
    made = SetClock()
    for module in (sharing, housekeeping):
        monkeypatch.setattr(module, "system_clock", made)
    return made


@pytest.fixture
def say(store):
    """Let a process announce itself."""

    def say(name, role=Role.SUPERVISOR):
        host = name.partition(":")[0]
        store.processes.announce(role, Process(name, 1, host, 0.0, offer=Offer(20, 0, 20)))

    return say


@pytest.fixture
def watch(store, clock):
    """A watch that leads, and has listened for a heartbeat's lifetime."""
    made = HostWatch(store)
    for _ in range(12):
        clock.time += 1.0
        made.look(aloud=True)
    return made


def look(watch, clock, seconds, *, aloud=True):
    """Look every second; return after how many seconds."""
    for _ in range(seconds):
        clock.time += 1.0
        watch.look(aloud=aloud)


def vanish(store, name):
    store.client.delete(store.keys.process(Role.SUPERVISOR, name))


def alarms(caplog):
    return [(one.alarm, one.host) for one in caplog.records if hasattr(one, "alarm")]


def test_a_host_that_vanished_is_named_once(store, clock, watch, say, caplog):
    """After a heartbeat's life, whoever leads by then; its entry in the register stays, by which it is named."""
    say("a:1:x")
    say("b:1:x")
    look(watch, clock, 1)
    vanish(store, "b:1:x")
    look(watch, clock, int(HEARTBEAT_TTL_SECONDS) - 1)
    assert alarms(caplog) == []

    look(watch, clock, 3)
    assert alarms(caplog) == [("host_lost", "b")]
    assert list(store.hosts.lost()) == ["b"]
    other = HostWatch(store)
    look(other, clock, 30)
    assert alarms(caplog) == [("host_lost", "b")]


def test_a_host_that_is_silent_is_followed_until_it_is_named(store, clock, watch):
    """The last of the others, too: else it would be looked for seldom, and named seconds later."""
    entry = Process("b:1:x", 1, "b", 0.0, offer=Offer(20, 0, 20), every=BRISK_SECONDS)
    store.processes.announce(Role.SUPERVISOR, entry)
    followed = []
    for _ in range(int(HEARTBEAT_TTL_SECONDS)):
        clock.time += 1.0
        followed.append(watch.look(aloud=True))
    assert all(followed)

    vanish(store, "b:1:x")
    assert not watch.look(aloud=True)
    assert list(store.hosts.lost()) == ["b"]


def test_a_host_that_is_back_is_no_longer_lost(store, clock, watch, say, caplog):
    """And nothing is left of its former self; should it vanish again, it is named again."""
    caplog.set_level("INFO")
    for name in ("b:1:x", "b:2:x"):
        say(name)
        look(watch, clock, 1)
        vanish(store, name)
        look(watch, clock, 13)
    assert alarms(caplog) == [("host_lost", "b")] * 2
    assert caplog.text.count("Host b is back, after ") == 1
    assert store.processes.missing(Role.SUPERVISOR) == ["b:2:x"]


def test_nobody_is_named_for_a_step_of_the_clock_of_redis(store, clock, watch, say, caplog):
    """All entries end at once, and all are there again with their next heartbeat."""
    say("a:1:x")
    look(watch, clock, 1)
    vanish(store, "a:1:x")
    look(watch, clock, 5)
    say("a:1:x")
    look(watch, clock, 20)
    assert alarms(caplog) == []


def test_one_that_signed_off_is_not_lost(store, clock, watch, say, caplog):
    """Nor is one whose scheduler lives: its supervisor alone has died."""
    say("a:1:x")
    say("b:1:x")
    say("b:2:x", Role.SCHEDULER)
    look(watch, clock, 1)
    store.processes.sign_off(Role.SUPERVISOR, store.processes.alive(Role.SUPERVISOR)[0])
    vanish(store, "b:1:x")
    look(watch, clock, 20)
    assert alarms(caplog) == []
    assert store.hosts.lost() == {}


def test_who_does_not_lead_names_nobody(store, clock, watch, say, caplog):
    """It follows all the same, so that it can once it leads."""
    say("a:1:x")
    look(watch, clock, 1)
    vanish(store, "a:1:x")
    look(watch, clock, 20, aloud=False)
    assert alarms(caplog) == []
    look(watch, clock, 1)
    assert alarms(caplog) == [("host_lost", "a")]


def test_a_host_is_forgotten_after_a_day(store, clock, watch, say, monkeypatch):
    """Or an operator has it forgotten before."""
    say("a:1:x")
    look(watch, clock, 1)
    vanish(store, "a:1:x")
    look(watch, clock, 20)
    monkeypatch.setattr(housekeeping, "FORGET_SECONDS", -1.0)
    look(watch, clock, 1)
    assert store.hosts.lost() == {}
    assert store.processes.missing(Role.SUPERVISOR) == []
