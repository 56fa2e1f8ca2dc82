"""Why events were left over: one cause for those that waited longest for the same, with its number and sentence."""

from __future__ import annotations

from operator import attrgetter

from rlm.core.documents import Reasons
from rlm.plan.cause import ATTEMPTS, CANCELLED, DEADLINE, FAILED, Ended, causes, reasons, went_wrong
from rlm.plan.waits import ANOTHER_CONFIGURATION, NO_SUPERVISOR, Obstacle, Wait, Waits
from tests.each import each

LIMIT, WORKERS, LANES = Wait(Obstacle.LIMIT), Wait(Obstacle.WORKERS), Wait(Obstacle.LANES)


def ended(leftover, waits, **more):
    facts = {
        "spent": {},
        "cut": {},
        "window_seconds": 60.0,
        "limits": {"A": "30/minute", "account": "10/minute"},
        **more,
    }
    return Ended(leftover=leftover, waits=Waits(0.0, waits), **facts)


figures = attrgetter("cause", "types", "leftover")


@each(
    ("wait", "words"),
    [
        (LIMIT, "the limit of A (30/minute) lets no more through"),
        (Wait(Obstacle.BUDGET, "account"), "the budget account (10/minute) lets no more through"),
        (WORKERS, "no worker was ready for 40 s"),
        (
            Wait(Obstacle.WORKERS, ANOTHER_CONFIGURATION),
            "no worker was ready for 40 s, because those there had another configuration",
        ),
        (Wait(Obstacle.WORKERS, NO_SUPERVISOR), "no worker was ready for 40 s, because no supervisor was heard from"),
        (LANES, "all lanes were busy for 40 s"),
        (Wait(Obstacle.START), "no call was made in the first 40 s"),
        (Wait(Obstacle.PAUSED, "a1"), "a1 was paused"),
        (Wait(Obstacle.RESTING, "a1"), "a1 was resting or probed"),
        (Wait(Obstacle.REDIS), "Redis was away, slow or not fit for 40 s"),
        (Wait(Obstacle.CONDUCTOR), "nobody conducted for 40 s"),
        (Wait(Obstacle.RUN_BEFORE), "the run before was still open for 40 s"),
    ],
)
def test_what_was_waited_for_longest_is_the_cause(wait, words):
    """With the number it left over."""
    (found,) = causes(ended({"A": 1234}, {"A": {wait: 40.0, Wait(Obstacle.LIMIT, "short"): 1.0}}))

    assert figures(found) == (wait.obstacle, ("A",), 1234)
    assert found.sentence == f"1,234 events left over: {words}"


def test_types_that_waited_for_the_same_are_told_together_and_others_apart():
    """No type's leftovers are counted as another's cause."""
    waits = {"A": {LIMIT: 40.0}, "B": {LIMIT: 30.0}, "C": {Wait(Obstacle.BUDGET, "account"): 30.0}}

    found = causes(ended({"A": 10, "B": 20, "C": 7}, waits))

    assert [(one.cause, one.types, one.leftover) for one in found] == [
        ("limit", ("A", "B"), 30),
        ("budget", ("C",), 7),
    ]
    assert found[0].sentence == "30 events left over: the limits of A and B let no more through"


def test_a_limit_is_no_cause_where_failed_calls_used_the_slots():
    """Had they succeeded, as many events more were done. A few failures explain few of many leftovers."""
    waits = {"A": {LIMIT: 40.0}, "B": {LANES: 40.0}}

    found = causes(ended({"A": 24, "B": 3}, waits, spent={"A": 5}, failing={"A": 21, "B": 9}))

    assert [figures(one) for one in found] == [
        (ATTEMPTS, ("A",), 19),
        (ATTEMPTS, ("A",), 5),
        (Obstacle.LANES, ("B",), 3),
    ]
    assert found[0].sentence == "19 events left over: 21 calls for A failed and used the slots that they waited for"
    assert went_wrong(found)
    (found,) = causes(ended({"A": 24}, waits, failing={"A": 21}))
    assert figures(found) == (Obstacle.LIMIT, ("A",), 24)


def test_spent_attempts_are_a_cause_of_their_own():
    """Those events waited for nothing any more."""
    found = causes(ended({"A": 12}, {"A": {LIMIT: 5.0}}, spent={"A": 8}))

    assert [(one.cause, one.leftover) for one in found] == [(ATTEMPTS, 8), ("limit", 4)]


def test_what_the_deadline_cut_waited_for_nothing_any_more():
    """However long it had waited before its call; what was never called has its own cause."""
    waits = {"A": {LANES: 3.2}, "B": {LANES: 50.0}}

    (hung,) = causes(ended({"A": 8}, {"A": {LANES: 2.0}}, cut={"A": 8}))
    both = causes(ended({"A": 8, "B": 9}, waits, spent={"A": 3}, cut={"A": 8, "B": 5}))

    assert hung.cause == DEADLINE
    assert hung.sentence == "8 events left over: the deadline came while calls for A were under way"
    assert [*map(figures, both)] == [
        (DEADLINE, ("A", "B"), 10),
        ("lanes", ("B",), 4),
        (ATTEMPTS, ("A",), 3),
    ]


def test_a_run_that_was_cancelled_or_failed_says_just_that():
    """What its events waited for until then is no cause."""
    waits = {"A": {WORKERS: 40.0}}

    cancelled, failed = (
        causes(ended({"A": 1}, waits, **more)) for more in ({"cancelled": True}, {"failure": "no worker came up"})
    )

    assert [(one.cause, one.sentence) for one in cancelled] == [(CANCELLED, "1 event left over: the run was cancelled")]
    assert [(one.cause, one.sentence) for one in failed] == [(FAILED, "1 event left over: no worker came up")]


@each(
    ("leftover", "waits", "more", "reason"),
    [
        ({"A": 24}, {"A": {LIMIT: 40.0}}, {}, "slots"),
        ({"A": 24}, {"A": {LIMIT: 40.0}}, {"failing": {"A": 24}}, "retries"),
        ({"A": 8}, {"A": {LIMIT: 40.0}}, {"cut": {"A": 8}}, "lanes"),
        ({"A": 8}, {}, {"failure": "Redis was away"}, "redis"),
        ({"A": 8}, {}, {"cancelled": True}, "workers"),
        ({"A": 8}, {"A": {Wait(Obstacle.PAUSED, "a1"): 5.0}}, {"cancelled": True}, "paused"),
    ],
)
def test_each_event_is_left_over_for_one_reason(leftover, waits, more, reason):
    """The same that the sentences say, as far as the run's end leaves it open."""
    assert reasons(ended(leftover, waits, **more)) == Reasons(**{reason: sum(leftover.values())})


def test_a_limit_that_was_set_by_hand_is_named():
    """Alone and among others, by whom and from what."""
    by_hand = {"A": "a1 set from 60/minute to 30/minute by me@h at T"}

    (one,) = causes(ended({"A": 1}, {"A": {LIMIT: 9.0}}, by_hand=by_hand))
    (two,) = causes(ended({"A": 1, "B": 1}, {"A": {LIMIT: 9.0}, "B": {LIMIT: 9.0}}, by_hand=by_hand))

    assert one.sentence.endswith(f"the limit of A (30/minute; {by_hand['A']}) lets no more through")
    assert two.sentence.endswith(f"the limits of A and B let no more through ({by_hand['A']})")
