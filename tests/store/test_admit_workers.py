"""Places for workers: never more than exist, over all supervisors, however they ask."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from rlm.ledger.hosts import SILENT_SECONDS
from rlm.ledger.processes import BRISK_SECONDS, HEARTBEAT_TTL_SECONDS, SILENT_TIMES, Process, Role
from rlm.ledger.store import Store
from tests.values import replace

pytestmark = pytest.mark.both_servers


def workers(supervisor, number, first=1):
    """The next workers of a supervisor."""
    return [
        Process(f"{supervisor}:{one}", 0, supervisor.partition(":")[0], 0.0, "starting", 5, "", supervisor)
        for one in range(first, first + number)
    ]


def entered(store):
    return sorted(name for name, one in store.processes.heard(Role.WORKER).items() if one)


def test_as_many_are_entered_as_there_are_places(store):
    """The first named, whose entries live as long as any."""
    assert store.places.admit(workers("a:1:x", 3), 0, 4) == 3
    assert store.places.admit(workers("b:1:x", 3), 0, 4) == 1
    assert store.places.admit(workers("c:1:x", 1), 0, 4) == 0

    assert entered(store) == ["a:1:x:1", "a:1:x:2", "a:1:x:3", "b:1:x:1"]
    lives_ms = 1000 * HEARTBEAT_TTL_SECONDS
    assert lives_ms - 1000 < store.client.pttl(store.keys.process(Role.WORKER, "b:1:x:1")) <= lives_ms
    assert store.places.left("a:1:x", 4) == 3


def test_what_a_supervisor_has_already_is_as_many_as_it_says(store):
    """It knows its own, whatever Redis has forgotten of them; to ask again for the same changes nothing."""
    assert store.places.admit(workers("a:1:x", 2), 3, 4) == 1
    assert store.places.admit(workers("a:1:x", 2), 3, 4) == 1

    assert entered(store) == ["a:1:x:1"]


def test_the_dead_and_those_started_by_hand_take_no_place(store):
    """The first are in the register until somebody has cleaned up after them."""
    store.places.admit(workers("a:1:x", 2), 0, 2)
    store.client.delete(store.keys.process(Role.WORKER, "a:1:x:1"))
    store.processes.announce(Role.WORKER, replace(workers("a:1:x", 1)[0], id="a:9:hand", supervisor=""))

    assert store.places.admit(workers("b:1:x", 2), 0, 2) == 1


def test_the_silent_take_no_place(store):
    """A worker announces itself sooner, so that its host is gone, or it is frozen. An entry without an end stays."""
    store.places.admit(workers("a:1:x", 3), 0, 3)
    for number, silent_seconds in ((1, SILENT_SECONDS + 0.01), (2, SILENT_SECONDS - 1)):
        left_ms = round(1000 * (HEARTBEAT_TTL_SECONDS - silent_seconds))
        store.client.pexpire(store.keys.process(Role.WORKER, f"a:1:x:{number}"), left_ms)
    store.client.persist(store.keys.process(Role.WORKER, "a:1:x:3"))

    assert store.places.admit(workers("b:1:x", 3), 0, 3) == 1


def test_one_that_speaks_more_often_is_silent_sooner(store):
    """It had events in hand."""
    (worker,) = workers("a:1:x", 1)
    for silent_seconds, places in ((SILENT_TIMES * BRISK_SECONDS - 0.5, 0), (SILENT_TIMES * BRISK_SECONDS + 0.01, 1)):
        store.processes.announce(Role.WORKER, replace(worker, every=BRISK_SECONDS))
        left_ms = round(1000 * (HEARTBEAT_TTL_SECONDS - silent_seconds))
        store.client.pexpire(store.keys.process(Role.WORKER, worker.id), left_ms)

        assert store.places.admit(workers("b:1:x", 1), 0, 1) == places


def test_none_are_asked_for(store):
    """Nothing is done."""
    assert store.places.admit([], 0, 2) == 0


def test_supervisors_that_ask_at_the_same_moment_take_no_more_than_there_are(store, settings):
    """Each looks, and another may have taken a place before it takes one itself."""

    def ask(name):
        taken = 0
        with Store(settings, store.url) as own:
            for _ in range(8):
                taken += own.places.admit(workers(f"{name}:1:x", 2, first=taken + 1), taken, 20)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(ask, "abcd"))

    assert sum(taken) == len(entered(store)) <= 20
    assert sum(taken) >= 16
