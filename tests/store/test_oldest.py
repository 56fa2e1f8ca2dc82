"""The age of the oldest event, found without a scan of the waiting ones."""

from __future__ import annotations

import pytest

from rlm.ledger.reading import PAGE, backlog
from rlm.ledger.reading.backlog import oldest_in_ledger, oldest_pending
from tests.store import looks, steps


def item(number, priority=None, at=None):
    more = {"timestamp": f"2026-01-01T00:00:{at:02}Z"} if at is not None else {}
    more |= {} if priority is None else {"priority": priority}
    return steps.item(f"i{number}", steps.TYPE, **more)


def at(second):
    return pytest.approx(1_767_225_600 + second)


def test_a_type_without_a_pending_event_is_left_out(store, token, running):
    """There is nothing old."""
    assert oldest_pending(store, [steps.TYPE, steps.OTHER_TYPE]) == {}


def test_the_first_to_come_is_the_oldest_whatever_its_priority(store, token, running):
    """An urgent newcomer goes before it, and does not make it younger."""
    steps.push(store, item(1, priority=1, at=10), item(2, priority=100, at=20), item(3, priority=0, at=30))
    steps.start_run(store, token)

    assert oldest_pending(store, [steps.TYPE]) == {steps.TYPE: at(10)}


def test_an_item_that_tells_no_time_is_as_old_as_its_arrival(store, token, running):
    """By the clock of Redis."""
    steps.push(store, steps.item("i1", steps.TYPE))
    steps.start_run(store, token)

    now = looks.redis_us(store) / 1_000_000
    assert 0 <= now - oldest_pending(store, [steps.TYPE])[steps.TYPE] < 10


def test_a_thousand_events_of_three_priorities_cost_a_few_commands(store, token, running):
    """What is asked does not grow with what waits."""
    steps.push(store, *(item(number, priority=number % 3, at=number % 60) for number in range(1000)))
    steps.start_run(store, token)
    before = store.client.info("commandstats")

    oldest_pending(store, [steps.TYPE])

    after = store.client.info("commandstats")
    asked = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert asked["cmdstat_zrangebyscore"] == 4
    assert asked["cmdstat_hmget"] == 3


def test_what_waits_behind_many_others_is_found_and_few_are_read(store, token, running, monkeypatch):
    """The first of a low priority, and one that backs off, behind more pending events than are read."""
    monkeypatch.setattr(backlog, "MOST_AGED", PAGE)
    steps.push(store, item(1, priority=0, at=20), *(item(number, priority=9, at=30) for number in range(2, 600)))
    steps.push(store, steps.item("i600", steps.OTHER_TYPE, timestamp="2026-01-01T00:00:10Z"))
    run = steps.start_run(store, token)
    store.ledger.retry(steps.claim_next(store, token, run, type_name=steps.OTHER_TYPE), steps.ENDPOINT, 60)
    before = store.client.info("commandstats")["cmdstat_hmget"]["calls"]

    found = oldest_in_ledger(store, [steps.TYPE, steps.OTHER_TYPE])

    assert found == {steps.TYPE: at(20), steps.OTHER_TYPE: at(10)}
    assert store.client.info("commandstats")["cmdstat_hmget"]["calls"] - before <= PAGE + 3
