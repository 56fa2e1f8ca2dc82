"""Setting a limit by hand: it applies at once, until the file's value for it changes, and is recorded."""

from __future__ import annotations

import pytest

from tests.store import steps
from tests.store.windows import set_limits

BY = "someone@somewhere"


@pytest.fixture
def endpoint(store):
    """The endpoint of the file: 30 calls a minute."""
    return store.settings.endpoints[steps.ENDPOINT]


def in_force(store):
    """Read the endpoint as a worker does."""
    return store.endpoints()[steps.ENDPOINT]


def test_one_set_before_the_first_run_holds(store, token, endpoint):
    """The first publication of the file is no change of it, so it does not end what was set by hand before."""
    store.control.limit(endpoint, "5/minute", BY)

    store.publish_limits(token)

    assert in_force(store).limit.text == "5/minute"
    assert [one.by for one in store.control.changes() if one.name == steps.ENDPOINT] == [BY]


def test_a_text_that_is_no_json_does_not_spoil_the_record(store, token, endpoint):
    """What others wrote there, quotes and line ends among it, is recorded without them."""
    store.publish_limits(token)
    set_limits(store, (endpoint, '9/\n"minute\\'))

    store.control.limit(endpoint, "5/minute", BY)

    assert store.control.changes(1)[0].before == "9/  minute "
