"""Whatever a key contains, one look repairs it: its content is set aside, events are found, nothing opens early."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from unittest import mock

import pytest

from rlm.core.errors import FencedError, StoreError
from rlm.delivery.run_end import close_run
from rlm.ledger import keys
from rlm.ledger.inspection import inspect
from rlm.ledger.processes import Process, Role
from rlm.ledger.reading.books import books
from scheduler import redis_watch
from scheduler.leader import MOST_ASKS, Duty, Leader
from scheduler.redis_watch import LOOKING_PART, Mender
from tests.faults import poisons
from tests.store import looks, steps
from tests.values import as_json


@pytest.fixture
def server_url(valkey_only_url):
    """The bundled server only: repairs do not depend on the server."""
    return valkey_only_url


@pytest.fixture
def leader(store):
    made = Leader(store.leases, "here")
    assert made.campaign()
    yield made
    with suppress(StoreError):
        made.resign()


@pytest.fixture
def mender(store, leader):
    """The mender of a scheduler that conducts."""
    return Mender(store, leader)


def _table():
    """Return the type of each family of keys, by its name in the table."""
    rows = [line.split() for line in (keys.__doc__ or "").splitlines()]
    kinds = {"string", "hash", "list", "set", "zset"}
    told = {}
    for row in rows:
        names, kind = next(((row[:at], word) for at, word in enumerate(row[:3]) if word in kinds), ([], ""))
        told.update({name.rstrip(","): kind for name in names})

    return told


def test_every_poison_is_found_and_mended_at_one_look(store, leader, mender, monkeypatch):
    """And the look after that finds nothing."""
    monkeypatch.setattr(poisons, "POISONED", steps.TYPE)
    monkeypatch.setattr(poisons, "VALUES", {"undecodable": b"\xff", "huge": b"1e300"})
    one = next(iter(store.settings.endpoints.values()))
    monkeypatch.setattr(poisons, "families", lambda *_: _families(store, one.window_id))
    store.processes.announce(Role.WORKER, Process("w1", 1, "host", 1.0))
    left = {}

    for poison in poisons.all_poisons(store, "w1"):
        poison.apply(store.client)
        _mend(leader, mender, twice=poison.family == "lease")
        if found := inspect(store, deep=True, records=True):
            left[poison.name] = found

    assert left == {}
    assert {one.key for one in store.quarantine.all()} >= {store.keys.types, store.keys.epoch, store.keys.current}


def _families(store, window_id):
    keys = store.keys
    found = {name: (getattr(keys, name), kind) for name, kind in _table().items() if hasattr(keys, name)}
    found = {name: pair for name, pair in found.items() if isinstance(pair[0], str) and name != "quarantine"}
    for name in ("pending", "backoff", "spent", "inflight", "retried"):
        found[name] = (getattr(keys, name)(steps.TYPE), "zset")
    for name, kind in (("window", "list"), ("moved", "list"), ("health", "hash")):
        found[name] = (getattr(keys, name)(window_id), kind)
    return found | {
        "filed": (keys.limits_filed, "hash"),
        "calls": (keys.calls("w1"), "hash"),
        "processes": (keys.processes(Role.WORKER), "set"),
    }


def _mend(leader, mender, *, twice):
    """Look twice if the lease itself was poisoned: its holder has another number then."""
    for _ in range(1 + twice):
        with suppress(FencedError, StoreError):
            leader.token = 0
            leader.campaign()
            mender.mend()


def test_the_events_of_a_lost_zset_are_found_again(store, mender, running):
    """And the books of the open run balance."""
    running(5)
    before = looks.pending(store)
    store.client.set(store.keys.pending(steps.TYPE), "another type")

    mender.before_run()

    assert looks.pending(store) == before
    assert books(store).faults == []


@pytest.fixture
def running(store, leader):
    def start(number):
        steps.push(store, *steps.items(number, steps.TYPE))
        return steps.start_run(store, leader.token)

    return start


@pytest.mark.parametrize("family", ["window", "health"])
@pytest.mark.parametrize("value", [b"another type", None], ids=["type", "entries"])
def test_a_window_that_held_what_it_cannot_opens_after_its_longest_period(store, mender, family, value):
    """Calls may be among what was lost."""
    endpoint = store.settings.endpoints[steps.ENDPOINT]
    key = getattr(store.keys, family)(endpoint.window_id)
    if value:
        store.client.set(key, value)
    elif family == "window":
        store.client.rpush(key, b"garbage")
    else:
        store.client.hset(key, "rest_until_us", "garbage")

    mender.before_run()

    view = store.windows.look([endpoint])[1][endpoint.name]
    assert view.held_seconds > endpoint.limit.longest_seconds
    others = [one for one in store.settings.endpoints.values() if one != endpoint]
    assert not any(one.held_seconds for one in store.windows.look(others)[1].values())


def test_a_limit_set_by_hand_is_set_again(store, mender):
    """It is among the changes that were recorded; nothing else knows of it."""
    endpoint = store.settings.endpoints[steps.ENDPOINT]
    store.publish_limits(mender._leader.token)
    store.control.limit(endpoint, "3/minute", "me@here")
    store.client.delete(store.keys.limits)
    store.client.set(store.keys.limits, "another type")

    mender.before_run()

    assert store.limits() == {endpoint.name: "3/minute"}


def test_a_run_of_which_nothing_is_left_is_closed_with_its_events_left_over(store, mender, running):
    """By the ordinary path: its record says why, and the next run has its events."""
    run = running(4)
    steps.release(store, mender._leader.token, run, 2)
    store.client.delete(store.keys.run(run.id))

    mender.before_run()
    record = close_run(store, run.id)

    assert record["state"] == "failed"
    assert record["counts"]["leftover"] == 4
    assert looks.counts(store).pending == 4
    assert books(store).faults == []


def test_events_go_on_in_their_order_where_the_count_of_arrivals_was_lost(store, mender, running):
    """What comes later is later."""
    run = running(2)
    before = looks.pending(store)
    store.client.delete(store.keys.sequence)
    store.client.rpush(store.keys.sequence, "another type")

    mender.before_run()
    steps.push(store, steps.item("later", steps.TYPE))
    steps.finish(store, mender._leader.token, run)
    close_run(store, run.id)
    steps.start_run(store, mender._leader.token)

    assert [*before, f"later:{steps.TYPE}"] == looks.pending(store)


def test_a_record_that_is_none_is_left_out_and_told_of(store, running, mender, caplog):
    """The others are shown: `rlm list` and `rlm result` are of these."""
    run = running(1)
    steps.finish(store, mender._leader.token, run)
    record = close_run(store, run.id)
    store.client.hset(store.keys.records, "20991231T000000000Z-dead", b"[]")
    store.client.lpush(store.keys.runs, "20991231T000000000Z-dead")

    assert [*map(as_json, store.runs.recent(5))] == [record]
    assert as_json(store.runs.record("20991231T000000000Z-dead")) is None
    assert "20991231T000000000Z-dead is not a record" in caplog.text


def test_who_floods_the_list_of_requests_does_not_hold_a_run_up(store, running):
    """So many are answered at each look, the others at the next."""
    run = running(1)
    store.client.lpush(store.keys.requests, *(f"r{index}" for index in range(MOST_ASKS + 5)))

    Duty(store, None, "me").serve(run)

    assert store.client.llen(store.keys.requests) == 5


def test_a_look_that_takes_long_is_made_less_often(mender, monkeypatch):
    """With thousands of endpoints there is much to read: the run goes on in between."""
    now, looks_made = [1000.0], []

    def slow(_store, **_how):
        looks_made.append(now[0])
        now[0] += 2.0
        return []

    monkeypatch.setattr("scheduler.redis_watch.inspect", slow)
    monkeypatch.setattr("scheduler.redis_watch.system_clock.monotonic", lambda: now[0])

    for _ in range(80):
        mender.step()
        now[0] += 1.0

    assert [round(b - a) for a, b in pairwise(looks_made)] == [2 * LOOKING_PART] * 2


def test_what_refuses_the_mender_as_well_is_told_once(leader, mender, monkeypatch, caplog):
    """Whoever met it tells of it now and then; the mender would tell of it several times a second."""
    caplog.set_level("INFO", logger="scheduler.redis_watch")
    refused = StoreError("Redis refuses the login", "correct user and password")
    monkeypatch.setattr(redis_watch, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(redis_watch, "inspect", mock.Mock(side_effect=refused))

    for _ in range(3):
        mender.after(StoreError(refused.what))
    assert not caplog.messages

    mender.after(StoreError("something else"))
    assert caplog.messages == [f"What Redis holds could not be repaired yet: {refused}"]
