"""Silent or slow clients do not keep others out for long."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack

import pytest
import urllib3
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rlm.web import serve
from tests.acceptance.webapp import serving
from tests.each import each
from tests.wait import wait_until

HTTP = urllib3.PoolManager(retries=False, timeout=10)


async def page(request):
    await request.body()  # an answer to the head alone would begin the count anew
    return PlainTextResponse("ok")


@pytest.fixture
def port(monkeypatch):
    """Serve one page to at most three connections, each of which has 0.3 s from one answer to the next."""
    monkeypatch.setattr(serve, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(serve, "MOST_CONNECTIONS", 3)
    with serving(Starlette(routes=[Route("/", page, methods=["GET", "POST"])])) as port:
        yield port


def ask(port):
    return HTTP.request("GET", f"http://127.0.0.1:{port}/", headers={"Connection": "close"}).status


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nX-Half: a h"], ids=["nothing", "half a request"])
def test_connections_that_ask_for_nothing_are_cut(port, said):
    """As many as there may be keep nobody out: the oldest makes room, and in the end all are cut."""
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3)]
        for one in silent:
            one.sendall(said)

        assert ask(port) == 200
        assert all(receive(one) == b"" for one in silent)


def test_a_client_that_sends_a_byte_now_and_then_is_cut_as_well(port):
    """What counts is an answer, not a sign of life."""
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nX-Long: ")

        def drip():
            try:
                slow.sendall(b"a")
            except OSError:
                return True
            return False

        wait_until(drip, message="the connection is cut")


@each("head", [b"X-Long: ", b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n186A0\r\n"])
def test_a_client_that_sends_more_than_a_request_may_have_is_cut(port, head):
    """In its head or in its body, whose length is announced or not."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"a" * 100_000)

        assert receive(client) == b""


def test_a_connection_that_is_used_stays(port):
    """Each answer gives it as long again; HEAD is answered like GET, without the page."""
    with socket.create_connection(("127.0.0.1", port)) as kept:
        for _ in range(5):
            began = time.monotonic()
            kept.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert kept.recv(1000).startswith(b"HTTP/1.1 200")
            wait_until(lambda began=began: time.monotonic() > began + 0.1)


@each(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\ncontent-length:5",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 5",
        b"Content-Length: 5\r\n , 5",
    ],
)
@each("first", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"])
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_its_connection_closed(port, headers, first):
    """As the first of a connection or sent along with another; what stands around it is not answered."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(first + b"GET / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n" + smuggled)
        said = b"".join(iter(lambda: receive(client), b""))

    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"400"]


def receive(client):
    try:
        return client.recv(10_000)
    except ConnectionResetError:  # it was closed before all was read
        return b""


def test_a_client_that_does_not_read_is_cut(monkeypatch):
    """However much of the answer is left."""
    monkeypatch.setattr(serve, "PATIENCE_SECONDS", 0.25)
    app = Starlette(routes=[Route("/", lambda _request: PlainTextResponse("a" * 20_000_000))])
    with serving(app) as port, socket.create_connection(("127.0.0.1", port)) as silent:
        silent.settimeout(10)
        silent.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(3)

        assert len(b"".join(iter(lambda: receive(silent), b""))) < 20_000_000
