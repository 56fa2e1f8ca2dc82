"""Pages as HTML, and how they stay current, without a store."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from rlm.core.errors import StoreForbiddenError, StoreGarbledError, StoreRefusingError, StoreUnreachableError
from rlm.core.window import Circuit
from rlm.web.pages import PAGES, _Site, endpoints, live, now
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Frame, Page, Query, Viewer, moment, render, words
from tests.unit.statuses import endpoint, record, rest, status

HOSTILE = '<b onclick="x()">wallet</b>\x1b[31m\u202e'


class Shared:
    """Replaces `Documents`: it has the given documents by name."""

    def __init__(self, **found):
        self._found = found

    def status(self):
        return self._found["status"]

    def get(self, key, _find, _seconds=1.0):
        if key.startswith("course of"):
            return {"calls": {"a": [1.0, 2.0]}, "missing": {}, "changes": [], "workers": []}
        return self._found.get(key.replace(" ", "_"), [])

    @property
    def done(self):
        return SimpleNamespace(look=lambda: self._found.get("course"))


def shown(page, documents, *, may_write=True):
    """Return the HTML of a page."""
    frame = Frame(PAGES, page, "s", 0.0, Viewer(may_write, "csrf"))
    return render(frame, page.template, page.context(documents, Query()))


WHERE = {"config": HOSTILE, "redis": "embedded", "prefix": "rlm"}
COURSE = {
    "run_id": status()["run_id"],
    "started_at": status()["started_at"],
    "window_seconds": 180.0,
    "first_call_seconds": 3.0,
    "points": [(4.0, 100), (70.0, 300)],
}
LETTER = {"letters": 8, "sendable": 7, "reason": "rejected", "answer": "HTTP 400", "endpoint": HOSTILE, "type": "T"}
LETTERS = [{**LETTER, "newest": "2026-11-25T10:15:00.000Z", "newest_id": "1", "oldest": "2026-11-25T10:15:00.000Z"}]
LISTED = {
    **endpoint(["T"], used=30, health="full"),
    "kind": "endpoint",
    "budget": None,
    "limit_by": "file",
    "limit_at": None,
    "failures": 0,
    "since": None,
    "paused_by": None,
    "paused_at": None,
    "paused_until": None,
    "refused": None,
    "circuit_reason": None,
}


def test_now_shows_what_the_status_has():
    """By type, in the words of the terminal, with its curve; and a retry of the dead letters of a kind."""
    html = shown(now.PAGE, Shared(status={**status(), **WHERE}, course=COURSE, letter_groups=LETTERS))

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


def test_without_the_script_a_page_says_when_it_was_so():
    """It neither updates itself nor has buttons."""
    html = shown(now.PAGE, Shared(status={**status(), **WHERE}))

    assert "<noscript>" in html
    assert "This is what was so at 00:00:00 UTC." in html


def test_now_offers_no_retry_that_cannot_help():
    """Nor one that would be of other letters as well."""
    nothing = {"answer": None, "endpoint": None, "type": None}
    alike = [{**LETTERS[0], **nothing, "reason": "unknown_type"}, {**LETTERS[0], "reason": "unknown_type"}]
    hopeless = [{**LETTERS[0], "sendable": 0}]
    for letters, number in ((alike, 1), (hopeless, 0)):
        html = shown(now.PAGE, Shared(status={**status(), **WHERE}, letter_groups=letters))

        assert html.count('data-post="/api/failed/retry"') == number


@pytest.mark.parametrize(
    "found",
    [rest(), rest(last_record=None), rest(last_record=None, schedulers=0, supervisors=0, last_tick=None)],
)
def test_now_between_two_runs(found):
    """Without a record, a curve, a scheduler or a tick as well."""
    html = shown(now.PAGE, Shared(status={**found, **WHERE}, last_runs=[record()] if found["last_record"] else []))

    assert "no run is open" in html
    starts = found["schedulers"] and found["last_record"] is None  # without a scheduler `rlm start` would be refused
    assert [text in html for text in ("starts one now", "then <code>rlm start</code>")] == [starts] * 2
    assert ('id="start"' in html) == bool(found["schedulers"])
    assert ("calls sent" in html) == (found["last_record"] is not None)


def test_endpoints_shows_windows_and_changes():
    """A bar for each, the health in its word, the limit to begin with in the dialog."""
    change = {"at": "2026-11-25T10:15:00.000Z", "by": "me@h", "name": "a", "what": "resume", "from": "open", "to": None}
    documents = Shared(
        status=status(),
        endpoints=[{"name": "a", **LISTED}],
        changes=[{**change, "reason": HOSTILE}],
        measured=None,
    )
    html = shown(endpoints.PAGE, documents)

    assert 'aria-label="30 calls used of 30"' in html
    assert '<span class="badge busy" data-what="health">full</span>' in html
    assert 'data-rate="30/minute"' in html
    assert '<td data-label="from">resting<td><td>&lt;b onclick=' in html


def test_an_endpoint_is_paused_and_resumed_whenever_that_changes_something():
    """One that rests can be paused as well, as by the command: each of its probes may cost an event."""
    offered = {}
    for health, paused_by in [(one, None) for one in Circuit] + [(Circuit.HELD, "me@h")]:
        listed = {"name": "a", **LISTED, "health": health, "paused_by": paused_by}
        html = shown(endpoints.PAGE, Shared(status=status(), endpoints=[listed], changes=[], measured=None))
        offered[health, paused_by] = re.findall(r'<button id="(pause|resume)-a" aria-label="\w+ a"', html)

    assert offered == {
        (Circuit.OK, None): ["pause"],
        (Circuit.FULL, None): ["pause"],
        (Circuit.RESTING, None): ["resume", "pause"],
        (Circuit.PROBING, None): ["resume", "pause"],
        (Circuit.PAUSED, None): ["resume"],
        (Circuit.HELD, None): ["pause"],
        (Circuit.HELD, "me@h"): ["resume"],
    }


@pytest.mark.parametrize("page", [now.PAGE, endpoints.PAGE])
def test_nothing_from_outside_becomes_markup(page):
    """It is escaped, control characters are shown, and nothing needs a looser policy than `self`."""
    listed = [{"name": "a", **LISTED, "limit_by": HOSTILE}]
    documents = Shared(status={**status(), **WHERE}, endpoints=listed, letter_groups=LETTERS, measured=None)
    html = shown(page, documents)

    assert "<b onclick" not in html
    assert "\x1b" not in html
    assert "\\u001b[31m\\u202e" in html
    assert not re.search(r"\sstyle=|<style|\son\w+=\"|<script(?! src)", html)


@pytest.mark.parametrize("page", [now.PAGE, endpoints.PAGE])
def test_who_may_only_read_sees_no_button(page):
    """No order is offered that would be refused."""
    documents = Shared(status={**status(), **WHERE}, endpoints=[{"name": "a", **LISTED}], measured=None)

    assert "<button data-post" not in shown(page, documents, may_write=False)
    assert 'data-post="/api/' in shown(page, documents)
    assert "<noscript>" in shown(page, documents)  # else they do nothing and say nothing


def test_every_section_stands_on_the_page():
    """A section that came and went could not be replaced: the script would load the page anew."""
    documents = [
        Shared(status={**status(), **WHERE}),
        Shared(status={**rest(), **WHERE}),
        Shared(status={**rest(last_record=None), **WHERE}),
    ]

    assert (
        len({tuple(re.findall(r'id="(\w+)" class="[^"]*" data-live', shown(now.PAGE, one))) for one in documents}) == 1
    )


def test_a_sentence_has_its_commands_as_code():
    """And is escaped."""
    assert words("type `rlm up` <now>") == "type <code>rlm up</code> &lt;now&gt;"


def test_a_time_is_shown_without_the_script_too():
    """In UTC; none is no time."""
    assert moment("2026-11-25T10:15:00.123Z", "clock") == (
        '<time datetime="2026-11-25T10:15:00.123Z" data-clock>10:15:00 UTC</time>'
    )
    assert moment(None) == "never"


def test_a_question_is_the_last_said_of_a_name():
    """What the path says goes before the query, and equal questions are one."""
    question = Query((("run_id", "r"),), (("type", "a"), ("type", "b"), ("run_id", "x")))

    assert (question.get("run_id"), question.get("type"), question.get("none", "-")) == ("r", "b", "-")
    assert question.all("type") == ["a", "b"]
    assert hash(question) == hash(Query(*question))


# -- staying current


def test_who_asks_while_redis_is_away_hears_when_it_answered_last(monkeypatch):
    """As far as pages know; what refuses is not called silent."""
    documents = Documents(SimpleNamespace())
    monkeypatch.setattr(live.system_clock, "now", lambda: 1_764_400_000.0)
    silent = StoreUnreachableError("no")

    assert documents.away(silent) == "Redis does not answer (nor has it since rlm web was started)"
    documents.get("a", lambda _store: 1)
    assert documents.away(silent) == "Redis does not answer (its last answer: 07:06:40 UTC)"
    monkeypatch.setattr(live.system_clock, "now", lambda: 1_764_500_000.0)
    with pytest.raises(StoreUnreachableError):
        documents.get("b", lambda _store: (_ for _ in ()).throw(silent))
    assert documents.away(silent) == "Redis does not answer (its last answer: 2025-11-29 07:06:40 UTC)"
    for refuses in (StoreForbiddenError("no"), StoreRefusingError("no")):
        assert documents.away(refuses) == "Redis refuses what this page needs"
    assert documents.away(StoreGarbledError("no")) == "What is in Redis cannot be read; see rlm doctor"


@pytest.mark.parametrize(
    ("error", "says", "goes_on"),
    [
        (StoreUnreachableError, "Redis does not answer", True),
        (StoreRefusingError, "Redis refuses", False),
        (StoreGarbledError, "What is in Redis cannot be read", False),
    ],
)
def test_only_what_is_silent_is_said_to_go_on_once_it_answers(error, says, goes_on):
    """A page that cannot be shown promises nothing of a Redis that has answered already."""
    broken = Page("/", "Now", "now.html", Mock(side_effect=error("this is why")))

    page, status = _Site(Mock())._page(broken, Query(), Viewer())

    assert status == 503
    assert says in page
    assert "this is why" in page
    assert ("once it answers" in page) == goes_on
