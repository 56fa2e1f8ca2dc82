"""Fixtures: a whole system with a check that nothing of it remains, and an installation for its commands only."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.acceptance.cli import Installation
from tests.acceptance.system import System
from tests.leftbehind import nothing_left_behind


@pytest.fixture
def make_system(tmp_path):
    """Make systems in this test's own directory; check afterwards that no process, socket or lock of them is left."""

    @contextmanager
    def make(**options):
        with nothing_left_behind(tmp_path), System(tmp_path, **options) as system:
            try:
                yield system
            finally:  # shown where the test fails
                for log in sorted(tmp_path.glob("*.log")):
                    print(f"--- {log.name}\n{log.read_text(errors='replace')}")

    return make


@pytest.fixture
def system(make_system):
    """A system at ten times the speed, with scheduler and supervisor running."""
    with make_system() as made:
        made.start_both()
        yield made


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    """An installation of this test's own, whose commands run in this process."""
    with Installation(tmp_path, valkey_only_url) as made:
        yield made
