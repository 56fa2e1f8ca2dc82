"""Pages as HTML, and how they stay current, without a store."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from rlm.core.documents import EndpointChange, EndpointView, Installation, LetterGroup, RunCourse
from rlm.web.pages import PAGES, endpoints, now
from rlm.web.pages.page import Frame, Query, Viewer, render
from tests.unit.statuses import endpoint, status

HOSTILE = '<b onclick="x()">wallet</b>\x1b[31m\u202e'


class Shared:
    """Replaces `Documents`: it has the given documents by name."""

    def __init__(self, **found):
        self._found = found

    def status(self):
        return self._found["status"]

    def get(self, key, _find, _seconds=1.0):
        if key[0] == "run":
            return self._found["status"], RunCourse(calls={"a": (1.0, 2.0)}, missing={}, changes=(), workers=())
        if key == "installation":
            return Installation(config=HOSTILE, redis="embedded", prefix="rlm")
        return self._found.get(key.replace(" ", "_"), [])


def shown(page, documents, *, may_write=True):
    """Return the HTML of a page."""
    frame = Frame(PAGES, page, "s", 0.0, Viewer(may_write, "csrf"))
    return render(frame, page.template, page.context(documents, Query()))


LETTER = {"letters": 8, "sendable": 7, "reason": "rejected", "answer": "HTTP 400", "endpoint": HOSTILE, "type": "T"}
AT = "2026-11-25T10:15:00.000Z"
LETTERS = [LetterGroup(**LETTER, newest=AT, oldest=AT)]
LISTED = {
    **endpoint(["T"], used=30, health="full"),
    "name": "a",
    "kind": "endpoint",
    "budget": None,
    "limit_by": "file",
    "limit_at": None,
    "failures": 0,
    "since": None,
    "paused_by": None,
    "paused_at": None,
    "paused_until": None,
    "circuit_reason": None,
}


def test_now_shows_what_the_status_has():
    """By type, in the words of the terminal, with its curve; and a retry of the dead letters of a kind."""
    html = shown(now.PAGE, Shared(status=status(), letter_groups=LETTERS))

    assert "On track, finishes 57 s before the deadline" in html
    assert html.count('<b data-what="completed">60</b> of <span data-what="total">180</span>') == 5
    assert 'class="forecast"' in html
    chosen = json.loads(re.search(r"data-body='([^']+)'", html)[1])["filter"]
    assert chosen == {
        "reason": ["rejected"],
        "type": ["T"],
        "endpoint": [HOSTILE],
        "answer": ["HTTP 400"],
    }
    assert ">Retry these 7</button>" in html


def test_endpoints_shows_windows_and_changes():
    """A bar for each, the health in its word, the limit to begin with in the dialog."""
    change = {"at": "2026-11-25T10:15:00.000Z", "by": "me@h", "name": "a", "what": "resume", "from": "open", "to": None}
    documents = Shared(
        status=status(),
        endpoints=[msgspec.convert(LISTED, EndpointView)],
        changes=[msgspec.convert({**change, "reason": HOSTILE}, EndpointChange)],
        measured=None,
    )
    html = shown(endpoints.PAGE, documents)

    assert 'aria-label="30 calls used of 30"' in html
    assert '<span class="badge busy" data-what="health">full</span>' in html
    assert 'data-rate="30/minute"' in html
    assert '<td data-label="from">resting<td><td>&lt;b onclick=' in html


@pytest.mark.parametrize("page", [now.PAGE, endpoints.PAGE])
def test_nothing_from_outside_becomes_markup(page):
    """It is escaped, control characters are shown, and nothing needs a looser policy than `self`."""
    listed = [msgspec.convert({**LISTED, "limit_by": HOSTILE}, EndpointView)]
    documents = Shared(status=status(), endpoints=listed, letter_groups=LETTERS, measured=None)
    html = shown(page, documents)

    assert "<b onclick" not in html
    assert "\x1b" not in html
    assert "\\u001b[31m\\u202e" in html
    assert not re.search(r"\sstyle=|<style|\son\w+=\"|<script(?! src)", html)


@pytest.mark.parametrize("page", [now.PAGE, endpoints.PAGE])
def test_who_may_only_read_sees_no_button(page):
    """No order is offered that would be refused."""
    documents = Shared(status=status(), endpoints=[msgspec.convert(LISTED, EndpointView)], measured=None)

    assert "<button data-post" not in shown(page, documents, may_write=False)
    assert 'data-post="/api/' in shown(page, documents)
    assert "<noscript>" in shown(page, documents)  # else they do nothing and say nothing


# -- staying current
