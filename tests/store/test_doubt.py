"""One rule for doubt: Redis may have forgotten calls, or its clock stepped; the lease says so, once."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress

import msgspec
import pytest

from rlm.core.clock import system_clock
from rlm.core.errors import StoreUnreachableError
from rlm.ledger.leases import ALONE_SECONDS
from rlm.ledger.processes import Process, Role
from rlm.ledger.store import Store
from rlm.settings import apart_of, load_settings
from tests.each import each
from tests.values import replace
from tests.wait import wait_until

pytestmark = pytest.mark.both_servers

LONG = 600.0
HOUR_US = 3_600_000_000


def lease_of(store):
    return {name.decode(): value.decode() for name, value in store.client.hgetall(store.keys.lease).items()}


def is_doubted(store, since_us):
    """Return whether all endpoints are held from a moment since `since_us`."""
    return int(lease_of(store).get("doubted_us", 0)) >= since_us


@pytest.fixture
def fresh(store):
    """A store whose prefix nobody has used."""
    store.client.delete(store.keys.lease)
    return store


@pytest.fixture
def one(fresh):
    """The same, with a leader, and calls in its past."""
    assert fresh.leases.contend("one", LONG).token
    fresh.client.hset(fresh.keys.records, "a run", "{}")
    return fresh


def test_a_new_prefix_is_no_doubt(fresh):
    """Nobody has called anything there; its server is trusted from then on."""
    standing = fresh.leases.contend("one", LONG)

    assert (standing.epoch != "", standing.why) == (True, "")
    assert lease_of(fresh)["server"] == fresh.client.info("server")["run_id"]
    assert fresh.leases.read().doubt == ""


def test_another_server_is_doubted_once(one, make_store):
    """By the first that hears it, which need not lead; the others learn why, and doubt it no more."""
    before_us, other = one.now_us(), make_store()
    epoch = other.leases.contend("two", LONG).epoch
    one.client.hset(one.keys.lease, "server", "f" * 40)

    standing = other.leases.contend("two", LONG)
    assert (standing.token, standing.epoch) == (0, str(int(epoch) + 1))
    assert "another server" in standing.why
    assert is_doubted(one, before_us)
    doubted = lease_of(one)["doubted_us"]

    assert one.leases.contend("one", LONG).why == standing.why
    assert one.leases.contend("one", LONG).why == ""
    assert make_store().leases.contend("three", LONG).why == ""
    assert lease_of(one)["doubted_us"] == doubted
    assert one.leases.read().doubt == standing.why


def test_one_that_was_to_stop_and_did_not_is_doubted_if_it_dies_later(one):
    """The note is forgotten as soon as it is heard from again."""
    server = lease_of(one)["server"]
    one.client.hset(one.keys.lease, "parted", server)
    one.leases.contend("one", LONG)

    one.client.hset(one.keys.lease, "server", "f" * 40)
    assert one.leases.contend("one", LONG).why


@each("forget", [("lease",), ("lease", "records")])
def test_a_redis_that_was_emptied_is_doubted_by_who_remembers_it(one, forget):
    """As after FLUSHALL."""
    before_us, before = one.now_us(), one.clock.doubts[0]
    for name in forget:
        one.client.delete(getattr(one.keys, name))

    standing = one.leases.contend("one", LONG)

    assert standing.token
    assert "came back empty" in standing.why
    assert standing.epoch == one.clock.doubts[0] != before
    assert is_doubted(one, before_us)


def test_a_redis_that_was_emptied_is_doubted_by_who_remembers_it_though_a_newcomer_led_it_since(one, make_store):
    """A scheduler that starts just then cannot know better."""
    before_us = one.now_us()
    one.client.flushdb()
    assert make_store().leases.contend("newcomer", LONG).why == ""

    assert "came back empty" in one.leases.contend("one", LONG).why
    assert is_doubted(one, before_us)


def test_a_lease_that_is_missing_beside_records_is_doubted_by_anybody(one, settings):
    """Runs were conducted, so calls were made."""
    one.client.delete(one.keys.lease)

    with Store(settings, settings.redis.url) as another:
        assert "came back empty" in another.leases.contend("two", LONG).why


@each("step_us", [5_000_000, -HOUR_US])
def test_a_step_is_doubted_and_moves_what_is_to_come(one, make_store, step_us):
    """Deadline, lease, and what is in flight or backs off; what is past stays so."""
    other, keys, prefix = make_store(), one.keys, one.keys.prefix
    other.leases.contend("two", LONG)
    now = one.now_us()
    was = now - step_us  # by the old clock
    one.client.hset(f"{prefix}run", mapping={"run_id": "r", "deadline_us": was + 60_000_000})
    one.client.hset(keys.lease, "expires_us", was + 30_000_000)
    one.client.zadd(keys.due, {"a": was + 20_000_000, "past": was - 20_000_000})
    one.client.zadd(keys.due, {"later b": was + 10_000_000, "later spent": float("inf")})
    one.client.hset(f"{prefix}rules", mapping={"type A": msgspec.msgpack.encode("1 A"), "limit w": "1/minute"})
    one.client.zadd(f"{prefix}free:A", {"1 api": was + 40_000_000})
    moments = dict.fromkeys(("rest", "pause", "known"), was + 50_000_000)
    one.client.hset(f"{prefix}endpoint:w", mapping={**moments, "since": was - 5})
    other.clock.hear(other.clock.reached_at(now - step_us), now, other.clock.reached_at(now - step_us))
    assert other.clock.doubts[1] == pytest.approx(step_us, abs=100_000)
    step_us = other.clock.doubts[1]

    standing = other.leases.contend("two", LONG)

    assert standing.why.startswith("the clock of Redis stepped")
    assert other.clock.doubts[1] == 0
    moved = {
        "deadline": int(one.client.hget(f"{prefix}run", "deadline_us")) - 60_000_000,
        "lease": int(lease_of(one)["expires_us"]) - 30_000_000,
        "a": one.client.zscore(keys.due, "a") - 20_000_000,
        "b": one.client.zscore(keys.due, "later b") - 10_000_000,
        **{name: int(one.client.hget(f"{prefix}endpoint:w", name)) - 50_000_000 for name in moments},
    }
    assert moved == dict.fromkeys(moved, was + step_us)
    assert one.client.zscore(keys.due, "past") < one.now_us()
    assert one.client.zscore(keys.due, "later spent") == float("inf")
    assert one.client.hget(f"{prefix}endpoint:w", "since") == b"%d" % (was - 5)
    assert one.client.zscore(f"{prefix}free:A", "1 api") == 0


def test_the_clock_of_another_server_moves_what_is_to_come(one):
    """After a fail-over to a host whose clock is an hour behind; the expectation shows it."""
    one.leases.contend("one", LONG)
    now = one.now_us()
    one.client.hset(f"{one.keys.prefix}run", mapping={"run_id": "r", "deadline_us": now + HOUR_US + 60_000_000})
    least, most, at = one.clock._ahead
    one.clock._ahead = (least + HOUR_US / 1_000_000, most + HOUR_US / 1_000_000, at)
    one.client.hset(one.keys.lease, "server", "f" * 40)

    one.leases.contend("one", LONG)

    deadline = int(one.client.hget(f"{one.keys.prefix}run", "deadline_us"))
    assert deadline - now == pytest.approx(60_000_000, abs=1_000_000)
    assert one.clock.doubts[1] == 0


def differing(settings, name="NEW_TYPE"):
    """Return a store with a type more."""
    kind = settings.event_types[0]
    changed = replace(settings, event_types=(replace(kind, name=name), *settings.event_types))
    return Store(changed, changed.redis.url)


def test_another_configuration_does_not_take_a_lease_that_was_given_up_just_now(one, settings):
    """Only once it has been free for half a minute, and the same one takes it at once."""
    other = differing(settings)
    one.leases.release("one")

    standing = other.leases.contend("other", LONG)
    assert standing.token == 0
    assert ALONE_SECONDS - 5 < standing.apart_seconds <= ALONE_SECONDS
    assert standing.other == ""

    one.client.hset(one.keys.lease, "expires_us", one.now_us() - round((ALONE_SECONDS - 1) * 1_000_000))
    assert not other.leases.contend("other", LONG).token
    one.client.hset(one.keys.lease, "expires_us", one.now_us() - round((ALONE_SECONDS + 1) * 1_000_000))
    assert other.leases.contend("other", LONG).token

    other.leases.release("other")
    assert not one.leases.contend("one", LONG).token
    other.client.close()


def test_another_configuration_does_not_take_a_lease_that_is_given_up_while_it_asks(one, settings, monkeypatch):
    """Between its look at who holds the lease and its wish to have it."""
    other = differing(settings)
    expects_us = other.clock.expects_us
    monkeypatch.setattr(other.clock, "expects_us", lambda: one.leases.release("one") and expects_us())

    assert other.leases.contend("other", LONG).token == 0
    assert one.leases.read().holder is None
    other.client.close()


def test_another_configuration_does_not_lead_while_a_process_of_the_one_in_force_lives(one, settings, monkeypatch):
    """Nor for half a minute after its last one was seen."""
    theirs = Process("theirs", 1, "host", 1.0, apart=apart_of(settings.event_types), file="/etc/rlm.toml")
    other = differing(settings)
    one.processes.announce(Role.SUPERVISOR, theirs)
    one.leases.release("one")
    long_ago = one.now_us() - HOUR_US
    one.client.hset(one.keys.lease, "expires_us", long_ago)

    standing = other.leases.contend("other", LONG)
    assert (standing.token, standing.other) == (0, "theirs")
    assert standing.apart_seconds == pytest.approx(ALONE_SECONDS, abs=1)

    one.processes.forget(Role.SUPERVISOR, "theirs")
    assert not other.leases.contend("other", LONG).token
    with monkeypatch.context() as patch:
        for seconds in range(0, round(ALONE_SECONDS), 3):
            patch.setattr(system_clock, "monotonic", lambda seconds=seconds: time.monotonic() + seconds)
            assert not other.leases.contend("other", LONG).token
        patch.setattr(system_clock, "monotonic", lambda: time.monotonic() + ALONE_SECONDS)
        assert other.leases.contend("other", LONG).token
    other.client.close()


def test_another_configuration_does_not_lead_in_a_redis_that_came_back_empty(one, settings, monkeypatch):
    """It remembers who led, for half a minute; one with the same types may lead at once."""
    theirs = Process("theirs", 1, "host", 1.0, apart=apart_of(settings.event_types), file="/etc/rlm.toml")
    other, standby = differing(settings), Store(settings, settings.redis.url)
    one.processes.announce(Role.SCHEDULER, theirs)
    one.processes.announce(Role.SCHEDULER, replace(theirs, id="other", apart=apart_of(other.settings.event_types)))
    assert not other.leases.contend("other", LONG).token
    assert not standby.leases.contend("standby", LONG).token

    one.client.delete(one.keys.lease, one.keys.processes)

    assert not other.leases.contend("other", LONG).token
    assert standby.leases.contend("standby", LONG).token
    one.client.delete(one.keys.lease, one.keys.processes)
    with monkeypatch.context() as patch:
        patch.setattr(system_clock, "monotonic", lambda: time.monotonic() + ALONE_SECONDS)
        assert not other.leases.contend("other", LONG).token, "nobody could be seen while Redis was away"
    other.client.close()
    standby.client.close()


def test_the_embedded_server_notes_in_the_lease_that_it_is_stopped(tmp_path):
    """Its successor is adopted; that of one that was killed is doubted."""
    file = tmp_path / "rlm.toml"
    file.write_text("")
    settings = load_settings(file, {})
    with Store(settings, keeps_server=True) as store:
        store.leases.contend("one", LONG)
        first = lease_of(store)["server"]
    with Store(settings, keeps_server=True) as store:
        assert lease_of(store)["parted"] == first
        assert store.leases.contend("one", LONG).why == ""
        assert lease_of(store)["server"] != first

        os.kill(store.client.info("server")["process_id"], signal.SIGKILL)
        assert "another server" in wait_until(lambda: _why(store), message="another server runs")


@pytest.mark.parametrize("part", ["", "appendonlydir"])
def test_a_backup_of_a_server_that_was_stopped_in_order_is_doubted(tmp_path, part):
    """Calls were made since; its own note of the stop says nothing of them."""
    file = tmp_path / "rlm.toml"
    file.write_text("")
    settings = load_settings(file, {})
    data, backup = settings.data_dir / part, tmp_path / "backup"
    with Store(settings, keeps_server=True) as store:
        store.leases.contend("one", LONG)
    shutil.copytree(data, backup)
    with Store(settings, keeps_server=True) as store:
        assert store.leases.contend("one", LONG).why == ""
    shutil.rmtree(data)
    shutil.copytree(backup, data)

    with Store(settings, keeps_server=True) as store:
        assert "another server" in store.leases.contend("one", LONG).why


def _why(store):
    with suppress(StoreUnreachableError):
        return store.leases.contend("one", LONG).why
