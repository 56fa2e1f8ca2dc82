"""What waits is counted once, also while a drain takes items between two reads; and the reads cost Redis little."""

from __future__ import annotations

from collections import Counter

import pytest

from rlm.admin.explain.look import search_items
from rlm.admin.queue import queue_stats
from rlm.ledger import intake
from rlm.ledger.reading import backlog, pages
from rlm.ledger.reading.backlog import look
from tests.store import looks, steps

ITEMS = 60


@pytest.fixture
def drained(store, token, monkeypatch):
    """Take a chunk of two items whenever a page of five was read: `drained()` begins, and returns the run."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    monkeypatch.setattr(pages, "CHUNK", 5)
    run = steps.open_run(store, token)
    chunks = store.intake.drain(token, run.id, steps.priorities(store))
    read = store.intake.look

    def read_and_take(*args):
        found = read(*args)
        next(chunks, None)
        return found

    def begin(staged=True):
        steps.push(store, *(steps.item(f"i{one}", steps.TYPE, steps.OTHER_TYPE) for one in range(ITEMS)))
        if staged:
            next(chunks)
        monkeypatch.setattr(store.intake, "look", read_and_take)
        return run

    return begin


def waiting(found):
    return +Counter({name: one.unsettled + found.waiting.events[name] for name, one in found.books.by_type.items()})


@pytest.mark.parametrize("dedupe", [False, True])
@pytest.mark.parametrize("staged", [True, False])
def test_what_is_taken_between_two_reads_counts_once(store, drained, dedupe, staged):
    """By type, with or without a look at the ledger, also if the run stages the audit list between two reads."""
    drained(staged)

    found = look(store, dedupe=dedupe)

    assert 0 < found.waiting.items < ITEMS - 2
    assert found.waiting.items == found.books.events + found.books.staged
    assert (found.waiting.duplicates, found.waiting.letters, found.waiting.unread) == (0, 0, 0)
    assert waiting(found) == {steps.TYPE: ITEMS, steps.OTHER_TYPE: ITEMS}


def test_what_arrives_in_mid_drain_counts_once(store, drained):
    """It is on the audit list behind what is staged, and duplicates are those that a run would find."""
    drained()
    steps.push(store, *(steps.item(f"i{one}", steps.TYPE) for one in range(ITEMS - 5, ITEMS + 5)))

    found = look(store, dedupe=True)

    assert found.waiting.duplicates == 5
    assert waiting(found) == {steps.TYPE: ITEMS + 5, steps.OTHER_TYPE: ITEMS}


def test_a_plan_the_stats_and_the_monitor_count_them_all(store, drained):
    """Whatever is taken meanwhile: nothing is invented and nothing is missing."""
    drained()

    events = {steps.TYPE: ITEMS, steps.OTHER_TYPE: ITEMS}
    assert +Counter(backlog.backlog(store).events) == events
    assert +Counter({name: one["pending"] for name, one in queue_stats(store)["by_type"].items()}) == events


def test_only_the_oldest_are_read_and_the_rest_is_counted(store, drained, monkeypatch):
    """As many as there may be when all were read, whatever was taken meanwhile."""
    monkeypatch.setattr(backlog, "MOST_ITEMS", 12)
    drained()

    found = look(store)

    assert 12 - 2 <= found.waiting.items <= 12  # one chunk may be taken after the last read
    assert found.waiting.unread == found.books.staged - found.waiting.items
    assert sum(waiting(found).values()) == 2 * (ITEMS - found.waiting.unread)


def test_explain_passes_over_no_item_while_others_are_taken(store, drained):
    """The next page begins behind the last one, however many were taken: the newest item is found."""
    drained()

    (found,) = search_items(store, f"i{ITEMS - 1}:{steps.TYPE}").queued

    assert found.staged
    assert looks.pending(store)
