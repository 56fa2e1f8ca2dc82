"""Setting a limit by hand: it applies at once, until the file's value for it changes, and is recorded."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Budget, Limit
from rlm.ledger import Store
from rlm.ledger.control import Change, What, limits_of
from tests.store import looks, steps
from tests.store.windows import refusal, set_limits, take
from tests.values import replace

BY = "someone@somewhere"


@pytest.fixture
def endpoint(store):
    """The endpoint of the file: 30 calls a minute."""
    return store.settings.endpoints[steps.ENDPOINT]


def in_force(store):
    """Read the endpoint as a worker does."""
    return store.endpoints()[steps.ENDPOINT]


def test_it_is_in_force_at_once_and_tells_what_was(store, token, endpoint):
    """The next to read the limit has the new one; the others' are as they were."""
    store.publish_limits(token)

    before = store.control.limit(endpoint, "5/minute", BY)

    assert before == "30/minute"
    assert in_force(store).limit.text == "5/minute"
    assert store.limits()[steps.OVERFLOW] == "30/minute"


def test_it_is_recorded_with_when_by_whom_and_what_was(store, token, endpoint):
    """By the clock of Redis, in the step that sets it; the first publication of the file is on record before it."""
    store.publish_limits(token)
    began = store.now_us() / 1e6

    store.control.limit(endpoint, "5/minute", BY)

    (change,) = store.changes.newest(1)
    assert began <= change.at <= store.now_us() / 1e6
    assert change == Change(
        change.at, BY, steps.ENDPOINT, What.LIMIT, "30/minute", "5/minute", window=endpoint.window_id
    )
    assert [limit for _, limit in limits_of(endpoint, store.changes.newest())] == ["30/minute", "5/minute"]


def test_the_same_limit_again_is_no_change(store, token, endpoint):
    """Nothing is written, and nothing recorded."""
    store.publish_limits(token)
    store.control.limit(endpoint, "5/minute", BY)

    with looks.nothing_changes(store):
        assert store.control.limit(endpoint, "5/minute", BY) == "5/minute"


def test_one_set_before_the_first_run_holds(store, token, endpoint):
    """The first publication of the file is no change of it, so it does not end what was set by hand before."""
    assert store.control.limit(endpoint, "5/minute", BY) == "30/minute"

    store.publish_limits(token)

    assert in_force(store).limit.text == "5/minute"
    assert [one.by for one in store.changes.newest() if one.name == steps.ENDPOINT] == [BY]


def test_a_changed_file_ends_it_and_is_recorded_as_such(store, token, endpoint):
    """By `file`, from what was set by hand."""
    store.publish_limits(token)
    store.control.limit(endpoint, "5/minute", BY)
    endpoints = {**store.settings.endpoints, steps.ENDPOINT: replace(endpoint, limit=Limit.parse("9/minute"))}
    changed = Store(replace(store.settings, endpoints=endpoints), store.url)

    changed.publish_limits(token)
    changed.close()

    newest = store.changes.newest(1)[0]
    assert (newest.by, newest.before, newest.after) == ("file", "5/minute", "9/minute")
    assert in_force(store).limit.text == "9/minute"


def test_a_lowered_limit_counts_the_calls_already_made(store, token, endpoint):
    """Five calls were made in this minute, so that under five a minute there is no sixth."""
    store.publish_limits(token)
    take(store, in_force(store), 5)

    store.control.limit(endpoint, "5/minute", BY)

    assert 50 < refusal(store, in_force(store)) <= 60.5


def test_a_raised_limit_lets_through_what_it_has_more(store, token, endpoint):
    """Nothing is allowed twice: thirty were made, so under forty there are ten more."""
    store.publish_limits(token)
    take(store, in_force(store), 30)

    store.control.limit(endpoint, "40/minute", BY)

    take(store, in_force(store), 10)
    refusal(store, in_force(store))


@pytest.mark.parametrize("shares", [False, True])
def test_lanes_obey_it_from_their_next_call_on(store, token, running, shares):
    """The rules of every endpoint with that window are written anew."""
    running(3)
    endpoint = store.settings.endpoints[steps.ENDPOINT]
    if shares:
        budget = Budget("account", Limit.parse("9/minute"))
        kind = store.settings.event_types[0]
        several = tuple(replace(each, budget=budget) for each in kind.endpoints)
        store.rules.publish(token, [replace(kind, endpoints=several)], {})

    store.control.limit(budget if shares else endpoint, "1/minute", BY)

    assert steps.claim(store).endpoint == steps.ENDPOINT
    assert steps.ask(store, lane=1000).endpoint == ("" if shares else steps.OVERFLOW)


def test_a_text_that_is_no_json_does_not_spoil_the_record(store, token, endpoint):
    """What others wrote there, quotes and line ends among it, is recorded without them."""
    store.publish_limits(token)
    set_limits(store, (endpoint, '9/\n"minute\\'))

    store.control.limit(endpoint, "5/minute", BY)

    assert store.changes.newest(1)[0].before == "9/  minute "


def test_only_the_newest_records_are_kept(store, endpoint, monkeypatch):
    """Else the list would grow for ever; what was in force before the oldest of them is still known."""
    monkeypatch.setattr("rlm.ledger.control.MOST_CHANGES", 3)

    for amount in range(1, 6):
        store.control.limit(endpoint, f"{amount}/minute", BY)

    assert [one.after for one in store.changes.newest()] == ["5/minute", "4/minute", "3/minute"]
    limits = limits_of(endpoint, store.changes.newest())
    assert [limit for _, limit in limits] == ["2/minute", "3/minute", "4/minute", "5/minute"]
    assert limits[0][0] == 0.0
    assert limits == sorted(limits)


def test_a_change_noted_by_name_alone_reads_like_the_others(store, endpoint):
    """With the time of Redis, newest first; earlier versions noted no window."""
    store.changes.note("a", endpoint.name, What.LIMIT, None, "5/minute")
    store.changes.note("b", endpoint.name, What.LIMIT, "5/minute", "9/minute")

    assert [(one.by, one.before, one.after) for one in store.changes.newest()] == [
        ("b", "5/minute", "9/minute"),
        ("a", None, "5/minute"),
    ]
    assert [limit for _, limit in limits_of(endpoint, store.changes.newest())] == ["5/minute", "9/minute"]
