"""A full window at speed: all that fits is done, no limit is exceeded, and order decides who waits."""

from __future__ import annotations

import pytest

from tests.blackbox.api import Answer, most_in_any
from tests.blackbox.system import moment, until

pytestmark = pytest.mark.rest


def scheduled(system, count=1):
    """Return the records of the first runs of the schedule."""
    return until("scheduled runs are done", lambda: (found := system.records())[count - 1 :] and found, 60)


def test_all_that_fits_into_a_window_is_done_within_the_limits(fresh):
    limit = "4 per 2 second"
    types = {
        "HIGH": {"priority": 9, "rate_limit": limit, "endpoints": ["high", "high_2"]},
        "MIDDLE": {"priority": 5, "rate_limit": "3 per 0.6 second; 10 per 5 second"},
        "LOW": {"priority": 1, "rate_limit": limit},
        "ORDER": {"priority": 5, "rate_limit": limit},
    }
    system = fresh(types, run={"window_seconds": 9, "every_seconds": 9}, workers={"max": 4})
    for path in system.limits():
        system.api.say(path, Answer(delay=0.1))
    system.push_many(32, "HIGH", start="h")  # four fillings of 2.25 s for both endpoints
    system.push_many(20, "MIDDLE", start="m")  # two fillings of 5.25 s
    system.push_many(16, "LOW", start="l")  # four fillings
    early = system.push_many(12, "ORDER", start="early")  # with the type's own priority
    late = system.push_many(12, "ORDER", start="late", priority=5, timestamp="2001-01-01T00:00:00Z")
    urgent = system.push_many(8, "ORDER", start="urgent", priority=6)
    system.up()
    [record] = scheduled(system)
    assert record["trigger"] == "schedule"
    assert moment(record["started_at"]) % 9 < 0.1
    for kind, count in (("HIGH", 32), ("MIDDLE", 20), ("LOW", 16)):
        assert record["by_type"][kind]["completed"] == count
    # Of 32 at least 16 fit: the urgent ones, then the early ones in the order of arrival, and none of the late ones.
    done = record["by_type"]["ORDER"]["completed"]
    assert 16 <= done <= 20
    order = [call.event_id for call in system.api.of("order")][:done]
    assert set(order[:8]) == set(urgent)
    assert set(order[8:]) == set(early[: done - 8])
    assert not set(order) & set(late)
    assert record["state"] == "partial"
    assert len({call.event_id for call in system.api.calls}) == len(system.api.calls)  # none twice
    assert moment(record["finished_at"]) <= moment(record["deadline"]) + 1
    peaks = {name: counts["peak_in_window"] for name, counts in record["by_endpoint"].items()}
    assert all(peaks[name] <= 4 for name in ("high", "high_2", "low", "order"))
    until("the leftovers are done", lambda: system.unsettled() == 0, 30)
    second = system.records()[1]
    assert second["by_type"]["ORDER"]["carried_over"] == 32 - done
    assert moment(second["started_at"]) - moment(record["started_at"]) == pytest.approx(9, abs=0.1)
    system.assert_promises(by_hand=True)


def test_a_call_that_would_not_be_answered_in_time_is_not_begun(fresh):
    types = {"A": {"rate_limit": "1 per 1 second", "processing_seconds": 1.5}}
    system = fresh(types, run={"window_seconds": 4}, workers={"min": 1}).up()
    system.api.say("a", Answer(delay=1.5))
    system.push_many(9, "A")
    record = system.run()
    assert record["counts"]["completed"] == len(system.api.calls) == 2  # the third would begin after 2.5 s


def test_lanes_go_by_the_priority_of_the_type(fresh):
    types = {"LOW": {"priority": 1, "rate_limit": "100/second"}, "HIGH": {"priority": 9, "rate_limit": "100/second"}}
    types = {name: table | {"processing_seconds": 0.2} for name, table in types.items()}
    system = fresh(types, run={"window_seconds": 5}, workers={"min": 1, "max": 1, "threads": 1})
    for path in system.limits():
        system.api.say(path, Answer(delay=0.2))
    system.push_many(40, "LOW", start="l")
    high = system.push_many(12, "HIGH", start="h")
    record = system.up().run()
    assert record["by_type"]["HIGH"]["completed"] == 12
    assert 5 <= record["by_type"]["LOW"]["completed"] < 40
    assert {call.event_id for call in system.api.calls[:12]} == set(high)


def test_a_share_is_kept_for_a_type_of_low_priority(fresh):
    types = {
        "LOW": {"priority": 1, "rate_limit": "100/second", "processing_seconds": 0.1, "share": 0.25},
        "HIGH": {"priority": 9, "rate_limit": "100/second", "processing_seconds": 0.1},
    }
    system = fresh(types, run={"window_seconds": 4}, workers={"min": 1, "max": 1, "threads": 2})
    for path in system.limits():
        system.api.say(path, Answer(delay=0.1))
    system.push_many(100, "LOW", start="l")
    system.push_many(100, "HIGH", start="h")
    record = system.up().run()
    low, high = (record["by_type"][name]["completed"] for name in ("LOW", "HIGH"))
    assert 0.15 <= low / (low + high) <= 0.35


def test_a_budget_holds_over_its_endpoints_and_leaves_none_unused(fresh):
    def ends(*names):
        return [{"name": name, "budget": "account"} for name in names]

    types = {
        "A": {"rate_limit": "4 per 1 second", "endpoints": ends("a", "a_2")},
        "B": {"rate_limit": "100/second", "endpoints": ends("b")},
        "FREE": {"rate_limit": "100/second"},
    }
    system = fresh(types, run={"window_seconds": 8}, **{"budgets.account": {"rate_limit": "5 per 1 second; 18/minute"}})
    system.push_many(20, "A", "B", start="x")
    system.push_many(10, "FREE", start="f")
    record = system.up().run()
    times = [call.at for path in ("a", "a_2", "b") for call in system.api.of(path)]
    assert most_in_any(1, times) <= 5
    assert len(times) == 18  # all that the second rule allows
    assert record["by_type"]["FREE"]["completed"] == 10
    assert record["counts"]["leftover"] == 22
    system.assert_limits()


def test_a_window_outlives_every_process_and_every_run(fresh):
    system = fresh(
        {"A": {"rate_limit": "5 per 3 second"}}, run={"window_seconds": 2}, retry={"timeout_seconds": 1}
    ).up()
    system.push_many(10, "A")
    assert system.run()["counts"]["completed"] == 5
    system.stop()
    system.server.kill()
    system.server.start()
    system.up()
    until("all is done", lambda: system.run(code=None)["counts"]["leftover"] == 0, 40)
    assert len(system.api.calls) == 10
    system.assert_promises(by_hand=True)


def test_a_plan_says_what_happens(fresh):
    types = {
        "A": {"rate_limit": "5 per 1 second", "endpoints": ["a", "a_2"], "processing_seconds": 0.2},
        "B": {"rate_limit": "2 per 2 second", "processing_seconds": 0.2},
    }
    system = fresh(types, run={"window_seconds": 8}).up()
    for path in system.limits():
        system.api.say(path, Answer(delay=0.2))
    system.push_many(50, "A", start="a")
    system.push_many(20, "B", start="b")
    plan = system.json("plan")
    assert len(system.api.calls) == 0
    record = system.run()
    for forecast in (plan, record["plan"]):
        assert abs(forecast["expected_leftover"] - record["counts"]["leftover"]) <= 2
        last = max(call.answered_at for call in system.api.calls) - system.api.calls[0].at
        assert forecast["forecast_seconds"] == pytest.approx(last, abs=0.6)
        assert forecast["lower_bound_seconds"] <= forecast["forecast_seconds"]
    assert not plan["fits"]
    assert sum(release["events"] for release in plan["releases"]) == 70 - plan["expected_leftover"]
