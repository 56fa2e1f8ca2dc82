"""By how much a limit was exceeded since a moment, from the log of calls."""

from __future__ import annotations

from rlm.delivery.run_end import close_run
from rlm.delivery.run_record import look_over
from rlm.ledger.reading.compliance import excess
from tests.store import looks, steps
from tests.store.windows import pass_time, set_clock_back, take
from tests.values import replace


def test_calls_beyond_a_limit_are_told_by_endpoint(store, token):
    """As many as were too many in the fullest period that ends since then; others have none."""
    api = store.endpoints()[steps.ENDPOINT]
    began = store.windows.look(())[0] / 1_000_000
    assert set(excess(store, began).values()) == {0}
    now_us = looks.redis_us(store)
    store.client.lpush(store.keys.window(api.window_id), *[now_us] * (api.limit.rules[0].amount + 3))

    found = excess(store, began)

    assert found.pop(steps.ENDPOINT) == 3
    assert set(found.values()) == {0}
    assert set(excess(store, now_us / 1_000_000 + 1).values()) == {0}  # it was before that


def test_a_limit_that_is_lowered_was_not_exceeded_by_what_was_sent_before(store, token):
    """Each period is judged by the limit in force at its last call."""
    store.publish_limits(token)
    api = store.endpoints()[steps.ENDPOINT]
    began = store.windows.look(())[0] / 1_000_000
    take(store, api, 20)
    store.control.limit(store.settings.endpoints[steps.ENDPOINT], "5/minute", "somebody")

    assert excess(store, began)[steps.ENDPOINT] == 0


def test_slots_that_were_ahead_of_a_clock_set_back_exceed_no_limit(store, token):
    """Two periods' calls count from when it was set back; what is exceeded later is told, whenever the run began."""
    api = store.endpoints()[steps.ENDPOINT]
    amount = api.limit.rules[0].amount
    began = store.now() - 300
    for _ in range(2):
        take(store, api, amount)
        pass_time(store, api, 61)
    set_clock_back(store, api, 200)

    store.shift_stamps(token, "", -200_000_000, "it was set back")
    store.epochs.renew(token, "it was set back")
    store.windows.look([api])

    assert excess(store, began)[steps.ENDPOINT] == 0
    pass_time(store, api, 61)
    exceed(store, api, 3)
    assert excess(store, began)[steps.ENDPOINT] == 3
    assert excess(store, store.now() + 100)[steps.ENDPOINT] == 3


def test_each_excess_is_told_with_one_run(store, token, caplog):
    """With that in which it was, not also with a late one after it; if none was open, with the next one."""
    api = store.endpoints()[steps.ENDPOINT]
    first = close(store, token, meanwhile=lambda: exceed(store, api, 3))
    look_over(store, first)
    late = close(store, token, late_seconds=30)
    look_over(store, late)
    assert told_of(caplog) == [first.run_id]

    pass_time(store, api, 61)
    exceed(store, api, 3)
    last = close(store, token)
    look_over(store, last)

    assert told_of(caplog) == [first.run_id, last.run_id]


def exceed(store, api, number):
    """Let a window hold `number` calls too many in a moment."""
    now_us = looks.redis_us(store)
    store.client.lpush(store.keys.window(api.window_id), *[now_us] * (api.limit.rules[0].amount + number))


def close(store, token, late_seconds=0.0, meanwhile=lambda: None):
    """Open a run that counts from `late_seconds` ago, and close it; return its record."""
    run = steps.make_run(store)
    run = replace(run, id=f"{run.id}-{late_seconds:g}", started_at=run.started_at - late_seconds)
    store.runs.open(token, run, store.known_types)
    meanwhile()
    steps.finish(store, token, run)
    return close_run(store, run.id)


def told_of(caplog):
    """Return the runs of which an alarm says that they exceeded a limit."""
    return [one.run_id for one in caplog.records if getattr(one, "alarm", "") == "limit_exceeded"]
