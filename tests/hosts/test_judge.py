"""The judge of the trials over several hosts finds each broken promise, and no kept one."""

from __future__ import annotations

from tests.hosts.api import SeenCall
from tests.hosts.bench import Layout
from tests.hosts.figures import figures
from tests.hosts.judge import TrialEvidence, faults
from tests.values import replace

_TICK = 1_800_000_000.0
_LAYOUT = Layout(types=1, endpoints=1, amount=2)
_KEYS = ("a:T1", "b:T1", "c:T1")


def _call(key, at, *, host="10.0.0.1", status=200):
    return SeenCall("t1-1", key, host, key, 1, "run", _TICK + at, _TICK + at + 0.2, status)


def _record(**counts):
    entry = {"taken": 3, "carried_over": 0, "completed": 3, "failed": 0, "leftover": 0, **counts}
    times = {"started_at": "2027-01-15T08:00:00Z", "deadline": "2027-01-15T08:00:18Z"}
    endpoint = {"calls": 3, "completed": 3, "throttled": 0, "errors": 0}
    return {
        "run_id": "run",
        "state": "completed",
        "trigger": "schedule",
        **times,
        "finished_at": "2027-01-15T08:00:10Z",
        "counts": entry,
        "by_type": {"T1": entry},
        "by_endpoint": {"t1-1": endpoint},
        "plan": {},
        "workers": {"peak": 1},
    }


_WELL = TrialEvidence(
    _LAYOUT,
    dict.fromkeys(_KEYS, _TICK - 1),
    [_call("a:T1", 0.5), _call("b:T1", 0.6), _call("c:T1", 7.1, host="10.0.0.2")],
    [_record()],
    waiting=0,
    dead=0,
    compliance={"ok": True},
)


def test_a_trial_in_which_all_was_kept_has_no_faults():
    """And its figures are those that one counts by hand."""
    assert faults(_WELL) == []
    run = figures(_WELL)["runs"][0]
    assert run["shares"] == {"10.0.0.1": 0.667, "10.0.0.2": 0.333}
    assert (run["makespan"], run["worst_gap"], run["idle_gap"], run["closed_late"]) == (6.8, 6.5, 0.1, 0.0)


def test_each_broken_promise_is_found():
    """Evidence that differs in one point has the fault that belongs to it."""
    first, second, third = _WELL.calls
    late = {**_record(taken=0, completed=0), "started_at": "2027-01-15T08:00:25Z"}
    broken = {
        "lost": replace(_WELL, calls=[first, second]),
        "not the 3 that were pushed": replace(_WELL, records=[_record(completed=2, failed=1)]),
        "another Idempotency-Key": replace(_WELL, calls=[*_WELL.calls, _call("d:T1", 14)]),
        "twice in flight": replace(_WELL, calls=[first, replace(first, at=first.at + 0.1), third]),
        "refused 1": replace(_WELL, calls=[first, second, third, _call("a:T1", 14, status=429)]),
        "more than 2 calls in 6 s": replace(_WELL, calls=[first, second, replace(third, at=_TICK + 6.4)]),
        "compliance": replace(_WELL, compliance={"ok": False}),
        "do not balance": replace(_WELL, records=[_record(leftover=1)]),
        "started 7.0 s after a tick": replace(_WELL, records=[_record(), late]),
    }
    for words, evidence in broken.items():
        assert any(words in fault for fault in faults(evidence)), (words, faults(evidence))
