"""Rubbish in Redis: every process lives, the other types go on, the key is named in the log and by `rlm doctor`."""

from __future__ import annotations

import json

import pytest

from rlm.ledger.embedded import EmbeddedServer
from tests.acceptance.system import make_item
from tests.each import each
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: Ticks every two seconds.
DOCUMENT = """
[run]
window_seconds = 2
every_seconds = 2
guard_seconds = 0.1
[retry]
timeout_seconds = 1.0
[workers]
min = 1
max = 1
[types.ALPHA]
priority = 5
processing_seconds = 0.05
rate_limit = "10 per 1 second"
endpoints = [{ name = "a1", url = "http://127.0.0.1:1/a1" }]
[types.BETA]
priority = 4
processing_seconds = 0.05
rate_limit = "10 per 1 second"
endpoints = [{ name = "b1", url = "http://127.0.0.1:1/b1" }]
"""


@pytest.fixture
def system(make_system, tmp_path):
    (tmp_path / "server").mkdir()
    with (
        EmbeddedServer(tmp_path / "server") as server,
        make_system(document=DOCUMENT, speed=1.0, redis_url=server.url, ticks=True) as made,
    ):
        made.start_both()
        deliver(made, "first", "ALPHA", "BETA")
        yield made


def deliver(system, name, *types):
    """Push events and wait until the API has answered them."""
    events = set(system.push([make_item(f"{name}{number}", one) for number in range(3) for one in types]))
    wait_until(lambda: events <= set(system.answered()), timeout=30, message=f"{name} is delivered")


def doctor(system):
    found = json.loads(system.rlm("doctor", "--json", check=False).stdout)["conditions"]
    return [one["sentence"] for one in found]


def alive(system):
    return [name for name in ("scheduler", "supervisor") if system.processes[name].poll() is None]


def replace(client, key, value="x"):
    client.delete(key)
    client.set(key, value)


def set_health(client, key):
    client.hset(key, "rest", "soon")


#: What another program writes, and the types that go on meanwhile. The window of an endpoint belongs to its type.
RUBBISH = {
    "no zset of pending events": (lambda store: (replace, store.keys.ready("ALPHA")), ["BETA"]),
    "no zset of events in flight": (lambda store: (replace, store.keys.due), []),
    "no window": (lambda store: (replace, store.keys.window(window_of(store, "a1"))), ["BETA"]),
    "no number in the health of an endpoint": (
        lambda store: (set_health, store.keys.endpoint(window_of(store, "a1"))),
        ["ALPHA", "BETA"],
    ),
    "no run": (lambda store: (replace, store.keys.run), []),
}


def window_of(store, name):
    return store.settings.endpoints[name].window_id


@each("name", RUBBISH)
def test_what_can_go_on_does_and_the_key_is_named(system, name):
    """A loop that stopped, or went round in silence, would deliver nothing of them."""
    make, go_on = RUBBISH[name]
    write, key, *value = make(system.store)
    write(system.store.client, key, *value)

    named = [one for one in doctor(system) if key in one]
    deliver(system, f"after-{key}-", *go_on)

    assert alive(system) == ["scheduler", "supervisor"]
    if len(go_on) < 2:
        assert named
        wait_until(lambda: "condition=key_damaged" in system.log("scheduler"), message="its log says so")
        system.store.client.delete(key)
        deliver(system, f"mended-{key}-", "ALPHA", "BETA")


@each("family", ["ready", "free", "window", "endpoint"])
def test_a_key_that_is_overwritten_in_mid_run_stops_its_type_only(system, family):
    """The run is closed in time, the others are done, and what was under way is done once the key is gone."""
    store = system.store
    name = "ALPHA" if family in {"ready", "free"} else window_of(store, "a1")
    key = getattr(store.keys, family)(name)
    system.api.set_fault("a1", hang=0.3)
    alpha = system.push([make_item(f"{family}{number}", "ALPHA") for number in range(8)])
    beta = system.push([make_item(f"{family}{number}", "BETA") for number in range(8)])
    wait_until(store.runs.current, timeout=10, message="a run is open")
    wait_until(lambda: store.client.zcard(store.keys.due), message="calls are under way")
    replace(store.client, key)

    wait_until(lambda: set(beta) <= set(system.answered()), timeout=10, message="the other type is done")

    store.client.delete(key)
    wait_until(lambda: set(alpha) <= set(system.answered()), timeout=80, message="all is done")
    assert alive(system) == ["scheduler", "supervisor"]


@each("field", ["deadline", "deadline_us", "started_at", "state"])
@each("value", ["100000000000000000", "soon"])
def test_a_run_whose_data_is_damaged_is_closed_as_failed(system, field, value):
    """Its events are left over, and the next run takes them."""
    store = system.store
    events = system.push(
        [make_item(f"{field}{value}{number}", one) for number in range(20) for one in ("ALPHA", "BETA")]
    )
    run = wait_until(store.runs.current, timeout=10, message="a run is open")
    store.client.hset(store.keys.run, field, value)

    wait_until(lambda: set(events) <= set(system.answered()), timeout=30, message="all is delivered")

    assert alive(system) == ["scheduler", "supervisor"]
    record = wait_until(lambda: store.runs.record(run.id), message="it is on record")
    assert (record.state == "failed") == ("damaged" in record.failure), record


def test_records_and_changes_that_are_none_are_left_out(system):
    """Every page and command shows the rest."""
    store = system.store
    run_id = wait_until(lambda: store.runs.history(1), message="a run is on record")[0]
    record = json.loads(store.client.hget(store.keys.records, run_id))
    bad = {**record, "run_id": "bad", "started_at": "soon"}
    store.client.hset(store.keys.records, "bad", json.dumps(bad))
    change = {"at": 1e17, "by": "x", "name": "a1", "what": "limit", "from": "1/second", "to": "2/second"}
    store.client.lpush(store.keys.changes, json.dumps(change))

    deliver(system, "after", "ALPHA", "BETA")

    assert alive(system) == ["scheduler", "supervisor"]
    for command in (["list"], ["status"], ["endpoint", "list"], ["compliance"], ["queue", "stats"], ["plan"]):
        system.rlm(*command)
