"""The inspection after a run: each broken promise raises one alarm with the important numbers."""

from __future__ import annotations

import logging

import pytest
from msgspec import structs

from rlm.core.documents import CallTrouble
from rlm.core.errors import StoreUnreachableError
from rlm.core.item import Reason
from rlm.core.window import FAILING
from rlm.delivery import run_end
from rlm.delivery.run_record import look_over
from tests.store import steps
from tests.store.windows import take
from tests.values import replace


@pytest.fixture
def close(store, token, running):
    """Close a run of two events, one of them rejected, and return its record; earlier log lines are discarded."""

    def close():
        run = running(2)
        store.ledger.fail(steps.claim_next(store, token, run), Reason.REJECTED, "no", steps.ENDPOINT)
        steps.finish(store, token, run)
        return run_end.close_run(store, run.id)

    return close


@pytest.fixture
def alarms(caplog):
    """Return the raised alarms, by cause."""
    caplog.set_level(logging.INFO)
    return lambda: {one.alarm: one for one in caplog.records if hasattr(one, "alarm")}


def with_most_letters(store, most):
    store.settings = replace(store.settings, alarm=structs.replace(store.settings.alarm, failed=most))


def test_a_run_that_kept_its_promises_raises_no_alarm_but_its_leftovers(store, close, alarms, caplog):
    """Its leftovers are told of by whoever closed it, with how many there are; and that once."""
    record = close()

    look_over(store, record)

    assert set(alarms()) == {"leftovers"}
    told = alarms()["leftovers"]
    assert (told.levelname, told.run_id, told.counts["leftover"]) == ("WARNING", record.run_id, 1)
    assert run_end.close_run(store, record.run_id) is None
    assert caplog.text.count(" closed: ") == 1


def test_more_calls_than_a_limit_allows_are_told_of_with_where(store, close, alarms):
    """From the log of calls sent: as many as there were, in one period, over the limit."""
    record = close()
    endpoint = store.endpoints()[steps.ENDPOINT]
    take(store, endpoint, endpoint.limit.rules[0].amount)
    key = store.keys.window(endpoint.window_id)
    store.client.lpush(key, store.client.lindex(key, 0))
    store.client.lpush(key, store.client.lindex(key, 0))

    look_over(store, record)

    told = alarms()["limit_exceeded"]
    assert (told.levelname, told.endpoint, told.run_id) == ("ERROR", steps.ENDPOINT, record.run_id)
    assert told.counts == {"exceeded": 1, "too_many": 2}


def test_books_that_do_not_balance_are_told_of(store, close, alarms):
    """In the ledger after the run, and in the record itself."""
    record = close()
    store.client.zadd(store.keys.holders(steps.TYPE)[0], {"i:T": 1})
    counts = record.by_type[steps.TYPE]
    record = structs.replace(record, by_type={steps.TYPE: structs.replace(counts, completed=counts.completed + 1)})

    look_over(store, record)

    told = alarms()["books_unbalanced"]
    assert (told.levelname, told.counts) == ("ERROR", {"faults": 2})
    assert "no run is open, but" in told.getMessage()
    assert "2 taken" in told.getMessage()


def test_a_leftover_that_is_not_in_the_ledger_is_told_of(store, close, alarms):
    """The record alone balances, for what it has as leftover is what came less what was settled."""
    record = close()
    store.client.delete(store.keys.pending(steps.TYPE))

    look_over(store, record)

    told = alarms()["books_unbalanced"]
    assert told.counts == {"faults": 1}
    assert f"{steps.TYPE}: 1 left over by what came and was settled, but 0 are pending" in told.getMessage()


def test_a_leftover_that_the_next_run_has_taken_up_is_no_alarm(store, close, alarms, running, token):
    """Another conducts by then, whose run is open, or is closed as well."""
    record = close()
    run = running()
    claim = steps.claim_next(store, token, run)
    look_over(store, record)
    store.turns.complete(steps.completed(claim))
    steps.finish(store, token, run)
    assert run_end.close_run(store, run.id)

    look_over(store, record)

    assert "books_unbalanced" not in alarms()


@pytest.mark.parametrize(("most", "raised"), [(1, False), (0, False)])
def test_few_dead_letters_are_no_alarm(store, close, alarms, most, raised):
    """As many as are put up with, or where nobody wants to hear of any."""
    with_most_letters(store, most)
    record = close()
    if not most:
        store.client.lpush(store.keys.failed, b"1", b"2")

    look_over(store, record)

    assert ("dead_letters" in alarms()) is raised


def test_too_many_dead_letters_are_told_of_after_a_run_that_added_some(store, close, alarms):
    """A run that added none says nothing of those that lie there since yesterday."""
    with_most_letters(store, 2)
    store.client.lpush(store.keys.failed, b"1", b"2")
    record = close()
    quiet = structs.replace(record, counts=structs.replace(record.counts, failed=0, invalid=0))

    look_over(store, quiet)
    assert "dead_letters" not in alarms()
    look_over(store, record)

    assert alarms()["dead_letters"].counts == {"letters": 3, "failed": 1, "invalid": 0}


def test_a_redis_that_fails_meanwhile_stops_nobody(store, close, alarms, monkeypatch, caplog):
    """The run is closed; what was not looked at, `rlm doctor` looks at."""
    record = close()

    def away(*_):
        raise StoreUnreachableError("refused")

    monkeypatch.setattr(store.letters, "count", away)
    with_most_letters(store, 1)
    look_over(store, record)

    assert "is not checked" in caplog.text


@pytest.mark.parametrize(
    ("failed", "completed", "share", "raised"),
    [(5, 20, 0.1, True), (4, 0, 0.1, False), (5, 45, 0.1, False), (5, 0, 0.0, False), (9, 0, 1.0, False)],
)
def test_dead_letters_that_are_a_large_part_of_a_run_are_told_of(
    store, close, alarms, failed, completed, share, raised
):
    """Of five or more, whatever their number is beside `alarm.failed`."""
    store.settings = replace(store.settings, alarm=structs.replace(store.settings.alarm, failed_share=share))
    record = close()
    record = structs.replace(record, counts=structs.replace(record.counts, failed=failed, completed=completed))

    look_over(store, record)

    assert ("dead_letters" in alarms()) is raised


def test_what_an_endpoint_refused_that_has_raised_an_alarm_is_told_of_once(store, close, alarms):
    """Those dead letters have their cause there; others count all the same."""
    record = close()
    refused = CallTrouble(endpoint=steps.ENDPOINT, address=None, what="HTTP 401", calls=5)
    record = structs.replace(record, counts=structs.replace(record.counts, failed=9), troubles=(refused,))
    endpoint = store.endpoints()[steps.ENDPOINT]
    for _ in range(FAILING):
        store.breaker.fail(endpoint, first_rest_seconds=1.0, failing=FAILING)

    look_over(store, record)
    assert "dead_letters" not in alarms()
    look_over(store, structs.replace(record, counts=structs.replace(record.counts, failed=10)))

    assert "dead_letters" in alarms()
