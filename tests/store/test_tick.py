"""A tick has something to do wherever an event or an item waits; the run that it opens counts from it."""

from __future__ import annotations

from rlm.core.clock import system_clock
from rlm.core.event import Reason, encode_letter
from rlm.core.run import Trigger
from scheduler.ticks import is_anything_to_do, open_run
from tests.store import looks, steps


def test_nothing_anywhere_is_nothing_to_do(store):
    """Nor are dead letters, which wait for a person."""
    store.client.lpush(store.keys.failed, "a letter")

    assert not is_anything_to_do(store)


def test_an_item_that_waits_is_something_to_do(store):
    """On the audit list, or in staging, where a drain that was interrupted left it."""
    steps.push(store, *steps.items(1, steps.TYPE))
    assert is_anything_to_do(store)

    store.client.rename(store.keys.events, store.keys.processing)
    assert is_anything_to_do(store)


def test_a_leftover_is_something_to_do(store, token, running):
    """Whatever its type."""
    run = running(1, steps.OTHER_TYPE)
    steps.finish(store, token, run)
    assert store.runs.close(run.id, {}, store.known_types, wanted=0) == 1

    assert is_anything_to_do(store)


def test_a_dead_letter_that_was_retried_is_something_to_do(store):
    """Its event waits apart from the leftovers until a run opens."""
    event = steps.event_id(1)
    letter = encode_letter(steps.item("i1", steps.TYPE), Reason.REJECTED, "no", failed_at=0, run_id=None, event=event)
    store.client.lpush(store.keys.failed, letter)
    assert store.letters.retry(letter, steps.priorities(store))

    assert is_anything_to_do(store)


def test_a_run_counts_from_its_tick_however_late_it_opens(store, token):
    """Its deadline is a window after that, by the clock of this host as by that of Redis."""
    window_seconds = store.settings.run.window_seconds
    tick = system_clock.now() - 7.0

    run_id = open_run(store, token, Trigger.SCHEDULE, tick)

    run = store.runs.current()
    assert (run.id, run.started_at, run.deadline) == (run_id, tick, tick + window_seconds)
    left_seconds = (run.deadline_us - looks.redis_us(store)) / 1_000_000
    assert window_seconds - 9.0 < left_seconds <= window_seconds - 7.0 + 0.01
