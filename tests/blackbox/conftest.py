"""RLM as its user has it. These tests know CONTRACT.md's promises and the command `rlm`, and nothing of its inside."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

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
