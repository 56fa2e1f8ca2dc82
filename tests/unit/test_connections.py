"""Which connection is closed for the next, and how many there may be."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
from dataclasses import dataclass, field

import pytest

from rlm.web.connections import Ceiling, least_missed
from tests.clocks import SetClock


@dataclass(eq=False)
class Connection:
    peer: str
    busy: bool = False
    since: float = 0.0
    held: set = field(default_factory=set, repr=False)

    def cut(self):
        self.held.discard(self)


@pytest.mark.parametrize(
    ("connections", "expected"),
    [
        ([("a", False, 5), ("a", False, 3), ("b", False, 1)], ("a", False, 3)),  # of the client with most
        ([("a", False, 5), ("a", True, 3), ("b", False, 1)], ("a", False, 5)),  # idle
        ([("a", True, 5), ("b", False, 7), ("c", False, 6)], ("c", False, 6)),  # each has one: the longest idle
        ([("a", True, 5), ("a", True, 3)], ("a", True, 3)),  # none is idle
    ],
)
def test_least_missed_is_the_longest_idle_of_the_client_that_has_most(connections, expected):
    """A crowd makes room for itself before others lose anything."""
    gone = least_missed([Connection(*one) for one in connections])

    assert (gone.peer, gone.busy, gone.since) == expected


@pytest.mark.parametrize(
    ("descriptors", "most"), [(1024, 100), (100, 50), (1, 1), (resource.RLIM_INFINITY, 100)], ids=str
)
def test_few_descriptors_lower_the_ceiling(monkeypatch, descriptors, most):
    """Half of them are for files, Redis and those that are being accepted."""
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (descriptors, descriptors))

    assert Ceiling(100).most == most


def test_room_is_made_and_told_once_an_hour(caplog):
    """However many come."""
    held, clock = set(), SetClock(0.0)
    held |= {Connection("a", since=number, held=held) for number in range(10)}
    ceiling = Ceiling(5, clock)
    with caplog.at_level(logging.WARNING):
        for seconds in (0, 3599, 3601):
            clock.time = seconds
            ceiling.make_room(held)
            assert sorted(one.since for one in held) == [6, 7, 8, 9]
            held.add(Connection("a", since=5, held=held))

    assert len(caplog.records) == 2


def test_no_descriptor_left_is_told_once_and_other_errors_as_ever(caplog):
    """Asyncio would log each try, with a traceback."""
    loop = asyncio.new_event_loop()
    ceiling = Ceiling(5)
    for _ in range(100):
        ceiling.on_loop_error(loop, {"message": "accept", "exception": OSError(errno.EMFILE, "Too many open files")})
    ceiling.on_loop_error(loop, {"message": "something else"})
    loop.close()

    assert [record.name for record in caplog.records] == ["rlm.web.connections", "asyncio"]
