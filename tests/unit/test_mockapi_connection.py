"""A connection to the mock API, without the network: what is read, written and recorded of a call."""

from __future__ import annotations

import pytest

from rlm.sandbox.mockapi import connection
from rlm.sandbox.mockapi.connection import ClientConnection, Reply, render
from rlm.sandbox.mockapi.service import Arrival
from tests.each import each


class Answering:
    """Answers every request with one reply, and keeps the requests."""

    def __init__(self, reply):
        self.reply = reply
        self.requests = []

    def cuts(self, path):
        return False

    def receive(self, request, at):
        self.requests.append(request)
        return self.reply


class Line:
    """A transport that checks, during each write, what is recorded of the call."""

    def __init__(self, arrival):
        self.arrival = arrival
        self.noted = []
        self.is_closed = False

    def get_extra_info(self, name):
        return None

    def write(self, data):
        self.noted.append((data[:12], self.arrival.status))

    def close(self):
        self.is_closed = True


def said(*raw):
    """Return the service's requests and the transport after a client sent this."""
    arrival = Arrival(0.0, "a", "i:T", 1, "r", None, accepted=True)
    line, service = Line(arrival), Answering(Reply(200, {}, arrival=arrival))
    client = ClientConnection(service, lambda: 0.0, set())
    client.connection_made(line)
    for part in raw:
        client.data_received(part)
    return service.requests, line


def test_an_answer_is_noted_before_anybody_can_have_it():
    """Who was answered, and looks into the log at once, finds that it was."""
    _, line = said(b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")

    assert line.noted == [(b"HTTP/1.1 200", 200)]


def test_reads_a_request():
    """Method, path without its query, headers in lower case, the body; in however many parts it comes."""
    raw = b"POST /a%20b?x=1 HTTP/1.1\r\nHost: h\r\nContent-LENGTH:  2\r\nIdempotency-Key: i:T\r\n\r\n{}"

    for parts in ([raw], [bytes([one]) for one in raw]):
        ((request,), line) = said(*parts)

        assert (request.method, request.path, request.body, line.is_closed) == ("POST", "/a b", b"{}", False)
        assert request.headers["idempotency-key"] == "i:T"


@pytest.mark.parametrize(
    ("version", "header", "last"),
    [("1.1", "keep-alive", False), ("1.1", "Close", True), ("1.0", "x", True), ("1.0", "keep-alive", False)],
)
def test_knows_when_a_connection_ends(version, header, last):
    """A connection is kept unless the client or its version of HTTP says otherwise."""
    _, line = said(f"GET / HTTP/{version}\r\nConnection: {header}\r\n\r\n".encode())

    assert line.is_closed is last


@each(
    ("raw", "status"),
    [
        (b"nonsense\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 2000\r\n\r\n" + b"x" * 1000, 413),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 1000, 413),
    ],
)
def test_refuses_what_it_does_not_read(raw, status, monkeypatch):
    """Each mistake has its status, and ends the connection."""
    monkeypatch.setattr(connection, "MAX_REQUEST", 1000)
    requests, line = said(raw)

    assert (requests, line.is_closed) == ([], True)
    assert [start for start, _ in line.noted] == [f"HTTP/1.1 {status}".encode()]


def test_a_body_in_chunks_is_read():
    """It has arrived with its last chunk."""
    head, chunk = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n"

    assert said(head, chunk)[0] == []
    assert [one.body for one in said(head, chunk, b"0\r\n\r\n")[0]] == [b"{}"]


def test_writes_an_answer():
    """Status line, headers, body."""
    assert render(Reply(429, {}, {"Retry-After": "3"}), last=True) == (
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"Retry-After: 3\r\nConnection: close\r\n\r\n{}"
    )


def test_an_answer_without_a_body_has_none():
    """A 204 must not be followed by bytes, or the next answer is misread."""
    assert render(Reply(204, {}), last=False) == b"HTTP/1.1 204 No Content\r\n\r\n"
