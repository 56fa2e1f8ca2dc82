"""A tick has work wherever an event or item waits; its run counts from it."""

from __future__ import annotations

import pytest

from rlm.core.clock import isoformat, system_clock
from rlm.core.item import Reason, encode_letter
from rlm.core.run import Trigger
from rlm.plan.waits import Obstacle, Wait, Waits
from scheduler.conductor import Conductor
from scheduler.ticks import is_anything_to_do, open_run, why_late
from tests.store import looks, steps, windows
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
    ("finished_at", "deadline", "away", "expected"),
    [
        (1016.0, 1016.0, False, {"run_before": 16.5}),  # it was started by hand
        (1016.0, 1000.0, False, {"conductor": 16.5}),  # its scheduler was killed, and another closed it
        (1008.0, 1008.0, True, {"run_before": 8.0, "redis": 8.5}),
        (990.0, 1000.0, False, {"conductor": 16.5}),
    ],
)
def test_what_held_a_run_up_is_the_run_before_until_its_deadline(store, token, finished_at, deadline, away, expected):
    """From then on somebody should have opened the next."""
    run = steps.start_run(store, token)
    steps.finish(store, token, run)
    record = record_from(run_id=run.id, finished_at=isoformat(finished_at), deadline=isoformat(deadline))
    store.runs.close(run.id, record, wanted=0)

    assert why_late(store, 1000.0, 16.5, away=away) == expected
    assert why_late(store, 1000.0, 1.5, away=away) == {}


def test_a_run_that_nobody_opened_in_time_says_so(store, conductor, settings):
    """Not that its first call came late, nor what its last moments waited for."""
    steps.push(store, *steps.items(3, steps.TYPE))
    window_seconds = settings.run.window_seconds
    open_run(store, conductor._leader.token, Trigger.SCHEDULE, system_clock.now() - window_seconds + 0.3)

    record = Conductor(conductor._desk, store.runs.current()).conduct()

    (why,) = record.why
    assert (why.cause, why.leftover) == ("conductor", 3)
    assert why.sentence == f"3 events left over: nobody conducted for {window_seconds - 0.3:.0f} s"


def test_a_late_run_whose_windows_were_full_says_that_the_limit_binds(store, conductor, settings):
    """The run before had used all slots: to be on time would have changed nothing."""
    steps.push(store, *steps.items(3, steps.TYPE))
    kind = settings.event_types[0]
    for endpoint in kind.endpoints:
        windows.take(store, endpoint, endpoint.limit.rules[0].amount)
        windows.pass_time(store, endpoint, 8.0)
    open_run(store, conductor._leader.token, Trigger.SCHEDULE, system_clock.now() - 6.0)
    conducting = Conductor(conductor._desk, store.runs.current())

    conducting.drain()
    conducting.plan()

    waits = Waits.read(store.runs.current().waits, 0.0).by_type[steps.TYPE]
    assert waits[Wait(Obstacle.LIMIT)] == pytest.approx(6.0, abs=0.5)
    assert Wait(Obstacle.CONDUCTOR) not in waits
