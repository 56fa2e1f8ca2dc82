"""The lists of the dashboard: the filter in their address, the buttons of failures, the trail of an event."""

from __future__ import annotations

import pytest

from rlm.web.pages import events
from rlm.web.pages.page import ListFilter, Query, event_address
from tests.each import each


def asked(*query, path="/runs"):
    return ListFilter(path, Query(query=query))


@each(
    ("name", "value", "told"),
    [
        ("state", "odd", "not one of partial, failed"),
        ("since", "yesterday", "not a duration"),
        ("since", "0", "not a duration"),
        ("search", "x" * 321, "at most 320"),
        ("behind", "-1", "not a place"),
        ("behind", "1" * 10, "not a place"),
    ],
)
def test_what_cannot_be_understood_is_a_fault(name, value, told):
    """It is named with its value; the list then shows nothing, and has no buttons."""
    found = asked((name, value))
    found.choices("state", ("partial", "failed"))
    found.ago("since")
    found.text("search")
    found.number("behind")

    (fault,) = found.faults
    assert told in fault


def test_the_address_of_an_event_holds_any_id():
    """Slashes, dots, questions and markup in it lead nowhere else."""
    assert event_address("a/../b?c#<d>:T") == "/events/a%2F..%2Fb%3Fc%23%3Cd%3E:T"


def group(reason, number=1, answer=None, endpoint=None, type=None):  # noqa: A002  # the name in the document
    return {"letters": number, "reason": reason, "answer": answer, "endpoint": endpoint, "type": type}


def test_a_button_of_a_group_means_that_group_alone():
    """Its filter is the page's, narrowed to the group; it has none if other groups would fit that, too."""
    found = asked(("search", "wallet_001"), path="/failures")
    found.text("search")
    groups = [
        group("rejected", 8, "HTTP 422", "a1", "A"),
        group("rejected", 2, "HTTP 400", "a1", "A"),
        group("wrong_type", 3, type="A"),
        group("wrong_type", 4),
    ]

    bodies = [events.group(one, groups, found.given)["body"] for one in groups]

    rest = {"search": "wallet_001", "endpoint": ["a1"], "type": ["A"], "reason": ["rejected"]}
    assert bodies == [
        {"filter": {**rest, "answer": ["HTTP 422"]}},
        {"filter": {**rest, "answer": ["HTTP 400"]}},
        {"filter": {"search": "wallet_001", "reason": ["wrong_type"], "type": ["A"]}},
        None,
    ]


def explained(**changes):
    document = {
        "event_id": "a-1:A",
        "state": "failed",
        "calls": 3,
        "taken_at": "2026-11-28T10:15:00.100Z",
        "taken_in": "r1",
        "attempts": [
            {
                "attempt": 2,
                "run_id": "r1",
                "endpoint": None,
                "at": "2026-11-28T10:15:03.000Z",
                "answer": "unknown",
                "text": "nobody knows",
                "seconds": None,
                "host": None,
            }
        ],
        "letter": {"id": "f00d", "reason": "rejected", "detail": "HTTP 422", "failed_at": "2026-11-28T10:15:04.000Z"},
    }
    return {**document, **changes}


def test_a_trail_is_in_the_order_of_time():
    """From the audit list over each call to the dead letter; calls that the trail forgot are counted."""
    shown = events.explained(explained())

    assert [(one["kind"], one["run"]) for one in shown["trail"]] == [("taken", "r1"), ("unknown", "r1"), ("letter", "")]
    assert "an endpoint that is not known" in shown["trail"][1]["told"]
    assert shown["earlier"] == 2
    assert shown["letters"] == "/failures?search=f00d"


NOTHING = {"runs": [], "events": [], "letter": None}


@pytest.mark.parametrize(
    ("found", "place"),
    [
        ({**NOTHING, "runs": ["r1"]}, "/runs/r1"),
        ({**NOTHING, "runs": ["r1", "r2"]}, ""),
        ({**NOTHING, "events": [{"event_id": "a-1:A"}]}, "/events/a-1:A"),
        ({**NOTHING, "events": [{"event_id": "a-1:A"}, {"event_id": "a-1:B"}]}, ""),
        ({**NOTHING, "letter": "f00d"}, "/failures?search=f00d"),
        (NOTHING, ""),
    ],
)
def test_a_search_leads_to_what_is_one_thing(found, place):
    """Several are listed."""
    assert events.place(found) == place
