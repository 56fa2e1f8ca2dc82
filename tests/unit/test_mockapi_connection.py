"""A connection to the mock API, without the network: what is noted of a call when its answer leaves."""

from __future__ import annotations

from rlm.sandbox.mockapi.arrivals import Arrival
from rlm.sandbox.mockapi.connection import ClientConnection, Reply
from rlm.web.connections import Ceiling


class Answering:
    """Answers every request with one reply."""

    def __init__(self, reply):
        self.reply = reply

    def cuts(self, head):
        return False

    def receive(self, head, body, at):
        return self.reply


class Line:
    """A transport that looks, while something is written to it, what is noted of the call."""

    def __init__(self, arrival):
        self.arrival = arrival
        self.noted = []

    def get_extra_info(self, name):
        return None

    def write(self, data):
        self.noted.append((data[:12], self.arrival.status))


def test_an_answer_is_noted_before_anybody_can_have_it():
    """Who was answered, and looks into the log at once, finds that it was."""
    arrival = Arrival(0.0, "a", "i:T", 1, "r", None, accepted=True)
    line = Line(arrival)
    connection = ClientConnection(Answering(Reply(200, b"{}", arrival=arrival)), lambda: 0.0, set(), Ceiling(10))
    connection.connection_made(line)

    connection.data_received(b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")

    assert line.noted == [(b"HTTP/1.1 200", 200)]
