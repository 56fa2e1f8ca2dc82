"""A connection to an endpoint: what happens to an abandoned call, and how an idle one ends."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from rlm.core.clock import system_clock
from rlm.delivery.http import Connections

#: More than a server takes that does not read, less than a client's kernel keeps for it.
_MUCH = b"x" * 200_000


@pytest.fixture
def server():
    """A listener that accepts little before it reads."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def meet(server):
    connection = Connections().connect(f"http://127.0.0.1:{server.getsockname()[1]}/", 5)
    peer, _ = server.accept()
    peer.settimeout(5)
    return connection, peer


def read_all(peer):
    """Return all data until the end; a disorderly end is an OSError."""
    read = b""
    while piece := peer.recv(65_536):
        read += piece
    return read


def test_a_call_that_is_given_up_does_not_arrive_later(server):
    """Its slot is free again by then, and the event may be under way once more."""
    connection, peer = meet(server)
    connection.send(_MUCH, system_clock.monotonic() + 5)
    with pytest.raises(TimeoutError):
        connection.receive(system_clock.monotonic() + 0.1)
    connection.close()

    with peer, pytest.raises(ConnectionResetError):
        read_all(peer)


def test_the_call_of_a_killed_process_does_not_arrive_later(server):
    """Nobody is left that could close its connection."""
    if (pid := os.fork()) == 0:
        Connections().connect(f"http://127.0.0.1:{server.getsockname()[1]}/", 5).send(
            _MUCH, system_clock.monotonic() + 5
        )
        os.kill(os.getpid(), signal.SIGKILL)
    peer, _ = server.accept()
    peer.settimeout(5)
    os.waitpid(pid, 0)

    with peer, pytest.raises(ConnectionResetError):
        read_all(peer)


def test_an_answered_connection_ends_in_order(server):
    """An API sees no reset of a connection that is merely no longer wanted."""
    connection, peer = meet(server)
    connection.send(b"POST / HTTP/1.1\r\n\r\n", system_clock.monotonic() + 5)
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    connection.receive(system_clock.monotonic() + 5)
    connection.close()

    with peer:
        assert read_all(peer) == b"POST / HTTP/1.1\r\n\r\n"
