"""The age of the oldest event, found without a scan of the waiting ones."""

from __future__ import annotations

import pytest

from rlm.core.item import order_offset
from rlm.ledger.reading import waiting
from rlm.ledger.reading.waiting import oldest_in_ledger
from tests.store.ledgers import OTHER_TYPE, TYPE, put
from tests.store.looks import redis_us


def wait(store, number, priority=0, at=None, place="ready", name=TYPE):
    """Let an event wait whose item has the timestamp of a second."""
    item = "{}" if at is None else f'{{"timestamp": "2026-01-01T00:00:{at:02}Z"}}'
    taken_at = f"{redis_us(store) / 1_000_000:.3f}"
    put(store, f"i{number}:{name}", place, score=f"{order_offset(priority) + number}", item=item, taken_at=taken_at)


def at(second):
    return pytest.approx(1_767_225_600 + second)


def test_a_type_without_a_pending_event_is_left_out(store):
    """There is nothing old."""
    assert oldest_in_ledger(store, [TYPE, OTHER_TYPE]) == {}


def test_the_first_to_come_is_the_oldest_whatever_its_priority(store):
    """An urgent newcomer goes before it, and does not make it younger."""
    for number, priority, second in ((1, 1, 10), (2, 100, 20), (3, 0, 30)):
        wait(store, number, priority, second)

    assert oldest_in_ledger(store, [TYPE]) == {TYPE: at(10)}


def test_an_item_that_tells_no_time_is_as_old_as_its_arrival(store):
    """By the clock of Redis."""
    wait(store, 1)

    assert 0 <= redis_us(store) / 1_000_000 - oldest_in_ledger(store, [TYPE])[TYPE] < 10


def test_what_waits_behind_many_others_is_found_and_few_are_read(store, monkeypatch):
    """The first of a low priority, and one that backs off, behind more ready events than are read."""
    monkeypatch.setattr(waiting, "PAGE", 10)
    wait(store, 1, 0, 20)
    for number in range(2, 60):
        wait(store, number, 9, 30)
    wait(store, 60, 0, 10, "backoff", OTHER_TYPE)

    assert oldest_in_ledger(store, [TYPE, OTHER_TYPE]) == {TYPE: at(20), OTHER_TYPE: at(10)}
