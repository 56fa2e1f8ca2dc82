"""Two files with different URLs on one prefix: what is pushed goes to those in force, whatever is restarted."""

from __future__ import annotations

import json
import time

import pytest

from tests.acceptance.system import System
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: Seconds for which the scheduler of the file in force is away.
AWAY_SECONDS = 6.0


@pytest.fixture
def two(tmp_path):
    """The system of the file in force, and another one with a file and an API of its own on the same Redis."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    with System(tmp_path / "ours") as ours, System(tmp_path / "theirs", redis_url=ours.store.url) as theirs:
        yield ours, theirs


def test_the_other_file_does_not_lead_while_the_one_in_force_is_restarted(two):
    """It stands by, `rlm start --wait` with it refuses, both are named, and nothing goes to its URLs."""
    ours, theirs = two
    ours.start_both()
    theirs.start("scheduler")
    theirs.start("supervisor")
    wait_until(lambda: "stands by" in theirs.log("scheduler"), timeout=20, message="the other one stands by")

    events = ours.push_evenly(10)
    ours.stop("scheduler")
    away_at = time.monotonic()
    refused = theirs.rlm("start", "--wait", check=False)
    conditions = json.loads(theirs.rlm("doctor", "--json", check=False).stdout)["conditions"]
    while time.monotonic() < away_at + AWAY_SECONDS:
        assert ours.store.leases.read().holder is None
        time.sleep(0.1)
    ours.start("scheduler")
    wait_until(lambda: ours.store.leases.read().holder, timeout=20, message="the one in force leads again")
    record = ours.await_record(ours.ask_for_run())

    assert refused.returncode == 1
    assert "differ from those" in refused.stderr
    (named,) = [one for one in conditions if one["code"] == "other_configuration"]
    assert "no_scheduler" in {one["code"] for one in conditions}
    assert {str(ours.config), str(theirs.config)} <= set(named["sentence"].split())
    assert "differ from those" in theirs.log("scheduler")
    assert record["counts"]["completed"] == len(events)
    assert theirs.api.arrivals == []
    assert "conducts from now on" not in theirs.log("scheduler")
