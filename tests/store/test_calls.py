"""The log of calls: read from an entry on, for a run, and by endpoint and budget; strays are named and left out."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Budget, Limit
from rlm.core.run import make_run_id
from rlm.core.trail import CallEnd
from rlm.ledger import Store, calls
from tests.store.ledgers import ENDPOINT, OVERFLOW, TYPE, called
from tests.store.looks import redis_us
from tests.values import replace


@pytest.fixture(params=[1, 2, 10_000])
def by_slices(request, monkeypatch):
    """Read so many entries at once."""
    monkeypatch.setattr(calls, "SLICE", request.param)


@pytest.mark.usefixtures("by_slices")
def test_the_log_is_followed_from_an_entry_on(store):
    """Each call is read once, with all that was written of it."""
    assert store.calls.follow() == ([], calls.START)
    sent_us = called(store, OVERFLOW, 9.0, run_id="r", end=CallEnd.ERROR, seconds=0.25, age=3.0)
    called(store, ago=5.0)

    first, last = store.calls.follow()
    called(store)
    second, end = store.calls.follow(last)

    window_id = store.settings.endpoints[OVERFLOW].window_id
    times = (250.0, 3000.0)
    expected = calls.CallEntry("r", TYPE, OVERFLOW, window_id, sent_us, CallEnd.ERROR, *times, f"i1:{TYPE}", 1)
    assert (first[0], len(first), len(second)) == (expected, 2, 1)
    assert first[0].ended_us == sent_us + 250_000
    assert store.calls.follow(end) == ([], end)


def test_only_calls_that_completed_their_event_are_measured(store):
    """In the order of their answers."""
    for ago, end in ((9.0, CallEnd.COMPLETED), (8.0, CallEnd.ERROR), (7.0, CallEnd.UNKNOWN), (6.0, CallEnd.COMPLETED)):
        called(store, ago=ago, end=end, seconds=ago / 100)

    found = calls.completed(store.calls.follow()[0])

    assert [(one.pair, one.milliseconds) for one in found] == [((TYPE, ENDPOINT), 90.0), ((TYPE, ENDPOINT), 60.0)]


@pytest.mark.parametrize(
    "stray",
    [
        ("other", "x"),
        ("c", "x"),
        ("c", f"r {TYPE} e w 1 completed 1 1 i1:{TYPE} 1 more"),
        ("c", f"r {TYPE} e w nan completed 1 1 i1:{TYPE} 1"),
        ("c", f"r {TYPE} e w 1 done 1 1 i1:{TYPE} 1"),
        ("c", f"r {TYPE} e w 1 completed 1e18 1 i1:{TYPE} 1"),
        ("c", f"r {TYPE} e w 1 completed -1 1 i1:{TYPE} 1"),
    ],
)
def test_what_rlm_did_not_write_is_named_and_left_out(store, caplog, stray):
    """The calls around it count."""
    called(store, ago=9.0)
    store.client.xadd(store.keys.calls, {stray[0]: stray[1]}, id=f"{redis_us(store) // 1000 - 5000}-*")
    called(store)

    found, last = store.calls.follow()

    assert len(found) == 2
    assert store.calls.follow(last) == ([], last)
    assert store.keys.calls in caplog.text


@pytest.mark.usefixtures("by_slices")
def test_the_calls_of_a_run_are_those_that_name_it(store):
    """Whatever ran before or after."""
    began = redis_us(store) / 1_000_000 - 8.0
    first, second = make_run_id(began), make_run_id(began + 4.0)
    for ago, run_id in ((9.0, "r"), (7.0, first), (6.0, first), (3.0, first), (2.0, second)):
        called(store, ago=ago, run_id=run_id, seconds=ago / 100)

    assert [one.milliseconds for one in store.calls.of_run(first)] == [70.0, 60.0, 30.0]
    assert [one.milliseconds for one in store.calls.of_run(first, began + 3.0)] == [70.0, 60.0]
    assert [one.milliseconds for one in store.calls.of_run(second)] == [20.0]


@pytest.mark.usefixtures("by_slices")
def test_when_calls_were_sent_is_told_by_endpoint_and_budget(store):
    """In one pass, ascending, since a moment; however they ended, and in whatever order."""
    budget = Budget("account", Limit.parse("9/minute"))
    ends = {name: replace(store.settings.endpoints[name], budget=budget) for name in (ENDPOINT, OVERFLOW)}
    sharing = Store(replace(store.settings, endpoints={**store.settings.endpoints, **ends}), store.url)
    old = called(store, ago=20.0)
    hung = called(store, OVERFLOW, 15.0, seconds=12.0, end=CallEnd.UNKNOWN)
    new = called(store, ago=2.0, end=CallEnd.THROTTLED)
    called(store, "gone")

    found = sharing.calls.sent_each([ends[ENDPOINT], budget], round(hung - 1))

    assert found == {ENDPOINT: [new], "account": [hung, new]}
    other = store.settings.endpoints["open_order_api"]
    assert sharing.calls.sent_each([ends[ENDPOINT], other]) == {ENDPOINT: [old, new], other.name: []}
    sharing.close()


def test_calls_are_kept_for_a_day(store):
    """And it is known since when."""
    assert store.calls.begins() is None
    store.calls.trim()
    called(store, ago=24 * 3600 + 10)
    sent_us = called(store, ago=24 * 3600 - 10)

    store.calls.trim()

    assert [one.sent_us for one in store.calls.follow()[0]] == [sent_us]
    assert store.calls.begins() == pytest.approx(sent_us / 1_000_000 + 0.1, abs=0.01)
