"""Limits read from text, windows named after URLs, and the order in which a type's endpoints are used."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Endpoint, Limit, Rule, Success, address_of
from tests.each import each
from tests.values import replace


def endpoint(name, url=""):
    return Endpoint(name, url or f"http://127.0.0.1:1/{name}", Limit.parse("30/minute"), timeout_seconds=10)


@each(
    ("text", "rules"),
    [
        ("30/minute", [Rule(30, 60)]),
        ("30 per minute", [Rule(30, 60)]),
        ("30per 2 minutes", [Rule(30, 120)]),
        ("1/second", [Rule(1, 1)]),
        ("5/HOUR", [Rule(5, 3600)]),
        ("5/day", [Rule(5, 86400)]),
        ("5/month", [Rule(5, 30 * 86400)]),
        ("5/year", [Rule(5, 360 * 86400)]),
        ("20 per 0.6 second", [Rule(20, 0.6)]),
        ("20/0.05second", [Rule(20, 0.05)]),
        ("20/second; 1000/hour", [Rule(20, 1), Rule(1000, 3600)]),
        ("20/second,1000/hour|9/day", [Rule(20, 1), Rule(1000, 3600), Rule(9, 86400)]),
    ],
)
def test_a_limit_is_read_as_limits_notation_with_fractions(text, rules):
    limit = Limit.parse(text)

    assert limit == Limit(text, tuple(rules))
    assert limit.longest_seconds == max(rule.seconds for rule in rules)


@each(
    "text",
    [
        "",
        "30",
        "30/",
        "/minute",
        "30/minut",
        "30/min",
        "30/fortnight",
        "30/minute;",
        "-3/minute",
        "3.5/minute",
        "٣/second",
        "1/٣ second",
        "1e3/minute",
        "30 per .5 second",
        "30/minute\n30/minute",
    ],
)
def test_what_is_no_limit_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="is not a limit; write for example") as caught:
        Limit.parse(text)

    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["0/minute", "30 per 0 minute", "30 per 0.0 second", "30/minute; 0/hour"])
def test_a_limit_that_lets_nothing_through_is_refused(text):
    with pytest.raises(ValueError, match="are above 0"):
        Limit.parse(text)


def test_the_window_follows_the_url_alone():
    one = endpoint("one")
    same = replace(one, name="other", limit=Limit.parse("1/day"), timeout_seconds=1)

    assert same.window_id == one.window_id
    assert endpoint("one", "http://127.0.0.1:1/else").window_id != one.window_id


@each(
    ("success", "content_type", "body", "accepted"),
    [
        (Success(), "", b"", True),
        (Success("application/json"), "Application/JSON; charset=utf-8", b"<", True),
        (Success("application/json"), "text/html", b"{}", False),
        (Success("application/json"), "", b"{}", False),
        (Success(field="done"), "", b'{"done": null}', True),
        (Success(field="done"), "", b'{"state": 1}', False),
        (Success(field="done"), "", b'["done"]', False),
        (Success(field="done"), "", b'"done"', False),
        (Success(field="done"), "", b"<html>", False),
        (Success(field="done"), "", b"\xff", False),
        (Success(field="done"), "", b"[" * 100_000, False),
        (Success(field="status", value="ok"), "", b'{"status": "ok"}', True),
        (Success(field="status", value="ok"), "", b'{"status": "OK"}', False),
        (Success(field="code", value=0), "", b'{"code": 0.0}', True),
        (Success(field="code", value=0), "", b'{"code": false}', False),
        (Success(field="error", value=False), "", b'{"error": false}', True),
        (Success(field="error", value=False), "", b'{"error": 0}', False),
        (Success(value="ok"), "", b'"ok"', True),
        (Success(value="ok"), "", b"ok", False),
    ],
)
def test_what_success_is(success, content_type, body, accepted):
    assert success.accepts(content_type, body) is accepted


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://api.example/x?key=s3cret", "api.example:80"),
        ("https://me:s3cret@api.example", "api.example:443"),
        ("http://[::1]:81/", "[::1]:81"),
        ("http://[${HOST}]:${PORT}/x", "[${HOST}]:${PORT}"),
        ("${API}/x?to=http://h", "${API}"),
    ],
)
def test_an_address_is_host_and_port_and_nothing_that_may_be_a_secret(url, address):
    assert address_of(url) == address
