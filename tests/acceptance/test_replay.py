"""`rlm plan --replay` on the records of real runs, with which an unchanged replay must agree."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.system import make_item

pytestmark = pytest.mark.rest


def replayed(system, *options):
    """Replay all runs."""
    return json.loads(system.rlm("plan", "--replay", "10", *options, "--json").stdout)["replay"]


@pytest.mark.long
def test_a_replay_agrees_with_the_runs_that_were(make_system):
    """More than the limit admits, then a few: what is left over, and when all was done, is as in the records."""
    with make_system(speed=20.0) as system:
        system.start_both()
        name = system.types[0]
        for number, prefix in ((480, "many"), (60, "few")):
            system.push(make_item(f"{prefix}{one}", name) for one in range(number))
            system.await_record(system.ask_for_run())

        as_it_was = replayed(system)
        with_more = replayed(system, "--add-endpoint", name)

    first, second = as_it_was["each"]
    assert first["recorded"]["leftover"] > 50
    assert first["unchanged"]["leftover"] == pytest.approx(first["recorded"]["leftover"], abs=48)  # a tenth
    assert as_it_was["off_seconds"] < 1.5
    assert second["recorded"]["leftover"] == second["unchanged"]["leftover"] == 0
    assert with_more["fewer"] > 40
    assert with_more["each"][0]["unchanged"] == first["unchanged"]
    assert with_more["each"][1]["what_if"]["events"] < second["recorded"]["events"]
