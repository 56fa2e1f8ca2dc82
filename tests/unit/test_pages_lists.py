"""The lists of the dashboard: the filter in their address, the buttons of failures, the trail of an event."""

from __future__ import annotations

import pytest

from rlm.admin.runs import RunFilter
from rlm.web.pages import events
from rlm.web.pages.page import ListFilter, Query, event_address, words
from tests.each import each
from tests.values import as_json, record_from


def asked(*query, path="/runs"):
    return ListFilter(path, Query(query=query))


def test_a_filter_can_be_said_again_as_address_and_as_options():
    """Whatever is in it: what the page shows, the link to its next part, and the command agree."""
    found = asked(("state", "partial"), ("state", "failed"), ("since", "24h"), ("search", "a b'&<"), ("other", "x"))

    assert found.choices("state", ("partial", "failed", "completed")) == {"partial", "failed"}
    assert found.ago("since") == 86_400
    assert found.text("search") == "a b'&<"
    assert not found.faults
    assert found.address(before="r1") == ("/runs?state=partial&state=failed&since=24h&search=a+b%27%26%3C&before=r1")
    assert found.options() == """ --state partial --state failed --since 24h --search 'a b'"'"'&<'"""


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


RECORD = as_json(
    record_from(
        run_id="20261128T101500000Z-1a2b",
        state="partial",
        trigger="schedule",
        started_at="2026-11-28T10:15:00.000Z",
    )
)


@each(
    ("chosen", "fits"),
    [
        (RunFilter(), True),
        (RunFilter(states=frozenset({"partial", "failed"})), True),
        (RunFilter(states=frozenset({"failed"})), False),
        (RunFilter(since=1_795_860_900.0), True),
        (RunFilter(since=1_795_860_901.0), False),
    ],
)
def test_runs_fit_by_all_that_is_asked(chosen, fits):
    """One of several values is enough."""
    assert chosen.fits(RECORD) == fits


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


def test_all_letters_are_meant_only_where_nothing_is_asked():
    """An empty filter is never sent: the API would have to guess."""
    assert events.body({}) == {"all": True}
    assert events.body({"since": ["24h"]}) == {"filter": {"since": "24h"}}


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


def test_an_event_that_was_not_taken_has_no_trail():
    """It waits on the audit list."""
    assert not list(events.trail(explained(taken_at=None, attempts=[], letter=None)))


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


def test_commands_in_a_sentence_are_told_apart_and_markup_is_text():
    """Also what a terminal could take for a command is made visible."""
    assert words("see `rlm failed list` <b>\x1b[31m`") == (
        "see <code>rlm failed list</code> &lt;b&gt;\\u001b[31m<code></code>"
    )


def test_a_command_goes_on_where_its_page_does():
    """What it is told comes from an address, so it is quoted for a shell."""
    found = asked(("state", "partial"))
    found.choices("state", ("partial",))

    assert found.options(before="r1; rm x", after="") == " --state partial --before 'r1; rm x'"
