"""How many connections to Redis the processes keep: docs/deployment.md tells whoever sets `maxclients`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.system import System
from tests.values import as_json

pytestmark = pytest.mark.rest

DEPLOYMENT = Path(__file__).parents[2] / "docs/deployment.md"
WORKERS, LANES = 2, 5


def test_the_connections_are_as_many_as_the_page_says(tmp_path):
    """At rest, and during a run that needs every lane."""
    worded = r"and (\d+) more, so \d+, .*?; (\d+) for a scheduler, (\d+) for a supervisor"
    told = re.search(worded, DEPLOYMENT.read_text())
    besides, scheduler, supervisor = map(int, told.groups())
    with System(tmp_path, env={"RLM_WORKERS__MAX": str(WORKERS)}) as system:

        def clients():
            return system.store.client.info("clients")["connected_clients"] - 1  # this one

        system.start_both()
        assert clients() <= scheduler + supervisor
        system.push_evenly(500)
        run_id = system.ask_for_run()
        most = 0
        while not (record := as_json(system.store.runs.record(run_id))):
            most = max(most, clients())

    assert record["workers"]["peak"] == WORKERS
    assert WORKERS * LANES < most <= WORKERS * (LANES + besides) + scheduler + supervisor
