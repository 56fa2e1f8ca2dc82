"""A run's states, its id, and the record that must balance whatever happened."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from rlm.core.call import CallEnd, CallEntry
from rlm.core.run import Run, State, Trigger
from rlm.delivery.run_end import make_record
from rlm.ledger.calls import added_to_totals
from tests.each import each
from tests.values import ending_of

SETTINGS = SimpleNamespace(event_types=[SimpleNamespace(name=name) for name in ("A", "B")])
STARTED = 1_700_000_000.25


def make_run(**fields):
    common = {
        "id": "r1",
        "state": State.FINISHING,
        "trigger": Trigger.SCHEDULE,
        "started_at": STARTED,
        "deadline": STARTED + 180,
        "deadline_us": 0,
        "window_seconds": 180.0,
        "revision": "x",
    }
    return Run(**{**common, **fields})


def record_of(tally, **fields):
    return make_record(SETTINGS, make_run(**fields), ending_of(tally))


def balances(counts):
    return counts.taken + counts.carried_over == counts.completed + counts.failed + counts.leftover


@each(
    ("tally", "fields", "state"),
    [
        ({}, {}, State.COMPLETED),
        ({"taken:A": 2, "completed:A": 2}, {}, State.COMPLETED),
        ({"taken:A": 2, "completed:A": 1, "failed:A": 1}, {}, State.COMPLETED),
        ({"taken:A": 2, "completed:A": 1}, {}, State.PARTIAL),
        ({"carried:B": 1}, {}, State.PARTIAL),
        ({"taken:GONE": 1}, {}, State.PARTIAL),
        ({"taken:A": 2, "completed:A": 2}, {"cancelled": True}, State.CANCELLED),
        ({"taken:A": 2}, {"cancelled": True}, State.CANCELLED),
        ({}, {"failure": "no worker came up"}, State.FAILED),
        ({"taken:A": 2}, {"failure": "no worker came up", "cancelled": True}, State.FAILED),
    ],
)
def test_the_final_state_follows_from_the_counts_unless_somebody_ended_the_run(tally, fields, state):
    record = record_of(tally, **fields)

    assert record.state == state
    assert balances(record.counts)


WHAT = ("taken", "carried", "completed", "failed")


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(WHAT), st.sampled_from(["A", "B", "C", "x.y-z"])).map(":".join), st.integers(0, 50)
    ),
    st.booleans(),
    st.sampled_from(["", "it broke"]),
)
def test_the_books_balance_by_type_and_in_all(tally, cancelled, failure):
    """What came in is completed, failed or leftover, in every state, and the totals are the sums.

    If more was settled than came in, because the tally was deleted in mid-run, as much had come in.
    """
    record = record_of(tally, cancelled=cancelled, failure=failure)

    assert balances(record.counts)
    for counts in record.by_type.values():
        assert balances(counts)
    for key in ("taken", "carried_over", "completed", "failed", "leftover"):
        assert getattr(record.counts, key) == sum(getattr(counts, key) for counts in record.by_type.values())
    for what, key in zip(WHAT[1:], ("carried_over", "completed", "failed"), strict=True):
        assert getattr(record.counts, key) == sum(n for name, n in tally.items() if name.startswith(f"{what}:"))
    for name, counts in record.by_type.items():
        assert counts.leftover >= 0
        assert counts.taken == tally.get(f"taken:{name}", 0) or not counts.leftover


def test_a_closed_run_adds_how_many_calls_took_at_most_so_long():
    """A time below zero, because the clock was set back, counts as zero."""
    calls = [CallEntry("r1", "A", "api", "w", 0, CallEnd.COMPLETED, *times, "e", 1) for times in ((50, -1), (70, 4000))]

    added = added_to_totals(record_of({"taken:A": 3, "completed:A": 2}), calls)

    assert [added[f"call<={bound}:api"] for bound in ("0.05", "0.1", "inf")] == [1, 2, 2]
    assert [added[f"answer<={bound}:A"] for bound in ("0.05", "3", "5")] == [1, 1, 2]
    assert (added["call_us:api"], added["answer_us:A"]) == (120_000, 4_000_000)
    assert (added["leftover:A"], added["runs:partial"], added["run<=inf:"]) == (1, 1, 1)
