"""No item, one, and more than a run can do: taken in constant memory, done as far as they fit, the rest left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.system import make_item
from tests.values import left_over
from tests.wait import wait_until

pytestmark = pytest.mark.long

#: The scheduler may have so much more at its peak for a long audit list than for a single item, megabytes.
GROWS_BY = 15.0


@pytest.mark.alone  # it says how much is done in a time
@pytest.mark.parametrize("number", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_run_takes_any_number_of_events(make_system, number):
    """The drain's memory does not follow the audit list; what is over a run's capacity is the next one's, at once."""
    window = 8.0 + (number - 20_000) / 2500  # two periods of the limits, and time for 20 workers to come up
    with make_system(env={"RLM_RUN__WINDOW_SECONDS": str(window)}) as system:
        system.start_both()
        scheduler = system.processes["scheduler"].pid

        nothing = system.await_record(system.ask_for_run())
        one = system.push([make_item("single", system.types[0])])
        single = system.await_record(system.ask_for_run())
        before = peak_megabytes(scheduler)
        events = system.push_evenly(number)
        record = system.await_record(system.ask_for_run(), timeout=window + 10)
        after = peak_megabytes(scheduler)

        assert (nothing["state"], nothing["counts"]["taken"]) == ("completed", 0)
        assert (single["counts"]["taken"], single["counts"]["completed"]) == (1, 1)
        counts = record["counts"]
        assert counts["taken"] == number
        assert 0 < counts["completed"] < number
        assert counts["completed"] >= 0.8 * capacity(system, record), (counts, record["plan"])
        assert counts["leftover"] == number - counts["completed"] == len(system.pending())
        assert after - before < GROWS_BY, f"from {before:.1f} to {after:.1f} MB for {number} items"
        print(f"{number} items: the scheduler's peak went from {before:.1f} to {after:.1f} MB")
        system.assert_promises([*one, *events], [nothing, single, record])
        assert_the_rest_is_the_next_ones(system, counts["leftover"])


def capacity(system, record):
    """Return what the plan counted on: all events minus the predicted leftovers."""
    return record["counts"]["taken"] + record["counts"]["carried_over"] - left_over(record["plan"])


def assert_the_rest_is_the_next_ones(system, leftover):
    """Check that the next run starts at once with everything that was left; then end it."""
    run_id = system.ask_for_run()
    wait_until(lambda: system.store.runs.current().state == "running", message="the next run is running")
    system.store.runs.cancel(run_id)
    assert system.await_record(run_id)["counts"]["carried_over"] == leftover


def peak_megabytes(pid):
    """Return the maximum resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
