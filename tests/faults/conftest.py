"""The fault tests use whole systems, like the acceptance tests."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import make_system, system
from tests.wait import wait_until

__all__ = ["make_system", "system", "unhurried"]


@pytest.fixture
def unhurried(make_system):
    """A system whose window no run here fills, however long processes take to start on a busy machine.

    For so long a window a run would plan only one worker, so there is a minimum number of workers.
    """
    with make_system(env={"RLM_RUN__WINDOW_SECONDS": "60", "RLM_WORKERS__MIN": "4"}) as made:
        made.start_both()
        wait_until(lambda: len(made.workers()) == 4, timeout=40, message="the workers are ready")
        yield made
