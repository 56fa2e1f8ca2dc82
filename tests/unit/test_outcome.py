"""The meaning of an answer (CONTRACT 2, row by row) and of an error, and how long an endpoint asks to rest."""

from __future__ import annotations

import email.utils
import errno
import json
import socket
import ssl
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rlm.core.call import CallEnd
from rlm.core.endpoint import Endpoint, Limit
from rlm.delivery.attempt import (
    MAX_RETRY_AFTER_SECONDS,
    Call,
    Outcome,
    kind_of_error,
    outcome_of,
    parse_retry_after,
    settlement_of,
)
from rlm.delivery.http import Answer, BrokenAnswerError
from rlm.ledger.turns import Claim
from rlm.settings.model import RetrySettings
from tests.each import each

#: Wednesday, 21 October 2015, 07:28:00 UTC.
NOW = 1_445_412_480.0
API = Endpoint("api", "http://api.test/", Limit.parse("30/minute"), 10.0)


def answered(status, *retry_after, excerpt="", tries=0, runs=0):
    """Return a call that got such an answer."""
    claim = Claim("i:T", 1, "e", 0, "run", 0, 0, 0, "w", 7, tries, runs, worker_id="h:1:w", item=b"{}")
    answer = Answer()
    answer.status, answer.whole, answer.body = status, True, bytearray(excerpt.encode())
    answer.fields += [("date", email.utils.formatdate(NOW)), *(("retry-after", value) for value in retry_after)]
    return Call(claim, API, answer, 0.25, is_sent=True)


def outcome(status, *retry_after, excerpt=""):
    """Return the outcome of such an answer."""
    return outcome_of(answered(status, *retry_after, excerpt=excerpt))


@each(
    ("status", "retry_after", "seconds"),
    [
        (429, [], None),
        (429, ["7"], 7.0),
        (429, ["soon"], None),
        (503, ["7"], 7.0),
        (503, ["0"], 0.0),
        (503, ["soon"], None),
        (429, ["7", "60"], 60.0),
        (503, ["60", "7"], 60.0),
        (429, ["soon", "7"], 7.0),
        (429, ["Wed, 21 Oct 2015 07:28:30 GMT", "7"], 30.0),
    ],
)
def test_429_and_503_with_retry_after_throttle(status, retry_after, seconds):
    """The endpoint wants a rest: the longest it asks for, or its own period if it asks for none."""
    heard = outcome(status, *retry_after, excerpt="slow down")
    assert (heard.finish, heard.rest_seconds) == (CallEnd.THROTTLED, seconds)


@each("status", [408, 425, 500, 501, 502, 503, 504, 505, 507, 511, 599])
def test_408_425_and_other_5xx_are_tried_again(status):
    """The event may be sent again; the answer was one, so its time is known."""
    assert outcome(status) == Outcome(f"HTTP {status}", "HTTP 5xx" if status == 599 else f"HTTP {status}")
    assert json.loads(settlement_of(answered(status), RetrySettings(), NOW).entry)[5] == 0.25


@each("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_any_3xx_is_rejected(status):
    """No redirect is followed: the event would never arrive where it should."""
    assert outcome(status).finish is CallEnd.REJECTED


@each("status", sorted(set(range(400, 500)) - {408, 425, 429}))
def test_any_other_4xx_is_rejected(status):
    """The event will never be taken as it is, and the answer says why."""
    heard = outcome(status, "5", excerpt="no such wallet")
    assert (heard.finish, heard.text) == (CallEnd.REJECTED, f"HTTP {status}: no such wallet")


def test_what_the_deadline_cut_spends_no_run_and_does_not_speak_of_the_endpoint():
    made = settlement_of(replace(answered(503, tries=2), cut=True), RetrySettings(), NOW)
    assert (made.to, made.health, made.letter) == ("backoff", "", "")


def test_of_refusals_five_alone_speak_of_the_endpoint():
    """Several of 401, 403, 404, 405 and 410 in a row rest it; any other is about its event, a redirect as well."""
    settled = {status: settlement_of(answered(status), RetrySettings(), NOW) for status in range(300, 500)}
    rejected = {status: each.health for status, each in settled.items() if each.finish is CallEnd.REJECTED}
    assert [status for status, health in rejected.items() if health == "failure"] == [401, 403, 404, 405, 410]


@given(st.integers(300, 599), st.lists(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]))))
def test_every_answer_there_can_be_has_an_outcome(status, retry_after):
    """No status and no header is an exception, and a throttle's rest is never negative nor without end."""
    heard = outcome(status, *retry_after, excerpt="x")

    assert heard.finish is not CallEnd.COMPLETED
    if heard.rest_seconds is not None:
        assert 0 <= heard.rest_seconds <= MAX_RETRY_AFTER_SECONDS


@each(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wednesday, 21-Oct-15 07:28:30 GMT", 30.0),
        ("Wed Oct 21 07:28:30 2015", 30.0),
        ("Wed, 21 Oct 2015 09:28:30 +0200", 30.0),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30.0),
        ("Wed, 21 Oct 2015 07:27:30 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_SECONDS),
        ("999999999999999999999999", MAX_RETRY_AFTER_SECONDS),
        ("9" * 400, MAX_RETRY_AFTER_SECONDS),
        *(
            (text, None)
            for text in ("-5", "-0.5", "+5", "1e3", "1e400", "inf", "-inf", "Infinity", "nan", "1_0", "\u0665")
        ),
        ("", None),
        ("soon", None),
        ("5, 6", None),
        ("0x10", None),
        ("Wed, 21 Oct 2015 25:61:00 GMT", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_or_nothing(value, seconds):
    """Both forms of HTTP are read, the past is now, the absurd is a day, nonsense is none."""
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_date_without_a_zone_is_in_utc_wherever_the_machine_is(monkeypatch, zone):
    """The old form of an HTTP date names no zone and means GMT."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert parse_retry_after("Wed Oct 21 07:28:30 2015", NOW) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


@each(
    ("tries", "runs", "to"),
    [(0, 0, "backoff"), (1, 4, "backoff"), (2, 0, "spent"), (2, 3, "spent"), (2, 4, "failed"), (3, 4, "failed")],
)
def test_attempts_are_bounded_in_a_run_and_over_runs(tries, runs, to):
    """Three in a run, and five runs in which all were spent: the values of the contract's table."""
    failed = answered(500, tries=tries, runs=runs)

    settlement = settlement_of(failed, RetrySettings(max_attempts=3, max_runs=5), NOW)

    assert settlement.to == to
    assert (settlement.tried or "").startswith(f"8 {runs + (to == 'spent')} {tries + 1} run ")
    assert bool(settlement.letter) is (to == "failed")
    assert json.loads(settlement.entry)[1] == 8


def refused(code):
    """Return the error about a certificate, with OpenSSL's number."""
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return error


@each(
    ("error", "kind"),
    [
        (ConnectionRefusedError(), "connection refused"),
        (ConnectionResetError(), "connection cut"),
        (BrokenPipeError(), "connection cut"),
        (TimeoutError(), "no answer in time"),
        (socket.gaierror(-2, "unknown"), "name not found"),
        (UnicodeError(), "name not found"),
        (refused(18), "TLS certificate refused"),
        (refused(10), "TLS certificate expired"),
        (socket.gaierror(socket.EAI_AGAIN, "no resolver"), "no resolver answers"),
        (ssl.SSLError(), "TLS failed"),
        (BrokenAnswerError("no HTTP"), "broken answer"),
        (OSError(errno.EHOSTUNREACH, "no route"), "not reachable"),
    ],
)
def test_each_error_has_its_word(error, kind):
    """The narrower the better."""
    assert kind_of_error(error) == kind


@pytest.mark.parametrize(
    ("status", "kind"), [(503, "HTTP 503"), (429, "HTTP 429"), (599, "HTTP 5xx"), (477, "HTTP 4xx")]
)
def test_a_status_that_http_does_not_know_shares_its_word(status, kind):
    """So a hostile API makes no more of them than there are."""
    assert outcome(status).kind == kind
