"""`rlm supervisor list`, `drain` and `forget`: the hosts, and orders for them."""

from __future__ import annotations

import threading

import pytest

from rlm.ledger.processes import Offer, Process, Role
from tests.wait import wait_until


@pytest.fixture
def say(inst):
    """Let a supervisor of a host announce itself."""

    def say(host, capacity=20):
        process = Process(f"{host}:1:x", 1, host, 0.0, version="1.0", offer=Offer(capacity, 0, 20, {"zone": host}))
        inst.store.processes.announce(Role.SUPERVISOR, process)

    return say


def test_without_hosts_it_says_how_to_start_one(inst):
    """No row, and the way out."""
    assert "No host is known" in inst.rlm("supervisor", "list").stdout


def test_hosts_are_listed_with_what_they_have(inst, say):
    """A row each, and why one is not ready."""
    say("a")
    say("b", 5)
    inst.store.client.set(inst.store.keys.wanted, 20)
    inst.rlm("supervisor", "drain", "b", "--reason", "new disk")

    shown = inst.rlm("supervisor", "list").stdout
    assert "zone=a" in shown
    assert "b: drained by " in shown
    assert "new disk" in shown
    assert [(one["host"], one["share"]) for one in inst.json("supervisor", "list")] == [("a", 20), ("b", 0)]


def test_a_drain_stands_until_it_is_taken_back(inst, say):
    """It is said what happens, and `rlm orders` tells who ordered it."""
    say("a")
    say("b")
    first = inst.rlm("supervisor", "drain", "b")
    again = inst.rlm("supervisor", "drain", "b")
    off = inst.rlm("supervisor", "drain", "b", "--off")
    not_drained = inst.rlm("supervisor", "drain", "b", "--off")

    assert "b takes no share of the workers any more" in first.stdout
    assert "`rlm supervisor drain b --off`" in first.stdout
    assert "b was drained already" in again.stdout
    assert "b takes its share again." in off.stdout
    assert "b was not drained." in not_drained.stdout
    assert [one["what"] for one in inst.json("orders")] == ["undrain_host"] * 2 + ["drain_host"] * 2


def test_with_the_last_host_drained_it_says_that_nothing_is_sent(inst, say):
    """Plainly, where it is ordered."""
    say("a")
    done = inst.rlm("supervisor", "drain", "a")

    assert "No host takes workers now: nothing is sent until one does." in done.stdout
    assert inst.json("supervisor", "drain", "a")["left"] == 0


def test_it_waits_until_no_worker_is_left(inst, say):
    """As before a reboot."""
    say("a")
    worker = Process("a:1:x:1", 1, "a", 0.0, "ready", 5, supervisor="a:1:x")
    inst.store.processes.announce(Role.WORKER, worker)
    done = []
    waiting = threading.Thread(target=lambda: done.append(inst.json("supervisor", "drain", "a", "--wait")))
    waiting.start()
    wait_until(lambda: set(inst.store.hosts.idle()) == {"a"}, message="it is ordered")
    assert not done
    inst.store.processes.forget(Role.WORKER, worker.id)
    waiting.join()

    assert done == [{"host": "a", "drained": True, "changed": True, "workers": 0, "left": 0}]


@pytest.mark.parametrize("order", [["drain", "c"], ["drain", "c", "--off"], ["forget", "c"]])
def test_a_host_that_is_not_known_is_refused_with_those_that_are(inst, say, order):
    """Exit code 2, and nothing is changed."""
    say("a")
    say("b")
    done = inst.rlm("supervisor", *order, code=2)

    assert "There is no host 'c'; known are a, b." in done.stderr
    assert not inst.store.hosts.idle()


def test_only_a_host_that_is_not_heard_of_can_be_forgotten(inst, say):
    """Then it is named no more."""
    say("a")
    refused = inst.rlm("supervisor", "forget", "a", code=2)
    assert "Host a is heard from, so it cannot be forgotten" in refused.stderr

    inst.store.client.delete(inst.store.keys.process(Role.SUPERVISOR, "a:1:x"))
    inst.store.hosts.lose("a")
    assert "a is forgotten." in inst.rlm("supervisor", "forget", "a").stdout
    assert inst.json("supervisor", "list") == []


def test_options_go_behind_the_command(inst):
    """Before it they would mean the supervisor itself."""
    done = inst.rlm("supervisor", "--allow-volatile", "list", code=2)

    assert "Options go after the command." in done.stderr
