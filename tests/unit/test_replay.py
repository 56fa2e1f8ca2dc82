"""Replays of finished runs, from records made by hand."""

from __future__ import annotations

import json

import pytest

from rlm.admin.replay import replay
from rlm.admin.whatif import Case, limits_told
from rlm.core.clock import isoformat
from rlm.core.endpoint import Limit, in_force
from rlm.core.expected import REFILL_SECONDS
from rlm.settings import load_settings
from tests.store.steps import record_of

START = 1_700_000_000
#: 10 calls every 60.5 s, from 0.3 s on: at 0.3, 60.8 and 121.3 s; the next would be at 181.8 s.
ONE_TYPE = """
[types.A]
processing_seconds = 1.0
rate_limit = "10/minute"
endpoints = [{ name = "a", url = "http://h/a" }]
"""
TWO_ENDPOINTS = ONE_TYPE.replace('"http://h/a" }', '"http://h/a" }, { name = "b", url = "http://h/b" }')


def called(calls, limit="10/minute", *, errors=0, seconds=1.0):
    """Return a record's entry of an endpoint."""
    milliseconds = (
        {"p50_ms": seconds * 1000, "p95_ms": seconds * 1000} if calls > errors else {"p50_ms": 0, "p95_ms": 0}
    )
    return {
        "calls": calls,
        "completed": calls - errors,
        "errors": errors,
        "throttled": 0,
        "limit": limit,
        **milliseconds,
    }


def record(taken, left=0, *, tick=0.0, carried=0, failed=0, by_endpoint=None, **more):
    """The record of the run of tick number `tick`, of one type."""
    done = taken + carried - left - failed
    counts = {"taken": taken, "carried_over": carried, "completed": done, "failed": failed, "leftover": left}
    return {
        "run_id": f"run-{tick}",
        "state": "partial" if left else "completed",
        "started_at": isoformat(START + 180 * tick),
        "window_seconds": 180.0,
        "counts": counts,
        "by_type": {"A": counts},
        "by_endpoint": by_endpoint or {"a": called(done + failed)},
        "plan": {"actual_seconds": 123.0},
        **more,
    }


def last(one):
    """A run in the last of its replays."""
    return one.what_if or one.unchanged


@pytest.fixture
def case_of(tmp_path):
    """Make a case of a configuration, with settings from options."""

    def make(*told, text=ONE_TYPE, workers=None):
        path = tmp_path / "rlm.toml"
        path.write_text(text)
        settings = load_settings(path, {}, told)
        return Case(settings, settings.event_types, {}, {}, 0.3, workers)

    return make


def left(found):
    """Return the leftovers of each run: recorded, replayed, and hypothetical."""
    return [(one.recorded.leftover, one.unchanged.leftover, last(one).leftover) for one in found.runs]


def test_a_replay_without_a_change_is_what_the_plan_says(case_of):
    """50 on 10 a minute leave 20 over, which go into the next run; with 5 more it leaves none."""
    records = [record(5, tick=1, carried=20), record(50, 20)]

    found = replay(records, 2, case_of())

    assert left(found) == [(20, 20, 20), (0, 0, 0)]
    assert [one.unchanged.events for one in found.runs] == [50, 25]
    assert found.runs[0].unchanged.finish_seconds == pytest.approx(123.01 + 2 * REFILL_SECONDS)
    assert found.sentence == "Replayed as they were, the last 2 runs would have left 20 over."
    assert (found.fewer, found.case, found.off_seconds) == (None, None, pytest.approx(0.505))


def test_the_run_before_the_first_one_left_its_windows(case_of):
    """If it is on record: else the windows are open, and all of the first run's events would fit."""
    full = {"a": called(10, "10 per 10 minute")}
    records = [record(10, 10, tick=1, by_endpoint=full), record(10, by_endpoint=full)]

    assert left(replay(records[:1], 1, case_of())) == [(10, 0, 0)]
    assert left(replay(records, 1, case_of())) == [(10, 10, 10)]
    assert left(replay(records, 1, case_of(), case_of("types.A.rate_limit=20/minute"))) == [(10, 10, 0)]


def test_what_a_run_would_not_have_left_over_the_next_would_not_have_had(case_of):
    """With twice the limit, 20 fewer in the first run and 40 fewer in the second."""
    records = [record(50, 40, tick=1, carried=20), record(50, 20)]

    found = replay(records, 2, case_of(), case_of("types.A.rate_limit=20/minute"))

    assert left(found) == [(20, 20, 0), (40, 40, 0)]
    assert [last(one).events for one in found.runs] == [50, 50]
    assert found.fewer == 60
    assert found.sentence == (
        'With types.A.rate_limit = "20/minute", the last 2 runs would have left 60 fewer over: 0 instead of 60.'
    )


def test_a_worse_question_has_a_worse_answer(case_of):
    """5 a minute leave more over in each run, and those pile up."""
    records = [record(30, tick=1), record(30)]

    found = replay(records, 2, case_of(), case_of("types.A.rate_limit=5/minute"))

    assert left(found) == [(0, 0, 15), (0, 0, 30)]
    assert "would have left 45 more over: 45 instead of 0." in found.sentence


def test_the_limit_is_that_of_the_record_unless_it_is_told(case_of):
    """It was 20 a minute then; today's is not asked for, and one that is told goes over both."""
    then = record(60, by_endpoint={"a": called(60, "20/minute")})

    found = replay([then], 1, case_of(), case_of("types.A.rate_limit=5/minute"))

    assert left(found) == [(0, 0, 45)]
    assert replay([then], 1, case_of()).sentence == "Replayed as it was, the last run would have left 0 over."


def test_durations_are_those_of_the_record(case_of):
    """Calls of 50 s cannot begin at 0:02, 1:02 and 2:11, for the last would be late; workers.max is no matter."""
    slow = record(30, 10, by_endpoint={"a": called(20, seconds=70.0)})

    found = replay([slow], 1, case_of())

    assert left(found) == [(10, 10, 10)]
    assert found.runs[0].unchanged.finish_seconds == pytest.approx(130.5 + REFILL_SECONDS)


def test_workers_are_those_of_the_settings_or_as_asked(case_of):
    """Calls of 30 s on one lane: 5 in a window; with exactly two workers twice as many."""
    one_lane = ONE_TYPE + "[workers]\nmin = 1\nmax = 1\nthreads = 1\n"
    slow = record(30, 25, by_endpoint={"a": called(5, seconds=30.0)})

    found = replay([slow], 1, case_of(text=one_lane), case_of(text=one_lane, workers=2))

    assert left(found) == [(25, 25, 20)]
    assert found.sentence.startswith("With exactly 2 workers, the last run would have left 5 fewer over")


def test_failing_calls_are_made_again(case_of):
    """Of 30 slots a third fails: 20 are done; those that became dead letters did not fail for the moment."""
    failing = record(30, 10, by_endpoint={"a": called(30, errors=10)})
    rejected = record(30, failed=10, by_endpoint={"a": called(30, errors=10)})

    assert left(replay([failing], 1, case_of())) == [(10, 10, 10)]
    assert left(replay([rejected], 1, case_of())) == [(0, 0, 0)]


def test_an_endpoint_that_answered_nothing_well_is_not_counted_on(case_of):
    """It was down in the first run only."""
    down = record(50, 20, by_endpoint={"a": called(30), "b": called(5, errors=5)})
    up = record(40, tick=1, carried=20, by_endpoint={"a": called(30), "b": called(30)})

    assert left(replay([up, down], 2, case_of(text=TWO_ENDPOINTS))) == [(20, 20, 20), (0, 0, 0)]


def test_an_endpoint_that_came_later_is_in_no_earlier_run(case_of):
    """It was added between the two runs."""
    before = record(50, 20)
    after = record(40, tick=1, carried=20, by_endpoint={"a": called(30), "b": called(30)})

    assert left(replay([after, before], 2, case_of(text=TWO_ENDPOINTS))) == [(20, 20, 20), (0, 0, 0)]


def test_an_added_endpoint_is_in_every_run(case_of):
    """With an open window in the first, and the limit of its type; its calls are like those to the last one."""
    today = case_of()
    (kind,) = today.types
    added = kind.one_more("a_extra_1")
    types = (type(kind)(kind.name, kind.priority, 1.0, (*kind.endpoints, added), limit=kind.limit),)
    other = Case(today.settings, types, {}, {}, 0.3, None, (added,))

    found = replay([record(90, 80, tick=1, carried=20), record(50, 20)], 2, today, other)

    assert left(found) == [(20, 20, 0), (80, 80, 30)]
    assert found.sentence.startswith(
        "With one more endpoint, a_extra_1 (10/minute), the last 2 runs would have left 70"
    )


def test_windows_are_as_the_run_before_left_them(case_of):
    """One started by hand 40 s after another finds the slots of that one taken, and has two groups less."""
    by_hand = record(30, 10, tick=40 / 180)
    first = record(10)

    assert left(replay([by_hand, first], 2, case_of())) == [(0, 0, 0), (10, 0, 0)]
    later = replay([by_hand, first], 2, case_of()).runs[1]
    assert later.unchanged.finish_seconds == pytest.approx(123.01 + 2 * REFILL_SECONDS)


def test_a_run_does_not_begin_before_the_one_before_has_ended(case_of):
    """What takes 123 s as it might be took a second then, and the next began after two: it finds a full window."""
    quick = record(30, by_endpoint={"a": called(30, "30/minute")})
    next_one = record(30, tick=2 / 180)

    found = replay([next_one, quick], 2, case_of(), case_of("types.A.rate_limit=10/minute"))

    assert left(found) == [(0, 0, 0), (0, 10, 10)]
    assert last(found.runs[1]).finish_seconds == pytest.approx(60.5 + REFILL_SECONDS + 2.01)


def test_a_run_that_was_cut_short_is_taken_as_it_was(case_of):
    """It completed 10 before it was cancelled, and so it does in both replays."""
    records = [
        record(0, tick=2, carried=60),
        record(50, 60, tick=1, carried=20, state="cancelled"),
        record(50, 20),
    ]

    found = replay(records, 3, case_of(), case_of("types.A.rate_limit=20/minute"))

    assert [one.as_recorded for one in found.runs] == [False, True, False]
    assert left(found)[1] == (60, 60, 40)
    assert "1 run ended before their time: what they completed is taken from the record." in found.notes


def test_what_was_dropped_by_hand_is_dropped_in_the_replay_too(case_of):
    """20 were left over, and the next run had 5 of them."""
    found = replay(
        [record(10, tick=1, carried=5), record(50, 20)], 2, case_of(), case_of("types.A.rate_limit=15/minute")
    )

    assert [one.unchanged.events for one in found.runs] == [50, 15]
    assert [last(one).events for one in found.runs] == [50, 0]


def test_the_notes_say_what_a_replay_does_not_know(case_of):
    """How well it agrees, what else happened, and what is not there any more."""
    why = [{"cause": "paused"}, {"cause": "limit"}]
    both = {"a": called(20), "old": called(3)}

    notes = replay([record(23, 3, why=why, by_endpoint=both)], 100, case_of()).notes

    agrees, *others = notes
    assert agrees.startswith("Without any change the replay leaves 0 over where the records have 3, and misses the end")
    assert others == [
        "100 runs were asked for; 1 on record can be read.",
        "Events were also left over for causes that no replay knows: paused (1 run).",
        "old is no longer configured, and not in the replay.",
    ]


def test_without_records_there_is_nothing_to_replay(case_of):
    """And that is said."""
    found = replay([], 100, case_of(), case_of("types.A.rate_limit=20/minute"))

    assert found.sentence == "No run is on record yet, so there is nothing to replay."
    assert (found.notes, found.runs) == ([], ())


def test_what_is_hardly_a_record_is_left_out(case_of):
    """Somebody else's, or one that was made by hand; that not all are there is said."""
    notes = replay([record(5), record_of(run_id="x")], 2, case_of()).notes

    assert notes[1] == "2 runs were asked for; 1 on record can be read."


def test_a_setting_of_the_run_is_replayed(case_of):
    """The window is that of the record unless it is told; the number of attempts is, too."""
    found = replay([record(50, 20)], 1, case_of(), case_of("run.window_seconds=240", "run.every_seconds=240"))

    assert left(found) == [(20, 20, 10)]


def test_types_without_a_configuration_are_left_out(case_of):
    """Their events are dead letters today."""
    former = record(50, 20)
    former["by_type"] = {**former["by_type"], "GONE": {**former["counts"], "leftover": 7}}

    assert left(replay([former], 1, case_of())) == [(20, 20, 20)]


def test_the_document_can_be_encoded(case_of):
    """It has the numbers of the sentence."""
    found = replay([record(50, 20)], 1, case_of(), case_of("types.A.rate_limit=20/minute")).as_json()

    told = json.loads(json.dumps(found))
    assert told["replay"]["left_over"] == {"recorded": 20, "unchanged": 20, "what_if": 0}
    assert told["replay"]["fewer"] == 20
    assert told["what_if"]["settings"] == {"types.A.rate_limit": "20/minute"}


def test_the_limits_that_are_told_are_known_by_name(case_of):
    """Those of the endpoints that have their limit from the type."""
    assert limits_told(case_of("types.A.rate_limit=20/minute", text=TWO_ENDPOINTS).settings) == {"a", "b"}
    assert in_force(case_of().types[0].endpoints[0], {"a": "5/minute"}).limit == Limit.parse("5/minute")
