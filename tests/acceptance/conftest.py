"""A whole system for a test, and the proof that it left nothing behind."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.acceptance.system import System, processes_marked
from tests.wait import wait_until


@pytest.fixture
def make_system(tmp_path):
    """Make systems in this test's own directory; afterwards no process of theirs is left."""

    @contextmanager
    def make(**options):
        with System(tmp_path, **options) as system:
            yield system
        wait_until(lambda: not processes_marked(tmp_path), message="no process is left behind")
        assert not (tmp_path / ".rlm" / "valkey.sock").exists()

    return make


@pytest.fixture
def system(make_system):
    """A system at ten times the speed, its scheduler and supervisor running."""
    with make_system() as made:
        made.start_both()
        yield made
