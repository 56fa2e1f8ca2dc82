"""Live views: until the end is shown, until the user ends them, and while Redis is away."""

from __future__ import annotations

import os
import signal

import pytest

from rlm.cli.status import Detached, detachable, watch
from rlm.core.clock import system_clock
from rlm.core.errors import NoSuchRunError, StoreUnreachableError


class Output:
    """Records its calls, and whether it was left."""

    def __init__(self):
        self.told = []
        self.left = False

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.left = True

    def show(self, document):
        self.told.append(document["n"])

    def trouble(self, why):
        self.told.append(why)


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that were made, none of which takes time."""
    made = []
    monkeypatch.setattr(type(system_clock), "sleep", lambda _self, seconds: made.append(seconds))
    return made


def looks(*steps):
    """Return a look that returns documents of these numbers, or raises these errors, one after the other."""
    left = iter(steps)

    def look():
        step = next(left)
        if isinstance(step, BaseException):
            raise step
        if step == "Ctrl-C":
            os.kill(os.getpid(), signal.SIGINT)
        return {"n": step}

    return look


def test_it_ends_with_the_last_document(pauses):
    """Which is shown, and returned; between two there is a pause."""
    output = Output()

    last = watch(looks(1, 2, 3), output, 0.5, lambda found: found["n"] == 3)

    assert last == {"n": 3}
    assert (output.told, output.left, pauses) == ([1, 2, 3], True, [0.5, 0.5])


def test_it_goes_on_when_redis_is_back():
    """Meanwhile it says so."""
    output = Output()

    watch(looks(1, StoreUnreachableError("away"), 2), output, 1, lambda found: found["n"] == 2)

    assert output.told == [1, "away", 2]


def test_any_other_error_ends_it():
    """A run that nobody knows will not be known by waiting."""
    output = Output()

    with pytest.raises(NoSuchRunError):
        watch(looks(1, NoSuchRunError("no such run")), output, 1)
    assert output.left


def test_a_signal_ends_it_and_is_an_error_no_more():
    """Even in the middle of a look; the output is left in order, and Ctrl-C means again what it meant before."""
    before, output = signal.getsignal(signal.SIGINT), Output()

    assert watch(looks(1, "Ctrl-C"), output, 1) is None

    assert (output.told, output.left) == ([1], True)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_does_not_interrupt_what_puts_things_in_order():
    """The first one has been heard."""
    tidied = []

    def interrupted():
        with detachable():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                tidied.append(1)

    with pytest.raises(Detached):
        interrupted()

    assert tidied
