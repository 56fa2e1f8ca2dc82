"""A tick has work wherever an event or item waits; its run counts from it."""

from __future__ import annotations

import pytest

from rlm.core.clock import isoformat, system_clock
from rlm.core.item import Reason, encode_letter
from rlm.core.run import Trigger, Waited
from scheduler.conductor import Conductor
from scheduler.ticks import is_anything_to_do, open_run
from tests.store import looks, steps
from tests.store.deadletters import retry
from tests.values import record_from


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
    assert store.runs.close(run.id, record_from(), wanted=0) == 1

    assert is_anything_to_do(store)


def test_a_dead_letter_that_was_retried_is_something_to_do(store):
    """Its event waits with the leftovers until a run opens."""
    event = steps.event_id(1)
    letter = encode_letter(steps.item("i1", steps.TYPE), Reason.REJECTED, "no", failed_at=0, run_id=None, event=event)
    store.client.lpush(store.keys.failed, letter)
    assert retry(store, letter)

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


@pytest.mark.parametrize(
    ("finished_at", "deadline", "since"), [(1016.0, 1016.0, 1016.0), (1016.0, 1007.0, 1007.0), (990.0, 990.0, 1000.0)]
)
def test_events_wait_from_the_tick_or_from_when_the_run_before_was_to_end(store, token, finished_at, deadline, since):
    """From then on somebody should have opened the next."""
    run = steps.start_run(store, token)
    steps.finish(store, token, run)
    record = record_from(run_id=run.id, finished_at=isoformat(finished_at), deadline=isoformat(deadline))
    store.runs.close(run.id, record, wanted=0)

    open_run(store, token, Trigger.SCHEDULE, 1000.0)

    assert store.runs.current().waits == Waited(since)


def test_a_run_that_nobody_opened_in_time_says_so(store, conductor, settings):
    """Not that its lanes were busy."""
    steps.push(store, *steps.items(3, steps.TYPE))
    window_seconds = settings.run.window_seconds
    open_run(store, conductor._leader.token, Trigger.SCHEDULE, system_clock.now() - window_seconds + 0.3)

    record = Conductor(conductor._desk, store.runs.current()).conduct()

    assert [(why.cause, why.leftover) for why in record.why] == [("workers", 3)]
