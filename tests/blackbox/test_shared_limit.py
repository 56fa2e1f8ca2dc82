"""Another program that calls the same API, with the lines that `rlm endpoint share` prints."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.blackbox.api import most_in_any
from tests.blackbox.system import kill, until

pytestmark = pytest.mark.rest

#: It calls whenever it may, and ends with its parent.
PROGRAM = """
import sys, threading, time, urllib.request
threading.Thread(target=lambda: (sys.stdin.read(), __import__("os")._exit(0)), daemon=True).start()
{setting}
while True:
    {asking}
    if may_call:
        urllib.request.urlopen(urllib.request.Request("{url}", b"{{}}", {{"X-By": "other"}})).read()
    time.sleep(0.05)
"""


@pytest.fixture
def other():
    """A function that starts the other program."""
    programs = []

    def start(system, name):
        shared = system.json("endpoint", "share", name)
        importing, making, asking = shared["lines"]
        source = PROGRAM.format(setting=f"{importing}\n{making}", asking=asking, url=system.api.url(name))
        programs.append(
            subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, env=system.environment())
        )
        return shared

    yield start
    for program in programs:
        program.stdin.close()
        kill(program)


def by_other(system):
    return [call for call in system.api.calls if call.headers.get("x-by") == "other"]


def test_both_keep_one_limit_together(fresh, other):
    system = fresh({"A": {"rate_limit": "30/minute"}}, run={"window_seconds": 5}).up()
    until("the server is vouched for", system.workers)
    shared = other(system, "a")
    assert (shared["name"], shared["url"], shared["limit"]) == ("a", system.api.url("a"), "30/minute")
    until("the other program calls", lambda: len(by_other(system)) >= 3)
    system.push_many(40, "A")
    record = system.run()
    for limit in ("10/minute", "30/minute"):  # none is allowed twice
        system.rlm("endpoint", "limit", "a", limit)
        assert len(system.api.calls) == 30
    assert record["counts"]["completed"] == 30 - len(by_other(system))
    assert record["counts"]["completed"] > 0


def test_a_limit_that_was_changed_by_hand_holds_for_both(fresh, other):
    system = fresh({"A": {"rate_limit": "10 per 2 second"}}, run={"window_seconds": 9}).up()
    until("the server is vouched for", system.workers)
    other(system, "a")
    system.push_many(10, "A")
    until("RLM calls", lambda: system.rlm("start", "--json", code=None).code == 0)
    until("both call", lambda: len(system.api.calls) - len(by_other(system)) > 2 < len(by_other(system)))
    system.rlm("endpoint", "limit", "a", "4 per 2 second")
    lowered = len(system.api.calls)
    until("calls at the lower limit", lambda: len(system.api.calls) > lowered + 8)
    times = [call.at for call in system.api.calls]
    assert most_in_any(2, times) <= 10
    assert most_in_any(2, times[lowered + 1 :]) <= 4
    system.rlm("endpoint", "pause", "a")
    paused = len(system.api.calls)
    until("the run is over", lambda: system.json("status")["state"] == "idle")
    assert len(system.api.calls) <= paused + 1
