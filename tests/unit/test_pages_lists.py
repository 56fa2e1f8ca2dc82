"""The lists of the dashboard: the filter in their address, the buttons of failures, the trail of an event."""

from __future__ import annotations

from rlm.core.documents import Attempt, EventView, Letter, LetterGroup
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
    kind = {"reason": reason, "answer": answer, "endpoint": endpoint, "type": type}
    return LetterGroup(letters=number, sendable=number, **kind, newest="", oldest="")


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


def test_a_trail_is_in_the_order_of_time():
    """From the audit list over each call to the dead letter."""
    call = {"attempt": 2, "run_id": "r1", "endpoint": None, "at": "2026-11-28T10:15:03.000Z", "answer": "unknown"}
    view = EventView(
        event_id="a-1:A",
        type="A",
        state="failed",
        sentence="",
        taken_at="2026-11-28T10:15:00.100Z",
        attempts=(Attempt(**call, text="nobody knows", seconds=None, host=None),),
        letter=Letter(id="f00d", reason="rejected", detail="HTTP 422", failed_at="2026-11-28T10:15:04.000Z"),
    )

    steps = list(events.trail(view))

    assert [(step.kind, step.run) for step in steps] == [("taken", ""), ("unknown", "r1"), ("letter", "")]
    assert "an endpoint that is not known" in steps[1].told
