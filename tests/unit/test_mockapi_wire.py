"""HTTP as bytes."""

from __future__ import annotations

import pytest

from rlm.sandbox.mockapi.connection import BadRequestError, parse_head, render
from tests.each import each


def test_reads_a_request():
    """Method, path without its query, headers in lower case, length."""
    head = parse_head(b"POST /a%20b?x=1 HTTP/1.1\r\nHost: h\r\nContent-LENGTH:  12\r\nIdempotency-Key: i:T")

    assert (head.method, head.path, head.length, head.last) == ("POST", "/a b", 12, False)
    assert head.headers["idempotency-key"] == "i:T"


@pytest.mark.parametrize(
    ("version", "connection", "last"),
    [("1.1", "", False), ("1.1", "Close", True), ("1.0", "", True), ("1.0", "keep-alive", False)],
)
def test_knows_when_a_connection_ends(version, connection, last):
    """A connection is kept unless the client or its version of HTTP says otherwise."""
    assert parse_head(f"GET / HTTP/{version}\r\nConnection: {connection}".encode()).last is last


@each(
    ("raw", "status"),
    [
        (b"nonsense", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: \xb2", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000, 413),
    ],
)
def test_refuses_what_it_does_not_read(raw, status):
    """Each mistake has its status."""
    with pytest.raises(BadRequestError) as caught:
        parse_head(raw)

    assert caught.value.status == status


def test_writes_an_answer():
    """Status line, headers, body."""
    assert render(429, b"{}", {"Retry-After": "3"}, last=True) == (
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"Retry-After: 3\r\nConnection: close\r\n\r\n{}"
    )


def test_an_answer_without_a_body_has_none():
    """A 204 must not be followed by bytes, or the next answer is misread."""
    assert render(204, b"{}", {}, last=False) == b"HTTP/1.1 204 No Content\r\n\r\n"
