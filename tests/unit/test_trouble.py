"""Failed calls: counted by endpoint and kind, and described with their place."""

from __future__ import annotations

import pytest

from rlm.core.documents import CallTrouble
from rlm.core.endpoint import Endpoint, Limit
from rlm.core.tally import (
    address_of,
    every_call_failed,
    troubles_of,
)
from tests.values import record_from

ONE, TWO = (
    Endpoint(name, f"https://user:secret@api.example/{name}", Limit.parse("9/minute"), 1.0) for name in ("one", "two")
)


#: What a record has of calls of which five failed.
CALLS = {"by_endpoint": {"one": {"calls": 5, "completed": 0, "throttled": 0, "errors": 5}}}


def trouble(endpoint, what, calls, address="api.example:443"):
    return CallTrouble(endpoint=endpoint, address=address, what=what, calls=calls)


def test_each_count_of_the_tally_is_an_entry_the_most_calls_first():
    """Other fields are none, and one that is no longer configured has no address."""
    tally = {
        "errors:one": 9,
        "trouble:one HTTP 503": 2,
        "trouble:two connection refused": 7,
        "trouble:gone HTTP 401": 1,
    }

    assert troubles_of(tally, {"one": ONE, "two": TWO}) == (
        trouble("two", "connection refused", 7),
        trouble("one", "HTTP 503", 2),
        trouble("gone", "HTTP 401", 1, None),
    )


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://api.example/x?key=s3cret", "api.example:80"),
        ("https://me:s3cret@api.example", "api.example:443"),
        ("http://[::1]:81/", "[::1]:81"),
    ],
)
def test_an_address_is_host_and_port_and_nothing_that_may_be_a_secret(url, address):
    """Whatever else the URL holds."""
    assert address_of(url) == address


@pytest.mark.parametrize(("calls", "completed", "failed"), [(0, 0, False), (3, 0, True), (3, 1, False)])
def test_every_call_failed_where_there_were_some_and_none_was_answered_well(calls, completed, failed):
    """A run without a call failed in none."""
    assert every_call_failed(record_from(by_endpoint={"one": {"calls": calls, "completed": completed}})) is failed
