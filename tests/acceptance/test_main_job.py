"""The main job: items on the list have reached their API three minutes later, in order, with no call refused."""

from __future__ import annotations

import pytest

from rlm.core.clock import system_clock
from tests.acceptance.system import A_DAY
from tests.values import left_over
from tests.wait import wait_until

pytestmark = pytest.mark.alone


@pytest.mark.rest
def test_a_tick_sends_a_full_load_within_its_window_with_nothing_refused(make_system):
    """1,800 events, all that the limits allow in a window, are completed in one scheduled run, each sent once."""
    with make_system(ticks=True) as system:
        events = system.push_evenly(1800)
        system.start_both()
        run = wait_until(system.store.runs.current, timeout=25, message="a tick starts a run")

        record = system.await_record(run.id)

        assert record["trigger"] == "schedule"
        assert record["state"] == "completed"
        assert record["counts"]["completed"] == 1800
        assert run.started_at % system.settings.run.every_seconds == 0
        assert left_over(record["plan"]) == 0
        assert not system.repeats()
        system.assert_promises(events, [record])
        wait_until(lambda: not system.workers(), timeout=5, message="the workers have left")


@pytest.mark.long
def test_a_tick_that_came_when_no_scheduler_lived_is_served_by_the_next_one(make_system):
    """Also by one that was started after the tick; where no tick was ever noted, none was missed."""
    with make_system(env={"RLM_RUN__WINDOW_SECONDS": str(A_DAY)}) as system:
        system.start_both()
        events = system.push_evenly(10)
        wait_until(
            lambda: system.log("scheduler").count("conducts from now on") == 1, timeout=30, message="it conducts"
        )
        system.stop("scheduler")
        assert system.store.runs.history(1) == []

        system.store.schedule.note_tick(system_clock.now() - A_DAY)
        system.start("scheduler")

        run_id = wait_until(lambda: next(iter(system.store.runs.history(1)), None), timeout=20, message="a run is made")
        record = system.await_record(run_id)
        assert (record["trigger"], record["counts"]["completed"]) == ("schedule", 10)
        assert record["started_at"].endswith("T00:00:00.000Z")
        system.assert_promises(events, [record])


@pytest.mark.rest
def test_nothing_to_do_leaves_no_record_and_no_worker_and_costs_next_to_nothing(make_system):
    """Ticks without work leave only their time; scheduler and supervisor use less than 1 % of one core."""
    from tests.acceptance.system import at_rest, cpu_seconds, monotonic

    with make_system(speed=60, ticks=True) as system:
        system.start_both()
        wait_until(lambda: system.store.leases.read().ticked_at, timeout=10, message="the scheduler has ticked")
        pids = [process.pid for process in system.processes.values()]
        wait_until(lambda: at_rest(pids), timeout=30, message="nothing of the start is left to be done")
        began, used = monotonic(), sum(map(cpu_seconds, pids))
        ticked = system.store.leases.read().ticked_at

        wait_until(lambda: monotonic() - began > 10, timeout=15, message="ten seconds have passed")

        share = (sum(map(cpu_seconds, pids)) - used) / (monotonic() - began)
        assert share < 0.01, f"{share:.2%} of a core"
        assert system.store.leases.read().ticked_at > ticked
        assert system.store.runs.history(1) == []
        assert system.workers() == []
