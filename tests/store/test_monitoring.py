"""What `rlm queue monitor` shows while a run takes in what waits, and if not all of it is read."""

from __future__ import annotations

import pytest

from rlm.admin import monitoring
from rlm.admin.monitoring import Monitor
from rlm.ledger import intake
from rlm.ledger.reading import backlog
from tests.store import steps

#: Items that wait, and how many of them are read at the most.
ITEMS, READ = 12, 6


@pytest.fixture
def deep(store, monkeypatch):
    """A queue of items with two events each, which is read once and not as a whole."""
    for module in (backlog, monitoring):
        monkeypatch.setattr(module, "MOST_ITEMS", READ)
    monkeypatch.setattr(monitoring, "PATIENCE", 1e9)
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    steps.push(store, *steps.items(ITEMS, steps.TYPE, steps.OTHER_TYPE))


def pending(found):
    """The events that wait, of the two types of the items."""
    return [found["by_type"][name]["pending"] for name in (steps.TYPE, steps.OTHER_TYPE)]


def test_numbers_by_type_follow_a_run_that_takes_items_in(store, token, deep):
    """Those that are not read hold as many events as those that are."""
    monitor = Monitor(store)
    before, run = monitor.look(), steps.open_run(store, token)
    drain = store.intake.drain(token, run.id, steps.priorities(store))
    found = [before, *(monitor.look() for _ in drain)]

    assert [one["staged"] for one in found] == [0, 10, 8, 6, 4, 2, 0]
    assert [pending(one) for one in found] == [[each, each] for each in (6, 8, 10, 12, 12, 12, 12)]
