"""RLM as its user has it. These tests know what RLM promises and the command `rlm`, and nothing of its inside."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.blackbox.api import Answer
from tests.blackbox.system import System

_OPEN: list[System] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the end of the log of each open system beside a failure."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {system.directory}", system.log()) for system in _OPEN]
    return report


@contextmanager
def _systems():
    here = len(_OPEN)

    def make(types, **sections):
        _OPEN.append(System(types, **sections))
        return _OPEN[-1]

    try:
        yield make
    finally:
        while len(_OPEN) > here:
            _OPEN.pop().close()


@pytest.fixture(scope="module")
def shared():
    """A function that makes a `System`, which lives as long as the tests of a file."""
    with _systems() as make:
        yield make


@pytest.fixture
def fresh():
    """A function that makes a `System` for one test."""
    with _systems() as make:
        yield make


@pytest.fixture
def mid_run(fresh):
    """A system in the middle of a run of the schedule, with calls under way."""
    types = {
        "NEXT": {"priority": 9, "rate_limit": "100/second"},
        "A": {"rate_limit": "6 per 2 second", "endpoints": ["a", "a_2"], "processing_seconds": 0.3},
        "B": {"rate_limit": "3 per 1 second", "processing_seconds": 0.3},
    }
    run = {"window_seconds": 5, "every_seconds": 5}
    system = fresh(types, run=run, workers={"min": 1, "max": 3}, retry={"timeout_seconds": 1.5})
    for path in ("a", "a_2", "b"):
        system.api.say(path, Answer(delay=0.3))
    system.push_many(20, "A", start="a")
    system.push_many(8, "B", start="b")
    system.up()
    system.calls_under_way(8)
    return system
