"""What operators change, in the scheduler's log."""

from __future__ import annotations

import pytest

from rlm.ledger.control import ChangeTeller
from tests.store import steps


@pytest.fixture
def endpoint(store):
    return store.settings.endpoints[steps.ENDPOINT]


@pytest.fixture
def told(store, caplog):
    """Look again, and return what that logged."""
    caplog.set_level("INFO", logger="rlm.ledger.control")
    teller = ChangeTeller(store)

    def look(*, aloud=True):
        caplog.clear()
        teller.tell(aloud=aloud)
        return [record.message for record in caplog.records]

    return look


def test_each_change_is_told_once_in_its_order(store, endpoint, told):
    """Those before the first look are not: whoever led then told them."""
    store.control.pause(endpoint, "before@host")
    assert told() == []

    store.control.resume(endpoint, "ann@host")
    store.control.pause(endpoint, "bob@host", 90)
    store.control.limit(endpoint, "3 per 10 second", "ann@host")

    resumed, paused, limited = told()
    assert resumed == f"ann@host resumed {steps.ENDPOINT}, which was paused"
    assert paused == f"bob@host paused {steps.ENDPOINT} for 90 s"
    assert limited.startswith(f"ann@host changed the limit of {steps.ENDPOINT} from ")
    assert limited.endswith(" to 3 per 10 second")
    assert told() == []


def test_a_standby_takes_note_and_is_silent(store, endpoint, told):
    told(aloud=False)
    store.control.pause(endpoint, "ann@host")

    assert told(aloud=False) == []
    assert told() == []


def test_what_follows_the_file_is_no_operators_change(store, endpoint, told):
    told()
    store.changes.note("file", steps.ENDPOINT, "limit", "1 per second", "2 per second")

    assert told() == []
