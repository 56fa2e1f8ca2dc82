"""The fault tests use whole systems, like the acceptance tests."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import make_system, system
from tests.wait import wait_until

__all__ = ["make_system", "system", "unhurried"]


@pytest.fixture
def unhurried(make_system, request):
    """A system whose window and time-outs no run here needs, however long a busy machine takes to start processes.

    For so long a window a run would plan only one worker, so there is a minimum number of workers. A parameter is more
    environment.
    """
    env = {"RLM_RUN__WINDOW_SECONDS": "60", "RLM_WORKERS__MIN": "4", "RLM_RETRY__TIMEOUT_SECONDS": "20"}
    with make_system(env=env | getattr(request, "param", {})) as made:
        made.start_both()
        wait_until(lambda: len(made.workers()) == 4, timeout=40, message="the workers are ready")
        yield made
